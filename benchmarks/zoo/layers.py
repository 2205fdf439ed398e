"""Layers that several of the zoo's networks share."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def relu() -> nn.Module:
    """max(x, 0)"""
    return nn.ReLU(inplace=True)


class ConvNorm(nn.Sequential):
    """2-D convolution, batch normalisation and, unless None, an activation; "same" padding."""

    def __init__(
        self,
        inner: int,
        outer: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        act: Activation | None = relu,
        eps: float = 1e-5,
    ) -> None:
        conv = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False)
        parts = [conv, nn.BatchNorm2d(outer, eps)]
        super().__init__(*parts, *([act()] if act is not None else []))


class Residual(nn.Module):
    """x + branch(x), then an activation where one is given; `shortcut` may reshape x."""

    def __init__(
        self, branch: nn.Module, shortcut: nn.Module | None = None, act: Activation | None = None
    ) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut or nn.Identity()
        self.act = act() if act is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W']"""
        return self.act(self.branch(x) + self.shortcut(x))


class Head(nn.Sequential):
    """Mean over all positions, then a linear layer: a classifier's end."""

    def __init__(self, inner: int, classes: int, pool: nn.Module | None = None) -> None:
        super().__init__(pool or nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, classes))
