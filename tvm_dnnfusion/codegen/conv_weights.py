"""Weights of a convolution as its register tiles read them: packed at compile time if constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from tvm_dnnfusion.codegen.conv_shape import ConvShape
from tvm_dnnfusion.codegen.stages import Packed, Stages
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute


@dataclass(frozen=True)
class Weights:
    """`packed` is [G * blocks / v, C / inner, *kernel, inner, v, lanes].

    `blocks` of `lanes` output channels per group, `v` of them side by side in a tile; `inner` input
    channels are read together, as the source's blocks have them.
    """

    packed: Any
    blocks: int
    v: int
    inner: int
    lanes: int


def packed_weights(
    sizes: ConvShape, weight: Value, data: np.ndarray | None, lanes: int, inner: int, stages: Stages
) -> Weights:
    """The weights as a kernel argument where they are constant, else as a stage that packs them."""
    per_group = sizes.out_channels // sizes.groups
    blocks = -(-per_group // lanes)
    assert stages.tile is not None
    v = stages.tile.vectors
    ic = sizes.channels // sizes.groups
    shape = (sizes.groups * blocks // v, ic // inner, *sizes.kernel, inner, v, lanes)
    if data is not None:
        constant = Packed("conv", pack(data, sizes.groups, lanes, inner, v))
        packed = stages.argument(constant, shape, weight.dtype)
        return Weights(packed, blocks, v, inner, lanes)

    def expr(body: Body, i: Index) -> Any:
        block = i[0] * v + i[-2]
        group, lane = block // blocks, (block % blocks) * lanes + i[-1]
        out, channel = group * per_group + lane, i[1] * inner + i[-3]
        place = (body.simplify(out), body.simplify(channel), *i[2:-3])
        return body.where(
            lane < per_group, lambda: body.read(weight, place), lambda: tirx.const(0, weight.dtype)
        )

    return Weights(compute(stages.name("pack"), shape, expr), blocks, v, inner, lanes)


def pack(data: np.ndarray, groups: int, lanes: int, inner: int, v: int) -> np.ndarray:
    """[O, C, *k] -> [blocks / v, C/inner, *k, inner, v, lanes], channels padded with zeros."""
    out, ic = data.shape[:2]
    per_group = out // groups
    blocks = -(-per_group // lanes)
    grouped = data.reshape(groups, per_group, ic, *data.shape[2:])
    widths = [(0, 0), (0, blocks * lanes - per_group)] + [(0, 0)] * (grouped.ndim - 2)
    full = np.pad(grouped, widths)
    full = full.reshape(groups * blocks // v, v, lanes, ic // inner, inner, *data.shape[2:])
    taps = tuple(range(5, full.ndim))
    return np.ascontiguousarray(full.transpose(0, 3, *taps, 4, 1, 2))
