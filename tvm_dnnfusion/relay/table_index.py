"""Rows for operators that look elements up, sort them, or write them by index.

take(mode)   clip: indices are clamped;  wrap: their remainder;  fast: as they are
gather_nd    indices [M, ...] of Relay -> [..., M] of Relax
"""

from __future__ import annotations

import string
from typing import Any

from tvm import relax

from tvm_dnnfusion.relay.entry import Call, Entry, Unsupported, Value, shape_of_axis, unpacked

_KEEPS = {"index_rank": "the operand's shape says it"}
_MODES = ("update", "add", "mul", "min", "max")


def _take(call: Call) -> Value:
    """Relay's default mode is clip, Relax's fast."""
    x, indices = call.x, call.args[1]
    axis, batch = call.get("axis"), int(call.get("batch_dims", 0))
    if axis is None:
        x, at = call.do("reshape", x, [-1]), 0
    else:
        at = call.axis(x)
    mode = call.get("mode", "clip")
    if not call.dtype(indices).startswith(("int", "uint")):
        indices = call.do("astype", indices, "int32")
    if batch == 0:
        return call.do("take", x, indices, at, mode=mode)
    if call.rank(indices) == call.rank(x) and batch == at == call.rank(x) - 1:
        return call.do("gather_elements", x, _in_range(call, indices, call.dims(x)[at], mode), at)
    raise Unsupported(f"batch_dims {batch} along axis {at}")


def _in_range(call: Call, indices: relax.Expr, extent: int, mode: str) -> relax.Expr:
    """Indices that the mode clamps or wraps; gather_elements has no modes."""
    if mode == "clip":
        low = call.do("maximum", indices, call.scalar(0, indices))
        return call.do("minimum", low, call.scalar(extent - 1, indices))
    if mode == "wrap":
        return call.do("floor_mod", indices, call.scalar(extent, indices))
    return indices


def _gather(call: Call) -> Value:
    return call.do("gather_elements", call.x, call.args[1], call.axis(call.x))


def _last(call: Call, indices: relax.Expr) -> relax.Expr:
    """The first axis of Relay's indices, which holds the coordinates, moved to the end."""
    rank = call.rank(indices)
    return indices if rank == 1 else call.do("permute_dims", indices, [*range(1, rank), 0])


def _gather_nd(call: Call) -> Value:
    batch = int(call.get("batch_dims", 0))
    indices = call.do("astype", call.args[1], "int64")
    return call.do("gather_nd", call.x, _last(call, indices), batch)


def _scatter_elements(call: Call) -> Value:
    return call.do(
        "scatter_elements", *call.args, call.axis(call.x), call.get("reduction", "update")
    )


def _scatter_nd(call: Call) -> Value:
    data, indices, updates = call.args
    wide = call.do("astype", indices, "int64")
    return call.do("scatter_nd", data, _last(call, wide), updates, call.get("mode", "update"))


def _one_hot(call: Call) -> Value:
    """on where the index is that of the place, off elsewhere."""
    indices, on, off = call.args
    depth, axis, dtype = int(call.attrs["depth"]), int(call.get("axis", -1)), call.attrs["dtype"]
    return one_hot(call, indices, on, off, depth, axis, dtype)


def one_hot(
    call: Call, indices: Any, on: Any, off: Any, depth: int, axis: int, dtype: str
) -> relax.Expr:
    """[..., depth, ...] of dtype."""
    rank = call.rank(indices)
    if not -rank - 1 <= axis <= rank or depth < 1:
        raise Unsupported(f"{depth} places at axis {axis}")
    axis = axis % (rank + 1)
    place = call.places(depth, rank + 1, axis)
    spread = call.do("expand_dims", indices, [axis])
    hit = call.do("equal", spread, call.const(place, call.dtype(indices)))
    return call.do("where", hit, *(call.do("astype", v, dtype) for v in (on, off)))


def _dyn_one_hot(call: Call) -> Value:
    indices, on, off = call.args[:3]
    depth = int(call.known(3, "the depth"))
    return one_hot(call, indices, on, off, depth, int(call.get("axis", -1)), call.attrs["dtype"])


def _sort(call: Call) -> Value:
    return call.do("sort", call.x, call.axis(call.x), not call.get("is_ascend", True))


def _argsort(call: Call) -> Value:
    dtype, down = call.get("dtype") or "int32", not call.get("is_ascend", True)
    if dtype in ("int32", "int64"):
        return call.do("argsort", call.x, call.axis(call.x), down, dtype)
    found = call.do("argsort", call.x, call.axis(call.x), down, "int32")
    return call.do("astype", found, dtype)


def _topk(call: Call) -> Value:
    k = call.attrs.get("k")
    return _topk_of(call, int(call.known(1, "k")) if k is None else int(k))


def _dyn_topk(call: Call) -> Value:
    return _topk_of(call, int(call.known(1, "k")))


def _topk_of(call: Call, k: int) -> Value:
    axis, kind = call.axis(call.x, default=-1), call.get("ret_type", "both")
    k = k if k > 0 else call.dims(call.x)[axis]
    dtype = call.get("dtype") or "int32"
    taken = dtype if dtype in ("int32", "int64") else "int32"
    made = call.do("topk", call.x, k, axis, kind, not call.get("is_ascend", False), taken)
    parts = unpacked(call, made) if kind == "both" else (made,)
    if kind != "values" and dtype != taken:
        parts = (*parts[:-1], call.do("astype", parts[-1], dtype))
    return parts if kind == "both" else parts[0]


def _meshgrid(call: Call) -> Value:
    made = call.do("meshgrid", [*call.args[0]], call.get("indexing", "ij"))
    return unpacked(call, made)


def _einsum(call: Call) -> Value:
    equation = str(call.attrs["equation"]).replace(" ", "")
    if set(equation) - set(string.ascii_letters + ",->"):
        raise Unsupported(f"the equation {equation!r}")
    return call.do("einsum", [*call.args[0]], equation)


def _sequence_mask(call: Call) -> Value:
    """Places from each sequence's length on get the mask's value."""
    x, lengths = call.args
    axis = call.axis(x)
    if axis > 1:
        raise Unsupported(f"axis {axis}")
    rank, dtype = call.rank(x), call.dtype(lengths)
    place = call.places(call.dims(x)[axis], rank, axis)
    spread = call.do("reshape", lengths, shape_of_axis(rank, 1 - axis, call.dims(lengths)[0]))
    inside = call.do("less", call.const(place, dtype), spread)
    return call.do("where", inside, x, call.scalar(float(call.get("mask_value", 0.0)), x))


def _searchsorted(call: Call) -> Value:
    if call.rank(call.x) != 1:
        raise Unsupported("the sorted sequence has more than one axis")
    found = call.do("bucketize", call.args[1], call.x, True, bool(call.get("right", False)))
    return call.do("astype", found, call.get("dtype") or "int32")


def _adv_index(call: Call) -> Value:
    data, *indices = call.args[0]
    return call.do("index_tensor", data, indices)


ENTRIES: tuple[Entry, ...] = (
    Entry("take", "take; gather_elements", _take, "TakeAttrs", used=("batch_dims", "axis"),
          must={"mode": ("clip", "wrap", "fast")}, note="the default mode is clip; Relax: fast"),
    Entry("gather", "gather_elements", _gather, "GatherAttrs", used=("axis",)),
    Entry("gather_nd", "permute_dims, gather_nd", _gather_nd, "GatherNDAttrs",
          used=("batch_dims",), ignored=_KEEPS,
          note="coordinates lie along the first axis; Relax: the last"),
    Entry("scatter_elements", "scatter_elements", _scatter_elements, "ScatterElementsAttrs",
          used=("axis",), must={"reduction": (*_MODES, "mean")}),
    Entry("scatter_nd", "permute_dims, scatter_nd", _scatter_nd, "ScatterNDAttrs",
          must={"mode": _MODES}, note="coordinates lie along the first axis; Relax: the last"),
    Entry("one_hot", "expand_dims, equal, where", _one_hot, "OneHotAttrs",
          used=("depth", "axis", "dtype")),
    Entry("dyn.one_hot", "expand_dims, equal, where", _dyn_one_hot, "OneHotAttrs",
          used=("axis", "dtype"), ignored={"depth": "the operand says it"},
          note="the depth must be a constant"),
    Entry("sort", "sort", _sort, "ArgsortAttrs", used=("axis", "is_ascend"),
          ignored={"dtype": "that of the operand"}),
    Entry("argsort", "argsort", _argsort, "ArgsortAttrs", used=("axis", "is_ascend", "dtype")),
    Entry("invert_permutation", "argsort", lambda c: c.do("argsort", c.x, 0, False, "int32")),
    Entry("topk", "topk", _topk, "TopkAttrs", used=("k", "axis", "is_ascend", "ret_type", "dtype")),
    Entry("dyn.topk", "topk", _dyn_topk, "TopkAttrs",
          used=("axis", "is_ascend", "ret_type", "dtype"), ignored={"k": "the operand says it"},
          note="k must be a constant"),
    Entry("searchsorted", "bucketize", _searchsorted, "SearchSortedAttrs", used=("right", "dtype"),
          note="of one axis"),
    Entry("meshgrid", "meshgrid", _meshgrid, "MeshgridAttrs", used=("indexing",)),
    Entry("einsum", "einsum", _einsum, "EinsumAttrs", used=("equation",)),
    Entry("sequence_mask", "less, where", _sequence_mask, "SequenceMaskAttrs",
          used=("mask_value", "axis")),
    Entry("adv_index", "index_tensor", _adv_index),
)  # fmt: skip
"""The rows of this file."""
