"""Conversions of ONNX operators that take the place of TVM's own.

TVM's importer writes some operators as TIR at once (`call_tir`), in which their meaning is lost
to rewriting and planning, and some in a needlessly heavy form. `OVERRIDES` maps these to
functions that give the Relax operator of the same meaning, or None to leave the node to TVM.

    Pad, Clip, Tile           call_tir               -> nn.pad, clip, tile
    Resize (nearest, 1-D)     call_tir               -> image.resize2d of a picture of one row
    Einsum                    call_tir               -> matmul (see onnx_einsum.py) or einsum
    CumSum(reverse)           call_tir around cumsum -> flip, cumsum, flip
    Sum, Max, Min, Mean       stack, then reduce     -> chain of add, maximum, minimum
    Dropout (inference)       nn.dropout             -> its input
    OneHot                    float64, int64         -> the dtype of its values
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from tvm_dnnfusion.frontend.onnx_einsum import einsum_as_matmul


@dataclass(frozen=True)
class NodeView:
    """One ONNX node as a converter sees it: operands (None where left out) and attributes."""

    inputs: tuple[relax.Expr | None, ...]
    attrs: dict[str, Any]
    opset: int
    outputs: int

    def input(self, index: int) -> relax.Expr | None:
        """Operand at a position, None where the node leaves it out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def constant(self, index: int) -> np.ndarray | None:
        """The operand's data if it is a constant."""
        value = self.input(index)
        return value.value.numpy() if isinstance(value, GenericConst) else None


Converter = Callable[[NodeView], "relax.Expr | None"]


def _clip(node: NodeView) -> relax.Expr | None:
    """Bounds as attributes (opset < 11) or operands; NaN and a missing bound mean none."""
    x = node.inputs[0]
    dtype = str(x.ty.dtype)
    if node.opset < 11:
        bounds = [node.attrs.get("min"), node.attrs.get("max")]
    else:
        bounds = [node.constant(1), node.constant(2)]
        if any(b is None and node.input(i) is not None for i, b in enumerate(bounds, start=1)):
            return _clip_by_tensors(x, node.input(1), node.input(2), dtype)
    low, high = (None if b is None or np.isnan(b).any() else np.asarray(b).item() for b in bounds)
    if low is not None and high is not None and low <= high:
        return relax.op.clip(x, tvm.tirx.const(low, dtype), tvm.tirx.const(high, dtype))
    if low is not None:
        x = relax.op.maximum(x, relax.const(low, dtype))
    return x if high is None else relax.op.minimum(x, relax.const(high, dtype))


def _clip_by_tensors(
    x: relax.Expr, low: relax.Expr | None, high: relax.Expr | None, dtype: str
) -> relax.Expr:
    """Bounds that are known at run time only."""

    def or_inf(bound: relax.Expr, inf: float) -> relax.Expr:
        if "float" not in dtype:
            return bound
        return relax.op.where(relax.op.isnan(bound), relax.const(inf, dtype), bound)

    if low is not None:
        x = relax.op.maximum(x, or_inf(low, -np.inf))
    return x if high is None else relax.op.minimum(x, or_inf(high, np.inf))


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _pad(node: NodeView) -> relax.Expr | None:
    """[before..., after...] of the named axes -> (before, after) of every axis."""
    x = node.inputs[0]
    mode = _PAD_MODES.get(node.attrs.get("mode", b"constant").decode())
    rank = x.ty.ndim
    if node.opset < 11:
        pads, value = node.attrs.get("pads"), node.attrs.get("value", 0.0)
        axes: Any = range(rank)
    else:
        pads, fill, axes = node.constant(1), node.constant(2), node.constant(3)
        if any(node.input(i) is not None and node.constant(i) is None for i in (2, 3)):
            return None
        value = 0.0 if fill is None else fill.item()
        axes = range(rank) if axes is None else axes.tolist()
    if mode is None or pads is None or rank < 0:
        return None
    widths = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        widths[2 * (axis % rank)] = int(pads[i])
        widths[2 * (axis % rank) + 1] = int(pads[i + len(axes)])
    if min(widths, default=0) < 0:
        if mode != "constant":
            return None
        x = _crop(x, [-min(width, 0) for width in widths])
        widths = [max(width, 0) for width in widths]
    return relax.op.nn.pad(x, widths, mode, float(value))


def _crop(x: relax.Expr, widths: list[int]) -> relax.Expr:
    """What is left without the first and last elements: ONNX's meaning of a negative pad."""
    axes = [axis for axis in range(len(widths) // 2) if any(widths[2 * axis : 2 * axis + 2])]
    ends = [-widths[2 * a + 1] or np.iinfo(np.int64).max for a in axes]
    return relax.op.strided_slice(x, axes, [widths[2 * a] for a in axes], ends)


def _tile(node: NodeView) -> relax.Expr | None:
    repeats = node.constant(1)
    return None if repeats is None else relax.op.tile(node.inputs[0], repeats.tolist())


def _resize(node: NodeView) -> relax.Expr | None:
    """Only that of [N, C, W] to the nearest neighbour: of the others TVM's converter makes one."""
    x, mode = node.inputs[0], node.attrs.get("coordinate_transformation_mode", b"half_pixel")
    scales, sizes = node.constant(2), node.constant(3)
    known = x.ty.ndim == 3 and isinstance(x.ty.shape[2], tvm.tirx.IntImm)
    if not known or node.attrs.get("mode", b"nearest") != b"nearest" or node.opset < 13:
        return None
    if mode == b"tf_crop_and_resize" or (scales is None or not scales.size) == (sizes is None):
        return None
    width = int(x.ty.shape[2])
    wanted = int(sizes[-1]) if sizes is not None else int(scales[-1] * width)  # type: ignore[index]
    rounding = node.attrs.get("nearest_mode", b"round_prefer_floor")
    row = relax.op.image.resize2d(
        relax.op.expand_dims(x, 2), (1, wanted), layout="NCHW", method="nearest_neighbor",
        coordinate_transformation_mode=mode.decode(), rounding_method=rounding.decode(),
    )  # fmt: skip
    return relax.op.squeeze(row, 2)


def _einsum(node: NodeView) -> relax.Expr | None:
    """A matmul where it is one; else only what Relax infers shapes for."""
    equation = node.attrs["equation"].decode().replace(" ", "")
    if "->" not in equation or "." in equation:
        return None
    product = einsum_as_matmul(equation, node.inputs)
    return relax.op.einsum(list(node.inputs), equation) if product is None else product


def _cumsum(node: NodeView) -> relax.Expr | None:
    """Only the reversed form; TVM's own converter gives an operator for the other."""
    axis = node.constant(1)
    if axis is None or not node.attrs.get("reverse", 0):
        return None
    at = axis.item()
    flipped = relax.op.flip(node.inputs[0], at)
    total = relax.op.cumsum(flipped, at, exclusive=bool(node.attrs.get("exclusive", 0)))
    return relax.op.flip(total, at)


def _dropout(node: NodeView) -> relax.Expr | None:
    """Identity, with a mask that keeps everything, unless it trains."""
    training = node.constant(2)
    if node.input(2) is not None and (training is None or bool(training)):
        return None
    x = node.inputs[0]
    if node.outputs == 1:
        return x
    return relax.Tuple([x, relax.op.ones_like(x, "bool" if node.opset >= 10 else None)])


def _one_hot(node: NodeView) -> relax.Expr | None:
    """[..., depth, ...] of the values' dtype: as numbers of Python they would lose it."""
    indices, depth, values = node.inputs[0], node.constant(1), node.constant(2)
    if depth is None or values is None:
        return None
    places, dtype = str(indices.ty.dtype), str(values.dtype)
    if places not in ("int32", "int64"):  # which a depth may be too large for
        indices = relax.op.astype(indices, "int64")
        places = "int64"
    count = relax.const(int(depth.item()), places)
    counted = relax.op.where(
        relax.op.less(indices, relax.const(0, places)), relax.op.add(indices, count), indices
    )
    off, on = (relax.prim_value(tvm.tirx.const(value.item(), dtype)) for value in values)
    return relax.op.one_hot(counted, on, off, int(depth.item()), node.attrs.get("axis", -1))


def _chain(op: Callable[..., relax.Expr]) -> Converter:
    def convert(node: NodeView) -> relax.Expr:
        return functools.reduce(op, node.inputs)

    return convert


def _mean(node: NodeView) -> relax.Expr:
    total = functools.reduce(relax.op.add, node.inputs)
    return relax.op.divide(total, relax.const(len(node.inputs), str(node.inputs[0].ty.dtype)))


OVERRIDES: dict[str, Converter] = {
    "Clip": _clip,
    "CumSum": _cumsum,
    "Dropout": _dropout,
    "Einsum": _einsum,
    "Max": _chain(relax.op.maximum),
    "Mean": _mean,
    "Min": _chain(relax.op.minimum),
    "OneHot": _one_hot,
    "Pad": _pad,
    "Resize": _resize,
    "Sum": _chain(relax.op.add),
    "Tile": _tile,
}
"""ONNX operator -> its conversion."""
