"""MobileNetV1-SSD for pictures of 300 (Howard et al., 2017; Liu et al., 2016), VOC's classes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.zoo.layers import ConvNorm, relu

CLASSES = 21
ANCHORS = 6
"""Per position: two squares, and four rectangles of the ratios 2, 3, 1/2 and 1/3."""

SEPARABLE = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""MobileNetV1's depthwise-separable convolutions: channels, stride."""

EXTRA = ((256, 512), (128, 256), (128, 256), (128, 256))
"""The layers on top: reduced channels, channels; each halves the picture."""

SIDES = (19, 10, 5, 3, 2, 1)
"""Positions per side of the six feature maps."""

SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.1)
"""Side of a map's square anchor over the picture's; the last one only closes the row."""

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


def mobilenet_v1_ssd() -> nn.Module:
    """9.5 million parameters."""
    return MobileNetSSD()


class MobileNetSSD(nn.Module):
    """Class scores and boxes of every anchor."""

    def __init__(self) -> None:
        super().__init__()
        base: list[nn.Module] = [ConvNorm(3, 32, 3, 2)]
        inner = 32
        for outer, stride in SEPARABLE:
            base += [ConvNorm(inner, inner, 3, stride, groups=inner), ConvNorm(inner, outer, 1)]
            inner = outer
        # the first map is taken where the picture has been divided by 16: before the last stride
        cut = len(base) - 4
        levels: list[nn.Module] = [nn.Sequential(*base[:cut]), nn.Sequential(*base[cut:])]
        channels = [512, 1024]
        for narrow, outer in EXTRA:
            reduce = nn.Sequential(nn.Conv2d(channels[-1], narrow, 1), relu())
            grow = nn.Sequential(nn.Conv2d(narrow, outer, 3, 2, 1), relu())
            levels.append(nn.Sequential(reduce, grow))
            channels.append(outer)
        self.levels = nn.ModuleList(levels)
        self.classes = nn.ModuleList(nn.Conv2d(c, ANCHORS * CLASSES, 3, 1, 1) for c in channels)
        self.offsets = nn.ModuleList(nn.Conv2d(c, ANCHORS * 4, 3, 1, 1) for c in channels)
        self.register_buffer("anchors", torch.tensor(list(_anchors())))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, 300, 300] -> scores [N, anchors, 21], boxes [N, anchors, 4] as corners."""
        scores, offsets = [], []
        for level, classes, boxes in zip(self.levels, self.classes, self.offsets):
            x = level(x)
            scores.append(classes(x).permute(0, 2, 3, 1).flatten(1))
            offsets.append(boxes(x).permute(0, 2, 3, 1).flatten(1))
        raw = torch.cat(scores, 1).reshape(x.shape[0], -1, CLASSES)
        moved = torch.cat(offsets, 1).reshape(x.shape[0], -1, 4)
        return raw.softmax(-1), _corners(moved, self.anchors)


def _corners(moved: Tensor, anchors: Tensor) -> Tensor:
    """Offsets from the anchors (centre and size) as corners."""
    centre = moved[..., :2] * CENTRE_VARIANCE * anchors[:, 2:] + anchors[:, :2]
    size = torch.exp(moved[..., 2:] * SIZE_VARIANCE) * anchors[:, 2:]
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def _anchors() -> Iterator[tuple[float, float, float, float]]:
    """Centre and size of every anchor, over the picture's side."""
    for side, scale, after in zip(SIDES, SCALES, SCALES[1:]):
        sizes = [(scale, scale), (math.sqrt(scale * after),) * 2]
        for ratio in (2, 3):
            root = math.sqrt(ratio)
            sizes += [(scale * root, scale / root), (scale / root, scale * root)]
        for y in range(side):
            for x in range(side):
                for width, height in sizes:
                    yield (x + 0.5) / side, (y + 0.5) / side, width, height
