"""Inverted residuals: MobileNetV2 (Sandler et al., 2018) and EfficientNet (Tan and Le, 2019)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from benchmarks.zoo.layers import Activation, ConvNorm, Head, Residual

CLASSES = 1000
DIVISOR = 8
"""Channels are multiples of this."""

EFFICIENT_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""EfficientNet-B0, table 1: expansion, kernel, stride, channels, depth."""

MOBILE_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 3, 2, 32, 3),
    (6, 3, 2, 64, 4),
    (6, 3, 1, 96, 3),
    (6, 3, 2, 160, 3),
    (6, 3, 1, 320, 1),
)
"""MobileNetV2, table 2, in the same columns."""


def mobilenet_v2() -> nn.Module:
    """Width 1.0, ReLU6."""
    return _network(MOBILE_STAGES, 1.0, 1.0, 32, 1280, nn.ReLU6, squeeze=False)


def efficientnet_b0() -> nn.Module:
    """The base network."""
    return _network(EFFICIENT_STAGES, 1.0, 1.0, 32, 1280, nn.SiLU, squeeze=True)


def efficientnet_b3() -> nn.Module:
    """Width 1.2, depth 1.4."""
    return _network(EFFICIENT_STAGES, 1.2, 1.4, 32, 1280, nn.SiLU, squeeze=True)


class SqueezeExcite(nn.Module):
    """x * sigmoid(W2 silu(W1 mean(x)))"""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.SiLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]"""
        return x * self.gate(x)


def _network(
    stages: tuple[tuple[int, int, int, int, int], ...],
    width: float,
    depth: float,
    first: int,
    last: int,
    act: Activation,
    squeeze: bool,
) -> nn.Module:
    inner = _channels(first, width)
    layers: list[nn.Module] = [ConvNorm(3, inner, 3, 2, act=act)]
    for expansion, kernel, stride, channels, count in stages:
        outer = _channels(channels, width)
        for index in range(math.ceil(count * depth)):
            step = stride if index == 0 else 1
            layers.append(_inverted(inner, outer, expansion, kernel, step, act, squeeze))
            inner = outer
    top = max(last, _channels(last, width))
    layers.append(ConvNorm(inner, top, 1, act=act))
    return nn.Sequential(*layers, Head(top, CLASSES))


def _inverted(
    inner: int, outer: int, expansion: int, kernel: int, stride: int, act: Activation, squeeze: bool
) -> nn.Module:
    """Expand, depthwise, squeeze and excite, project; a shortcut where the shapes allow one."""
    middle = inner * expansion
    layers: list[nn.Module] = [ConvNorm(inner, middle, 1, act=act)] if expansion > 1 else []
    layers.append(ConvNorm(middle, middle, kernel, stride, groups=middle, act=act))
    if squeeze:
        layers.append(SqueezeExcite(middle, max(1, inner // 4)))
    branch = nn.Sequential(*layers, ConvNorm(middle, outer, 1, act=None))
    return Residual(branch) if stride == 1 and inner == outer else branch


def _channels(count: int, width: float) -> int:
    """The nearest multiple of the divisor, no more than a tenth below the exact number."""
    exact = count * width
    rounded = max(DIVISOR, int(exact + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded + DIVISOR if rounded < 0.9 * exact else rounded
