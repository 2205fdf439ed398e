"""Rows for operators that move, cut, join and make tensors.

reshape        codes 0 (copy), -1 (infer), -2 (the rest), -3 (merge two), -4 (split in two)
strided_slice  begin and end as Relay clamps them, in "end" and "size" mode
X_like         the shape of the second operand, as numbers
layout_transform(NCHW -> NCHW4c)  reshape [N, C/4, 4, H, W], then permute_dims
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tvm_dnnfusion.relay.entry import (
    Call,
    Entry,
    Unsupported,
    Value,
    ints,
    packed,
    relax_op,
    same,
    unpacked,
)
from tvm_dnnfusion.relay.layouts import to_layout

_INT64_MAX = 2**63 - 1
MAX_PARTS = 1 << 14
"""Parts of one split, each of which is a variable of its own."""


def new_shape(old: tuple[int, ...], codes: Sequence[int], allow_zero: bool) -> list[int]:
    """The shape that Relay's reshape codes give. Raises Unsupported where they do not fit."""
    out: list[int] = []
    infer, at, todo = -1, 0, list(codes)
    while todo:
        code = todo.pop(0)
        taken = {0: 0 if allow_zero else 1, -3: 2, -4: 1}.get(code, 0)
        if at + taken > len(old) or (code == -4 and len(todo) < 2):
            raise Unsupported(f"shape codes {tuple(codes)} for a tensor {old}")
        if code == -2:
            out += old[at:]
            at = len(old)
        elif code == -3:
            out.append(old[at] * old[at + 1])
            at += 2
        elif code == -4:
            out += _split_extent(old[at], todo.pop(0), todo.pop(0))
            at += 1
        elif code >= -1:
            infer = len(out) if code == -1 else infer
            out.append(old[at] if code == 0 and not allow_zero else 1 if code == -1 else code)
            at += 1
        else:
            raise Unsupported(f"shape code {code}")
    if infer >= 0:
        out[infer] = math.prod(old) // max(1, math.prod(out))
    if math.prod(out) != math.prod(old):
        raise Unsupported(f"shape codes {tuple(codes)} for a tensor {old}")
    return out


def _split_extent(extent: int, left: int, right: int) -> tuple[int, int]:
    left = extent // right if left == -1 and right > 0 else left
    right = extent // left if right == -1 and left > 0 else right
    return left, right


def _reshape(call: Call) -> Value:
    codes = [int(c) for c in call.get("newshape", ())]
    return _reshape_to(call, codes, bool(call.get("allowzero", False)))


def _reshape_to(call: Call, codes: list[int], allow_zero: bool) -> Value:
    shape = new_shape(call.dims(call.x), codes, allow_zero)
    if 0 in shape:
        raise Unsupported("a shape of no elements: Relax reads its 0 as a code")
    return call.do("reshape", call.x, shape)


def _dyn_reshape(call: Call) -> Value:
    codes = call.known(1, "the new shape").tolist()
    return _reshape_to(call, codes, bool(call.get("allowzero", False)))


def _reverse_reshape(call: Call) -> Value:
    """The codes are read from right to left."""
    codes = [int(c) for c in call.get("newshape", ())][::-1]
    return call.do("reshape", call.x, new_shape(call.dims(call.x)[::-1], codes, False)[::-1])


def _reshape_like(call: Call) -> Value:
    old, like = call.dims(call.x), call.dims(call.args[1])

    def part(shape: tuple[int, ...], side: str) -> tuple[int, int]:
        begin, end = int(call.get(f"{side}_begin", 0)), call.get(f"{side}_end")
        end = len(shape) if end is None else int(end)
        return begin % (len(shape) + 1), end + len(shape) if end < 0 else end

    first, last = part(old, "lhs")
    return call.do("reshape", call.x, [*old[:first], *like[slice(*part(like, "rhs"))], *old[last:]])


def _expand_dims(call: Call) -> Value:
    axis, count = int(call.attrs["axis"]), int(call.get("num_newaxis", 1))
    return _expanded(call, axis, count)


def _expanded(call: Call, axis: int, count: int) -> Value:
    rank = call.rank(call.x)
    if not -rank - 1 <= axis <= rank or count < 0 or rank + count > 32:
        raise Unsupported(f"{count} axes at {axis} of {rank}")
    axis = axis + rank + 1 if axis < 0 else axis
    if not count:
        return call.x
    return call.do("expand_dims", call.x, [axis + i for i in range(count)])


def _split(call: Call) -> Value:
    parts, axis = call.attrs["indices_or_sections"], call.axis(call.x)
    if isinstance(parts, int):
        if not 0 < parts <= MAX_PARTS or call.dims(call.x)[axis] % parts:
            raise Unsupported(f"{parts} equal parts of {call.dims(call.x)[axis]}")
        if parts == 1:
            return (call.x,)
    made = call.do("split", call.x, parts if isinstance(parts, int) else list(parts), axis)
    return unpacked(call, made)


def _join(op: str) -> Any:
    def make(call: Call) -> Value:
        axis = int(call.get("axis", 0))
        return call.emit(relax_op(op)([packed(v) for v in call.args[0]], axis))

    return make


def _strided_slice(call: Call) -> Value:
    begin, end = call.attrs.get("begin"), call.attrs.get("end")
    if begin is None or end is None:
        raise Unsupported("begin and end are not in the attributes")
    axes, steps = call.attrs.get("axes"), call.attrs.get("strides") or ()
    mode = call.get("slice_mode", "end")
    return slice_by(call, list(begin), list(end), list(steps), axes, mode)


def slice_by(
    call: Call, begin: list[Any], end: list[Any], steps: list[Any], axes: Any, mode: str
) -> Value:
    """Relay's strided_slice; None in begin or end is open, missing steps are 1."""
    dims = call.dims(call.x)
    named = list(range(len(begin))) if axes is None else [a % len(dims) for a in ints(axes)]
    if len(begin) != len(end) or len(named) != len(begin) or len(begin) > len(dims):
        raise Unsupported(f"begin {begin} and end {end} for {len(dims)} axes")
    if mode == "size" or not steps:
        steps = [1] * len(begin)
    steps = [*steps, *([steps[-1]] if len(steps) == 1 else [1]) * (len(begin) - len(steps))]
    starts, stops = [], []
    for axis, low, high, step in zip(named, begin, end, steps, strict=False):
        if step == 0:
            raise Unsupported("a stride of 0")
        low, high = _bounds(low, high, step, mode)
        low, high = (_clamp(edge, dims[axis], step) for edge in (low, high))
        if (low > high) if step > 0 else (low < high):
            raise Unsupported(f"begin {low} and end {high} with the stride {step}")
        starts.append(low)
        # an end of -1 would be counted from the back: before the first is -extent - 1
        stops.append(high if high >= 0 else -dims[axis] - 1)
    return call.do("strided_slice", call.x, named, starts, stops, [int(s) for s in steps])


def _bounds(low: Any, high: Any, step: int, mode: str) -> tuple[int, int]:
    low = (0 if step > 0 else _INT64_MAX) if low is None else int(low)
    if high is None or (mode == "size" and high < 0):
        return low, _INT64_MAX if step > 0 else 0
    return low, low + int(high) if mode == "size" else int(high)


def _clamp(edge: int, extent: int, step: int) -> int:
    edge = edge + extent if edge < 0 else edge
    return min(max(edge, -1 if step < 0 else 0), extent - 1 if step < 0 else extent)


def _dyn_strided_slice(call: Call) -> Value:
    begin, end, steps = (call.known(i, "a bound").tolist() for i in (1, 2, 3))
    return slice_by(call, begin, end, steps, None, call.get("slice_mode", "end"))


def _slice_like(call: Call) -> Value:
    like, axes = call.dims(call.args[1]), call.get("axes")
    rank = call.rank(call.x)
    named = range(min(rank, len(like))) if not axes else [a % rank for a in axes]
    named = list(named)
    return call.do("strided_slice", call.x, named, [0] * len(named), [like[a] for a in named])


def _broadcast_to(call: Call) -> Value:
    return call.do("broadcast_to", call.x, ints(call.attrs["shape"]))


def _like(op: str) -> Any:
    def make(call: Call) -> Value:
        return call.do(op, call.x, list(call.dims(call.args[1])))

    return make


def _full(call: Call) -> Value:
    shape = call.attrs.get("shape")
    if shape is None:
        shape = call.known(1, "the shape").tolist()
    dtype = call.get("dtype") or call.dtype(call.x)
    return call.do("full", ints(shape), call.do("astype", call.x, dtype), dtype)


def _filled(value: int, dynamic: bool = False) -> Any:
    def make(call: Call) -> Value:
        shape = call.known(0, "the shape") if dynamic else call.attrs["shape"]
        size = [int(d) for d in shape]
        return call.do("full", size, call.const(value, call.attrs["dtype"]), call.attrs["dtype"])

    return make


def _arange(call: Call) -> Value:
    start, stop, step = (call.known(i, what) for i, what in enumerate(("start", "stop", "step")))
    dtype = call.attrs["dtype"]
    count = math.ceil((float(stop) - float(start)) / float(step))
    return call.const((call.places(count, 1, 0) * step + start).astype(dtype), dtype)


def _shape_of(call: Call) -> Value:
    return call.const(np.array(call.dims(call.x)), call.get("dtype") or "int32")


def _size(call: Call) -> Value:
    return call.const(math.prod(call.dims(call.x)), call.get("dtype") or "int32")


def _tile(call: Call) -> Value:
    return call.do("tile", call.x, ints(call.attrs["reps"]))


def _dyn(op: str, what: str) -> Any:
    """An operator whose second operand must be known: it becomes an attribute."""

    def make(call: Call) -> Value:
        return call.do(op, call.x, call.known(1, what).astype("int64").tolist())

    return make


def _dyn_expand_dims(call: Call) -> Value:
    return _expanded(call, int(call.known(1, "the axis")), int(call.get("num_newaxis", 1)))


def _layout_transform(call: Call) -> Value:
    return to_layout(call, call.x, call.attrs["src_layout"], call.attrs["dst_layout"])


def _trilu(call: Call) -> Value:
    op = "triu" if call.get("upper", True) else "tril"
    return call.do(op, call.x, int(call.known(1, "the diagonal")))


ENTRIES: tuple[Entry, ...] = (
    Entry("reshape", "reshape", _reshape, "ReshapeAttrs", used=("newshape", "allowzero")),
    Entry("contrib_reverse_reshape", "reshape", _reverse_reshape, "ReshapeAttrs",
          used=("newshape",), must={"allowzero": (False,)}),
    Entry("reshape_like", "reshape", _reshape_like, "ReshapeLikeAttrs",
          used=("lhs_begin", "lhs_end", "rhs_begin", "rhs_end")),
    Entry("nn.batch_flatten", "reshape",
          lambda c: c.do("reshape", c.x, [c.dims(c.x)[0], math.prod(c.dims(c.x)[1:])])),
    same("transpose", "permute_dims", "TransposeAttrs", passed={"axes": "axes"}),
    same("squeeze", "squeeze", "SqueezeAttrs", passed={"axis": "axis"}),
    Entry("expand_dims", "expand_dims", _expand_dims, "ExpandDimsAttrs",
          used=("axis", "num_newaxis")),
    Entry("concatenate", "concat", _join("concat"), "ConcatenateAttrs", used=("axis",)),
    Entry("stack", "stack", _join("stack"), "StackAttrs", used=("axis",)),
    Entry("split", "split", _split, "SplitAttrs", used=("indices_or_sections", "axis")),
    Entry("tile", "tile", _tile, "TileAttrs", used=("reps",)),
    same("repeat", "repeat", "RepeatAttrs", passed={"repeats": "repeats", "axis": "axis"}),
    same("reverse", "flip", "ReverseAttrs", passed={"axis": "axis"}),
    same("reverse_sequence", "reverse_sequence", "ReverseSequenceAttrs",
         passed={"seq_axis": "seq_axis", "batch_axis": "batch_axis"}),
    Entry("strided_slice", "strided_slice", _strided_slice, "StridedSliceAttrs",
          used=("begin", "end", "strides", "slice_mode", "axes"), note="end and size mode"),
    Entry("slice_like", "strided_slice", _slice_like, "SliceLikeAttrs", used=("axes",)),
    Entry("broadcast_to", "broadcast_to", _broadcast_to, "InitOpAttrs", used=("shape",),
          ignored={"dtype": "that of the operand"}),
    Entry("broadcast_to_like", "broadcast_to", _like("broadcast_to")),
    same("collapse_sum_like"),
    same("collapse_sum_to", struct="InitOpAttrs", passed={"shape": "shape"},
         ignored={"dtype": "that of the operand"}),
    Entry("full", "full", _full, "InitOpAttrs", used=("shape", "dtype")),
    Entry("full_like", "full_like",
          lambda c: c.do("full_like", c.x, c.do("astype", c.args[1], c.dtype(c.x)))),
    Entry("zeros", "full", _filled(0), "InitOpAttrs", used=("shape", "dtype")),
    Entry("ones", "full", _filled(1), "InitOpAttrs", used=("shape", "dtype")),
    Entry("arange", "a constant", _arange, "ArangeAttrs", used=("dtype",),
          ignored=dict.fromkeys(("start", "stop", "step"), "the operands say it"),
          note="bounds must be constants"),
    Entry("shape_of", "a constant", _shape_of, "ShapeOfAttrs", used=("dtype",)),
    Entry("ndarray_size", "a constant", _size, "NdarraySizeAttrs", used=("dtype",)),
    Entry("layout_transform", "reshape, permute_dims", _layout_transform, "LayoutTransformAttrs",
          used=("src_layout", "dst_layout")),
    Entry("trilu", "tril, triu", _trilu, "TriluAttrs", used=("upper",)),
    Entry("dyn.reshape", "reshape", _dyn_reshape, "ReshapeAttrs", used=("allowzero",),
          ignored={"newshape": "the operand says it"}, note="the shape must be a constant"),
    Entry("dyn.broadcast_to", "broadcast_to", _dyn("broadcast_to", "the shape"), "InitOpAttrs",
          ignored={"shape": "the operand says it", "dtype": "that of the operand"},
          note="the shape must be a constant"),
    Entry("dyn.tile", "tile", _dyn("tile", "reps"), "TileAttrs",
          ignored={"reps": "the operand says it"}, note="reps must be constants"),
    Entry("dyn.squeeze", "squeeze", _dyn("squeeze", "the axes"), "SqueezeAttrs",
          ignored={"axis": "the operand says it"}, note="the axes must be constants"),
    Entry("dyn.expand_dims", "expand_dims", _dyn_expand_dims, "DynExpandDimsAttrs",
          used=("num_newaxis",), note="the axis must be a constant"),
    Entry("dyn.strided_slice", "strided_slice", _dyn_strided_slice, "StridedSliceAttrs",
          used=("slice_mode",), must={"axes": ((),)},
          ignored=dict.fromkeys(("begin", "end", "strides"), "the operands say it"),
          note="the bounds must be constants"),
    Entry("dyn.full", "full", _full, "InitOpAttrs", used=("shape", "dtype"),
          note="the shape must be a constant"),
    Entry("dyn.zeros", "full", _filled(0, True), "InitOpAttrs", used=("dtype",),
          ignored={"shape": "the operand says it"}, note="the shape must be a constant"),
    Entry("dyn.ones", "full", _filled(1, True), "InitOpAttrs", used=("dtype",),
          ignored={"shape": "the operand says it"}, note="the shape must be a constant"),
    Entry("vm.shape_of", "a constant", _shape_of, "ShapeOfAttrs", used=("dtype",)),
)  # fmt: skip
"""The rows of this file."""
