"""YOLO-V4 (Bochkovskiy et al., 2020): CSPDarknet-53, SPP, PANet and three heads, COCO's classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.zoo.layers import ConvNorm, Residual

CLASSES = 80
ANCHORS = (
    ((12.0, 16.0), (19.0, 36.0), (40.0, 28.0)),
    ((36.0, 75.0), (76.0, 55.0), (72.0, 146.0)),
    ((142.0, 110.0), (192.0, 243.0), (459.0, 401.0)),
)
"""Width and height in pixels, per head."""

STRIDES = (8, 16, 32)
GROWTH = (1.2, 1.1, 1.05)
"""How far a head may move a box beyond its cell."""

STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
"""Channels and residual blocks."""


def yolo_v4() -> nn.Module:
    """64 million parameters."""
    return YoloV4()


class YoloV4(nn.Module):
    """Decoded boxes and scores of every anchor; nothing is suppressed."""

    def __init__(self) -> None:
        super().__init__()
        inner = 32
        stages = []
        for outer, depth in STAGES:
            stages.append(_Stage(inner, outer, depth))
            inner = outer
        self.stem = ConvNorm(3, 32, act=nn.Mish)
        self.stages = nn.ModuleList(stages)
        self.pyramid = nn.Sequential(_alternate(1024, 512, 3), _Pools(), _alternate(2048, 512, 3))
        self.ups = nn.ModuleList([_Up(512, 512), _Up(256, 256)])
        self.downs = nn.ModuleList([_Down(128), _Down(256)])
        self.heads = nn.ModuleList(_Head(c, i) for i, c in enumerate((128, 256, 512)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] -> corners [N, anchors, 4] over the side, scores [N, anchors, 80]"""
        kept: list[Tensor] = []
        side = x.shape[-1]
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            kept.append(x)
        low = self.pyramid(x)
        middle = self.ups[0](low, kept[-2])
        high = self.ups[1](middle, kept[-3])
        middle = self.downs[0](high, middle)
        low = self.downs[1](middle, low)
        found = [head(part, side) for head, part in zip(self.heads, (high, middle, low))]
        return torch.cat([f[0] for f in found], 1), torch.cat([f[1] for f in found], 1)


class _Stage(nn.Module):
    """A cross-stage partial stage: half the channels go past the residual blocks."""

    def __init__(self, inner: int, outer: int, depth: int) -> None:
        super().__init__()
        first = depth == 1
        half = outer if first else outer // 2
        self.down = ConvNorm(inner, outer, 3, 2, act=nn.Mish)
        self.past = ConvNorm(outer, half, 1, act=nn.Mish)
        narrow = half // 2 if first else half
        blocks = [
            Residual(
                nn.Sequential(
                    ConvNorm(half, narrow, 1, act=nn.Mish), ConvNorm(narrow, half, act=nn.Mish)
                )
            )
            for _ in range(depth)
        ]
        self.through = nn.Sequential(
            ConvNorm(outer, half, 1, act=nn.Mish), *blocks, ConvNorm(half, half, 1, act=nn.Mish)
        )
        self.join = ConvNorm(2 * half, outer, 1, act=nn.Mish)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return self.join(torch.cat([self.through(x), self.past(x)], 1))


class _Pools(nn.Module):
    """Spatial pyramid: maxima over 5, 9 and 13 positions beside the input."""

    def __init__(self) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (13, 9, 5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*(pool(x) for pool in self.pools), x], 1)


class _Up(nn.Module):
    """The map below, doubled, beside this level's, then five convolutions."""

    def __init__(self, below: int, side: int) -> None:
        super().__init__()
        half = below // 2
        self.reduce = ConvNorm(below, half, 1, act=_leaky)
        self.side = ConvNorm(side, half, 1, act=_leaky)
        self.grow = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.mix = _alternate(below, half, 5)

    def forward(self, low: Tensor, side: Tensor) -> Tensor:
        return self.mix(torch.cat([self.side(side), self.grow(self.reduce(low))], 1))


class _Down(nn.Module):
    """The map above, halved, beside this level's, then five convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(channels, 2 * channels, 3, 2, act=_leaky)
        self.mix = _alternate(4 * channels, 2 * channels, 5)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        return self.mix(torch.cat([self.reduce(high), low], 1))


class _Head(nn.Module):
    """Two convolutions, then boxes and scores from their result."""

    def __init__(self, channels: int, index: int) -> None:
        super().__init__()
        self.stride, self.growth = STRIDES[index], GROWTH[index]
        self.layers = nn.Sequential(
            ConvNorm(channels, 2 * channels, act=_leaky),
            nn.Conv2d(2 * channels, 3 * (5 + CLASSES), 1),
        )
        self.register_buffer("anchors", torch.tensor(ANCHORS[index]).reshape(1, 3, 2, 1, 1))

    def forward(self, x: Tensor, side: int) -> tuple[Tensor, Tensor]:
        height, width = x.shape[-2:]
        raw = self.layers(x).reshape(x.shape[0], 3, 5 + CLASSES, height, width)
        across = torch.arange(width, dtype=x.dtype).reshape(1, 1, width).expand(1, height, width)
        down = torch.arange(height, dtype=x.dtype).reshape(1, height, 1).expand(1, height, width)
        cells = torch.cat([across, down]).reshape(1, 1, 2, height, width)
        moved = raw[:, :, :2].sigmoid() * self.growth - (self.growth - 1) / 2
        centre = (moved + cells) * (self.stride / side)
        size = raw[:, :, 2:4].exp() * self.anchors / side
        boxes = torch.cat([centre - size / 2, centre + size / 2], 2)
        scores = raw[:, :, 5:].sigmoid() * raw[:, :, 4:5].sigmoid()
        return _flat(boxes), _flat(scores)


def _flat(x: Tensor) -> Tensor:
    """[N, 3, K, H, W] -> [N, 3 H W, K]"""
    return x.permute(0, 1, 3, 4, 2).reshape(x.shape[0], -1, x.shape[2])


def _alternate(inner: int, narrow: int, depth: int) -> nn.Module:
    """1x1 to `narrow`, 3x3 to twice that, and so on."""
    layers = []
    for index in range(depth):
        outer = 2 * narrow if index % 2 else narrow
        layers.append(ConvNorm(inner, outer, 3 if index % 2 else 1, act=_leaky))
        inner = outer
    return nn.Sequential(*layers)


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.1, inplace=True)
