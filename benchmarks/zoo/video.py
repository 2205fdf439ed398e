"""Networks over clips: C3D (Tran et al., 2015) and S3D (Xie et al., 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.zoo.layers import relu

ACTIONS = 101
"""Classes of UCF-101."""

INCEPTIONS = (
    (192, (64, 96, 128, 16, 32, 32)),
    (256, (128, 128, 192, 32, 96, 64)),
    (480, (192, 96, 208, 16, 48, 64)),
    (512, (160, 112, 224, 24, 64, 64)),
    (512, (128, 128, 256, 24, 64, 64)),
    (512, (112, 144, 288, 32, 64, 64)),
    (528, (256, 160, 320, 32, 128, 128)),
    (832, (256, 160, 320, 32, 128, 128)),
    (832, (384, 192, 384, 48, 128, 128)),
)
"""Inception-V1's blocks: channels in, then of the four branches (reduction and result of two)."""


def c3d() -> nn.Module:
    """Eight 3x3x3 convolutions and three linear layers, for clips [1, 3, 16, 112, 112]."""
    layers: list[nn.Module] = []
    inner = 3
    for index, (outer, depth) in enumerate(((64, 1), (128, 1), (256, 2), (512, 2), (512, 2))):
        for _ in range(depth):
            layers += [nn.Conv3d(inner, outer, 3, padding=1), relu()]
            inner = outer
        first, last = index == 0, index == 4
        size = (1, 2, 2) if first else 2
        layers.append(nn.MaxPool3d(size, size, (0, 1, 1) if last else 0))
    layers += [nn.Flatten(), nn.Linear(8192, 4096), relu(), nn.Linear(4096, 4096), relu()]
    return nn.Sequential(*layers, nn.Linear(4096, ACTIONS))


def s3d() -> nn.Module:
    """Inception-V1 with each 3-D convolution split into space and time."""
    blocks = [_inception(inner, widths) for inner, widths in INCEPTIONS]
    return nn.Sequential(
        _separable(3, 64, 7, 2),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        _conv(64, 64, 1),
        _separable(64, 192, 3),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        *blocks[:2],
        nn.MaxPool3d(3, 2, 1),
        *blocks[2:7],
        nn.MaxPool3d(2, 2),
        *blocks[7:],
        nn.AvgPool3d((2, 7, 7), 1),
        nn.Conv3d(1024, ACTIONS, 1),
        _MeanOverPositions(),
    )


class _MeanOverPositions(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3, 4))


class _Branches(nn.Module):
    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _inception(inner: int, widths: tuple[int, ...]) -> nn.Module:
    one, three_in, three, five_in, five, pooled = widths
    return _Branches(
        _conv(inner, one, 1),
        nn.Sequential(_conv(inner, three_in, 1), _separable(three_in, three, 3)),
        nn.Sequential(_conv(inner, five_in, 1), _separable(five_in, five, 3)),
        nn.Sequential(nn.MaxPool3d(3, 1, 1), _conv(inner, pooled, 1)),
    )


def _separable(inner: int, outer: int, size: int, stride: int = 1) -> nn.Module:
    """A convolution over space, then one over time."""
    space = _conv(inner, outer, (1, size, size), (1, stride, stride))
    return nn.Sequential(space, _conv(outer, outer, (size, 1, 1), (stride, 1, 1)))


def _conv(
    inner: int,
    outer: int,
    kernel: int | tuple[int, int, int],
    stride: tuple[int, int, int] = (1, 1, 1),
) -> nn.Module:
    sizes = (kernel,) * 3 if isinstance(kernel, int) else kernel
    padding = tuple(size // 2 for size in sizes)
    conv = nn.Conv3d(inner, outer, sizes, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(outer, 1e-3), relu())
