"""Faster R-CNN (Ren et al., 2015) and Mask R-CNN (He et al., 2017) on ResNet-50 with an FPN.

Everything has a static size. Each level of the pyramid gives a fixed number of proposals, the best
by score; each is pooled from the level that the size of its anchor stands for. Nothing is
suppressed: what a suppression keeps has no static number, and hangs on rounding where boxes tie.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.classic import resnet50_stages
from benchmarks.zoo.roi_align import roi_align

SIDE = 320
"""Pixels of the picture: with it and 300 proposals Faster R-CNN has the paper's 47 GFLOPs."""

CLASSES = 91
CHANNELS = 256
STRIDES = (4, 8, 16, 32, 64)
ANCHOR_SIDES = (32.0, 64.0, 128.0, 256.0, 512.0)
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
PROPOSALS = (100, 100, 50, 30, 20)
"""Kept per level of the region proposal network."""

POOLED_FROM = (0, 0, 1, 2, 3)
"""Level that the proposals of each level are pooled from: 4 + log2(side / 224) of the paper's
pyramid, for anchors of those sides."""

MASKED = (40, 25, 20, 15)
"""Boxes per pooled level that get a mask."""

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
OFFSET_GAIN = 0.05
"""Of the layers that move and scale boxes: as after training, they move by a part of their size.
With more, boxes grow as exponentials of large numbers and magnify every rounding error."""

LARGEST = math.log(1000 / 16)
"""A box grows at most by this factor's exponential."""


def faster_rcnn() -> nn.Module:
    """41 million parameters."""
    return RCNN(masks=False)


def mask_rcnn() -> nn.Module:
    """44 million parameters."""
    return RCNN(masks=True)


class RCNN(nn.Module):
    """Boxes per proposal and class, their scores, and masks of the best."""

    def __init__(self, masks: bool) -> None:
        super().__init__()
        self.pyramid = _Pyramid()
        self.propose = _Proposals()
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(CHANNELS * 49, 1024),
            nn.ReLU(),
            nn.Linear(1024, 1024),
            nn.ReLU(),
        )
        self.classes = nn.Linear(1024, CLASSES)
        self.boxes = nn.Linear(1024, 4 * CLASSES)
        self.boxes.gain = OFFSET_GAIN
        self.masks = _masks() if masks else None

    @property
    def normalised(self) -> nn.Module:
        """The only part with batch normalisation; it takes several pictures at once."""
        return self.pyramid

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """[1, 3, 320, 320] -> boxes [300, 91, 4], scores [300, 91], masks [100, 28, 28]"""
        levels = self.pyramid(x)
        proposals = self.propose(levels)
        grouped = [
            torch.cat([p for p, source in zip(proposals, POOLED_FROM) if source == level])
            for level in range(4)
        ]
        pooled = [_pool(levels[i], boxes, i, 7) for i, boxes in enumerate(grouped)]
        features = self.head(torch.cat(pooled))
        scores = self.classes(features).softmax(-1)
        moved = self.boxes(features).reshape(-1, CLASSES, 4)
        boxes = _decode(torch.cat(grouped)[:, None], moved / moved.new_tensor(BOX_WEIGHTS))
        if self.masks is None:
            return boxes, scores
        counts = [len(boxes) for boxes in grouped]
        return boxes, scores, self._masked(levels, boxes.split(counts), scores.split(counts))

    def _masked(
        self, levels: list[Tensor], boxes: tuple[Tensor, ...], scores: tuple[Tensor, ...]
    ) -> Tensor:
        assert self.masks is not None
        pooled, labels = [], []
        for i, (some, their) in enumerate(zip(boxes, scores)):
            best, label = their[:, 1:].max(-1)
            rows = best.topk(MASKED[i]).indices
            label = label.index_select(0, rows) + 1
            one = label[:, None, None].expand(-1, 1, 4)
            chosen = some.index_select(0, rows).gather(1, one)[:, 0]
            pooled.append(_pool(levels[i], chosen, i, 14))
            labels.append(label)
        all_masks = self.masks(torch.cat(pooled))
        index = torch.cat(labels)[:, None, None, None].expand(-1, 1, *all_masks.shape[-2:])
        return all_masks.gather(1, index)[:, 0].sigmoid()


class _Pyramid(nn.Module):
    """Feature pyramid: five maps of 256 channels, of strides 4 to 64."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, *stages = resnet50_stages()
        self.stages = nn.ModuleList(stages)
        self.lateral = nn.ModuleList(nn.Conv2d(c, CHANNELS, 1) for c in (256, 512, 1024, 2048))
        self.smooth = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1) for _ in range(4))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        sides: list[Tensor] = []
        for stage, lateral in zip(self.stages, self.lateral):
            x = stage(x)
            sides.append(lateral(x))
        merged = [sides[-1]]
        for side in sides[-2::-1]:
            merged.insert(0, side + functional.interpolate(merged[0], scale_factor=2.0))
        found = [smooth(part) for smooth, part in zip(self.smooth, merged)]
        return [*found, functional.max_pool2d(found[-1], 1, 2)]


class _Proposals(nn.Module):
    """Region proposal network: the best boxes of each level."""

    def __init__(self) -> None:
        super().__init__()
        anchors = len(ANCHOR_RATIOS)
        self.shared = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1), nn.ReLU())
        self.scores = nn.Conv2d(CHANNELS, anchors, 1)
        self.offsets = nn.Conv2d(CHANNELS, 4 * anchors, 1)
        self.offsets.gain = OFFSET_GAIN
        for level, (stride, side) in enumerate(zip(STRIDES, ANCHOR_SIDES)):
            self.register_buffer(f"anchors{level}", _anchors(stride, side))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        found = []
        for index, (x, count) in enumerate(zip(levels, PROPOSALS)):
            x = self.shared(x)
            rows = self.scores(x).permute(0, 2, 3, 1).flatten().topk(count).indices
            offsets = self.offsets(x).permute(0, 2, 3, 1).reshape(-1, 4).index_select(0, rows)
            anchors = getattr(self, f"anchors{index}").index_select(0, rows)
            found.append(_decode(anchors, offsets))
        return found


def _anchors(stride: int, side: float) -> Tensor:
    """[positions * 3, 4] corners in pixels."""
    count = -(-SIDE // stride)
    rows = [
        (x * stride - w / 2, y * stride - h / 2, x * stride + w / 2, y * stride + h / 2)
        for y in range(count)
        for x in range(count)
        for ratio in ANCHOR_RATIOS
        for w, h in [(side / math.sqrt(ratio), side * math.sqrt(ratio))]
    ]
    return torch.tensor(rows)


def _decode(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Boxes moved and scaled by offsets (all [..., 4]), cut to the picture."""
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + size / 2 + offsets[..., :2] * size
    half = offsets[..., 2:].clamp(max=LARGEST).exp() * size / 2
    return torch.cat([centre - half, centre + half], -1).clamp(0.0, float(SIDE))


def _pool(features: Tensor, boxes: Tensor, level: int, size: int) -> Tensor:
    batch = torch.zeros(boxes.shape[0], dtype=torch.int64)
    return roi_align(features, boxes, batch, size, 1.0 / STRIDES[level])


def _masks() -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1), nn.ReLU()]
    layers += [nn.ConvTranspose2d(CHANNELS, CHANNELS, 2, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(CHANNELS, CLASSES, 1))
