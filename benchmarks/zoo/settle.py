"""Random weights with which every layer's activations keep their size.

Convolutions and linear layers get normal weights scaled by their fan-in (He et al., 2015). The
statistics of batch normalisation are then those of random inputs, and so are the scales of layers
that normalise by constants: activations neither grow nor vanish, however deep the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SPREAD = (0.8, 1.2)
"""Scales after a normalisation."""
SHIFT = 0.1
"""Biases lie within plus and minus this."""


def settle(module: nn.Module, feed: Iterable[Tensor], seed: int = 0) -> nn.Module:
    """Give a module random weights that suit it, and put it into inference mode.

    Its `normalised`, where it has one, is the part whose normalisations `feed` settles.
    """
    torch.manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            _randomize(part)
        _calibrate(getattr(module, "normalised", module), tuple(feed))
    return module.eval()


def _randomize(part: nn.Module) -> None:
    for name, parameter in part.named_parameters(recurse=False):
        if "bias" in name:
            parameter.uniform_(-SHIFT, SHIFT)
        elif parameter.dim() == 1:
            parameter.uniform_(*SPREAD)
        elif isinstance(part, nn.Embedding):
            parameter.normal_()
        else:
            parameter.normal_(std=_gain(part) / math.sqrt(_fan_in(part, parameter)))


def _gain(part: nn.Module) -> float:
    """A layer's own `gain`, where it has one. Else: most convolutions follow a rectifier, which
    halves the mean square; the others do not."""
    own = getattr(part, "gain", None)
    if own is not None:
        return own
    return math.sqrt(2.0) if isinstance(part, CONVOLUTIONS) else 1.0


def _fan_in(part: nn.Module, weight: Tensor) -> int:
    if isinstance(part, CONVOLUTIONS):
        return math.prod(weight.shape[1:])
    if isinstance(part, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
        taps = math.prod(k // s for k, s in zip(part.kernel_size, part.stride))
        return weight.shape[0] // part.groups * max(1, taps)
    # transformers' Conv1D, in GPT-2, holds its weight as [in, out]
    return weight.shape[0 if type(part).__name__ == "Conv1D" else -1]


def _calibrate(module: nn.Module, feed: tuple[Tensor, ...]) -> None:
    """Statistics of one forward pass, layer by layer, each on what the layers before it give."""
    module.eval()
    handles: list[Any] = []
    for part in module.modules():
        if isinstance(part, NORMS):
            handles.append(part.register_forward_pre_hook(_take_statistics))
        elif type(part).__name__ == "NoNorm":
            handles.append(part.register_forward_pre_hook(_scale_down))
    module(*feed)
    for handle in handles:
        handle.remove()


def _take_statistics(part: Any, arguments: tuple[Tensor, ...]) -> None:
    x = arguments[0].transpose(0, 1).flatten(1)
    spread = x.var(1, unbiased=False)
    part.running_mean.copy_(x.mean(1))
    part.running_var.copy_(spread.clamp_min(0.1 * float(spread.mean()) + 1e-3))


def _scale_down(part: Any, arguments: tuple[Tensor, ...]) -> None:
    part.weight.uniform_(*SPREAD).div_(arguments[0].std() + 1e-3)
