"""U-Net (Ronneberger et al., 2015), with padded convolutions and batch normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.zoo.layers import ConvNorm

CLASSES = 21
WIDTHS = (64, 128, 256, 512, 1024)


def unet() -> nn.Module:
    """31 million parameters; VOC's 21 classes."""
    return UNet()


class UNet(nn.Module):
    """Four levels down and up again; each level's result is concatenated on the way up."""

    def __init__(self) -> None:
        super().__init__()
        inners = (3, *WIDTHS[:-1])
        self.down = nn.ModuleList(_double(i, o) for i, o in zip(inners, WIDTHS))
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(WIDTHS[:0:-1], WIDTHS[-2::-1]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in pairs)
        self.join = nn.ModuleList(_double(2 * o, o) for _, o in pairs)
        self.last = nn.Conv2d(WIDTHS[0], CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 21, H, W]; H and W are multiples of 16."""
        kept: list[Tensor] = []
        for level in self.down:
            x = level(self.pool(x) if kept else x)
            kept.append(x)
        for up, join, side in zip(self.up, self.join, kept[-2::-1]):
            x = join(torch.cat([side, up(x)], 1))
        return self.last(x)


def _double(inner: int, outer: int) -> nn.Module:
    return nn.Sequential(ConvNorm(inner, outer), ConvNorm(outer, outer))
