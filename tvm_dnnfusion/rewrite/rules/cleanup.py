"""Identities, movements that cancel, and other ops that do nothing.

    A * 1, A + 0, max(A, A)                  ->  A
    transpose(transpose(A))                  ->  A, or one transpose
    reshape(reshape(A)), squeeze, flatten    ->  one reshape
    concat of one, slice of all, dropout     ->  A
    f(concat(A, B))                          ->  concat(f(A), f(B))

All exact. The movements are composed into one form (reshape, permute_dims) so that pairs of
different names cancel too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tvm_dnnfusion.ecg.graph import Lit, Ref
from tvm_dnnfusion.ecg.shapes import Call, slices
from tvm_dnnfusion.rewrite.guards import nonnegative
from tvm_dnnfusion.rewrite.rule import Family, Guard, Miss, Rule, Spec
from tvm_dnnfusion.rewrite.site import Site

Result = Mapping[str, str] | Miss | None
ACTIVATIONS = tuple(
    f"nn.{k}" for k in ("relu", "leakyrelu", "gelu", "gelu_tanh", "silu", "softplus")
) + ("clip", "sigmoid", "tanh")
RESHAPES = ("reshape", "expand_dims", "squeeze", "flatten", "nn.batch_flatten")


def _order(s: Site, tensor: str, axes: object) -> tuple[int, ...]:
    rank = len(s.work.tensors[tensor].dims)
    if axes is None:
        return tuple(reversed(range(rank)))
    return tuple(int(a) % rank for a in axes)  # type: ignore[attr-defined]


def _transpose(s: Site) -> Result:
    """Identity, moving only extents of 1 (a reshape), or after another transpose."""
    (source,) = s.root.inputs
    order = _order(s, source, s.root.attr("axes"))
    shape = s.work.tensors[source].dims
    inner = s.work.producer.get(source)
    if inner is not None and inner.kind == "permute_dims" and inner.barrier is None:
        first = _order(s, inner.inputs[0], inner.attr("axes"))
        both = tuple(first[a] for a in order)
        return {s.root.output: s.draft.op("permute_dims", inner.inputs[0], axes=both)}
    if order == tuple(range(len(order))):
        return {s.root.output: source}
    wide = [a for a in order if shape[a] != 1]
    if wide == sorted(wide):
        target = s.work.tensors[s.root.output].dims
        return {s.root.output: s.draft.op("reshape", source, Lit("shape", target))}
    return None


def _reshape(s: Site) -> Result:
    """Every reshape of reshapes as one, and none where the shape stays."""
    source = s.root.inputs[0]
    target = s.work.tensors[s.root.output].dims
    inner = s.work.producer.get(source)
    if inner is not None and inner.kind in RESHAPES and inner.barrier is None:
        source = inner.inputs[0]
    if s.work.tensors[source].dims == target:
        return {s.root.output: source}
    if source == s.root.inputs[0] and s.root.kind == "reshape":
        return None
    return {s.root.output: s.draft.op("reshape", source, Lit("shape", target))}


def _slice(s: Site) -> Result:
    source = s.root.inputs[0]
    if s.work.tensors[source].dims == s.work.tensors[s.root.output].dims and all(
        p.step == 1 for p in slices(Call(s.root.kind, s.root.args, {}, s.work.tensors))
    ):
        return {s.root.output: source}
    return None


def _slice_of_slice(s: Site) -> Result:
    """Two slices with steps of 1 as one."""
    inner = s.work.producer.get(s.root.inputs[0])
    if inner is None or inner.kind != "strided_slice" or inner.barrier is not None:
        return None
    parts = [slices(Call(op.kind, op.args, {}, s.work.tensors)) for op in (inner, s.root)]
    if any(p.step != 1 for ps in parts for p in ps):
        return Miss("a step other than 1")
    begin = tuple(a.start + b.start for a, b in zip(*parts))
    shape = s.work.tensors[s.root.output].dims
    end = tuple(b + d for b, d in zip(begin, shape))
    out = s.draft.op(
        "strided_slice", inner.inputs[0], tuple(range(len(shape))), begin, end, (1,) * len(shape)
    )
    return {s.root.output: out}


def _take_of_one(s: Site) -> Result:
    """take(A, one known index): exporters write x[i] so. A slice can be read where it lies."""
    source, index = s.root.inputs[:2]
    at, dims = s.work.constants.get(index), s.work.tensors[source].dims
    if at is None or at.size != 1 or not dims:
        return None
    axis = s.root.attr("axis")
    if axis is None and len(dims) > 1:
        return Miss("it takes from the flattened tensor")
    axis = int(axis or 0) % len(dims)  # type: ignore[arg-type]
    begin = int(at.reshape(-1)[0])
    if not 0 <= begin < dims[axis]:
        return Miss(f"the index {begin} is not one of {dims[axis]}")
    part = s.draft.op("strided_slice", source, (axis,), (begin,), (begin + 1,), (1,))
    return {
        s.root.output: s.draft.op("reshape", part, Lit("shape", s.work.tensors[s.root.output].dims))
    }


def _concat(s: Site) -> Result:
    """concat of one; concat of concats along the same axis."""
    (parts,) = s.root.args
    assert isinstance(parts, tuple)
    names = [p.tensor for p in parts if isinstance(p, Ref)]
    if len(names) == 1:
        return {s.root.output: names[0]}
    rank = len(s.work.tensors[names[0]].dims)
    axis = int(s.root.attr("axis", 0)) % rank  # type: ignore[arg-type]
    whole = _reassembled(s, names, axis)
    return {s.root.output: whole} if whole else None


def _reassembled(s: Site, names: list[str], axis: int) -> str | None:
    """The source of a split whose parts are put together again."""
    split = s.work.producer.get(names[0])
    if split is None or split.kind != "split" or tuple(names) != split.outputs:
        return None
    source = split.inputs[0]
    at = int(split.attr("axis", 0)) % len(s.work.tensors[source].dims)  # type: ignore[arg-type]
    return source if at == axis else None


def _before_concat(s: Site) -> Result:
    """An activation of a joined tensor: each part's producer can do it at its end."""
    joined = s.root.inputs[0]
    concat = s.work.producer.get(joined)
    if concat is None or concat.kind != "concat" or concat.barrier is not None:
        return None
    if not s.work.single(joined):
        return Miss("another op reads the joined tensor")
    parts = tuple(s.draft.put(s.root, t) for t in concat.inputs)
    axis = concat.attr("axis", 0)
    return {s.root.output: s.draft.op("concat", parts, axis=axis)}


def _split_of_one(s: Site) -> Result:
    return {s.root.outputs[0]: s.root.inputs[0]} if len(s.root.outputs) == 1 else None


def _dropout(s: Site) -> Result:
    if s.work.used(s.root.outputs[1]):
        return Miss("its mask is read")
    return {s.root.outputs[0]: s.root.inputs[0]}


def _same(s: Site) -> Result:
    """Movements and casts that give their operand back."""
    a, b = s.work.tensors[s.root.inputs[0]], s.work.tensors[s.root.output]
    return {s.root.output: s.root.inputs[0]} if (a.shape, a.dtype) == (b.shape, b.dtype) else None


def _pad(s: Site) -> Result:
    return _same(s) if not any(s.root.ints("pad_width")) else None


def _clip_is_relu(s: Site) -> bool:
    dtype = s.dtype("A")
    top = float(np.finfo(dtype).max) if dtype.startswith("float") else np.inf
    return float(s.literal("lo")) == 0 and float(s.literal("hi")) >= top


_BOOL = {"A": Spec(dtype="bool", low=0, high=2)}

RULES = (
    Rule(
        "compose-transposes",
        Family.CLEANUP,
        "transpose(transpose(A, p), q)",
        "transpose(A, p q), A, or a reshape",
        program=_transpose,
        kinds=("permute_dims",),
        always=True,
        reassociates=False,
    ),
    Rule(
        "compose-reshapes",
        Family.CLEANUP,
        "reshape(reshape(A))",
        "reshape(A), or A",
        program=_reshape,
        kinds=RESHAPES,
        always=True,
        reassociates=False,
        note="expand_dims, squeeze, flatten and batch_flatten become reshape.",
    ),
    Rule(
        "slice-of-all",
        Family.CLEANUP,
        "slice(A, everything)",
        "A",
        program=_slice,
        kinds=("strided_slice",),
        always=True,
        reassociates=False,
    ),
    Rule(
        "compose-slices",
        Family.CLEANUP,
        "slice(slice(A))",
        "slice(A)",
        program=_slice_of_slice,
        kinds=("strided_slice",),
        always=True,
        reassociates=False,
    ),
    Rule(
        "take-of-one",
        Family.CLEANUP,
        "take(A, i, axis=x)",
        "reshape(slice(A, i, i + 1, axis=x))",
        program=_take_of_one,
        kinds=("take",),
        always=True,
        reassociates=False,
    ),
    Rule(
        "concat-of-parts",
        Family.CLEANUP,
        "concat(A) or concat(split(A))",
        "A",
        program=_concat,
        kinds=("concat",),
        always=True,
        reassociates=False,
    ),
    Rule(
        "activation-before-concat",
        Family.CLEANUP,
        "f(concat(A, B))",
        "concat(f(A), f(B))",
        program=_before_concat,
        kinds=ACTIVATIONS,
        always=True,
        reassociates=False,
        note="For activations that nothing but the joined tensor feeds.",
    ),
    Rule(
        "split-of-one",
        Family.CLEANUP,
        "split(A, 1)",
        "A",
        program=_split_of_one,
        kinds=("split",),
        always=True,
        reassociates=False,
    ),
    Rule(
        "dropout",
        Family.CLEANUP,
        "dropout(A)",
        "A",
        program=_dropout,
        kinds=("nn.dropout",),
        always=True,
        reassociates=False,
    ),
    Rule(
        "cast-to-same",
        Family.CLEANUP,
        "astype(A, its type)",
        "A",
        program=_same,
        kinds=("astype", "broadcast_to", "tile", "repeat"),
        always=True,
        reassociates=False,
    ),
    Rule(
        "pad-by-nothing",
        Family.CLEANUP,
        "pad(A, 0)",
        "A",
        program=_pad,
        kinds=("nn.pad",),
        always=True,
        reassociates=False,
    ),
    Rule("add-zero", Family.CLEANUP, "A + 0", "A", always=True, reassociates=False),
    Rule("subtract-zero", Family.CLEANUP, "A - 0", "A", always=True, reassociates=False),
    Rule("multiply-one", Family.CLEANUP, "A * 1", "A", always=True, reassociates=False),
    Rule("divide-one", Family.CLEANUP, "A / 1", "A", always=True, reassociates=False),
    Rule("negate-twice", Family.CLEANUP, "-(-A)", "A", always=True, reassociates=False),
    Rule("multiply-minus-one", Family.CLEANUP, "A * -1", "-A", always=True, reassociates=False),
    Rule("zero-minus", Family.CLEANUP, "0 - A", "-A", always=True, reassociates=False),
    Rule(
        "not-twice",
        Family.CLEANUP,
        "lnot(lnot(A))",
        "A",
        always=True,
        reassociates=False,
        guards=(Guard("A must be of bool: of 5 it is 1", lambda s: s.dtype("A") == "bool"),),
        example=_BOOL,
        near_miss={"A": Spec(dtype="int32", low=-9, high=9)},
    ),
    Rule(
        "invert-twice",
        Family.CLEANUP,
        "~(~A)",
        "A",
        always=True,
        reassociates=False,
        example={"A": Spec(dtype="int32", low=-9, high=9)},
    ),
    Rule(
        "idempotent",
        Family.CLEANUP,
        "idempotent(idempotent(A))",
        "idempotent(A)",
        always=True,
        reassociates=False,
        note="relu, abs, floor, ceil, round, trunc, sign.",
    ),
    Rule(
        "abs-of-nonnegative",
        Family.CLEANUP,
        "abs(A)",
        "A",
        guards=(nonnegative("A"),),
        always=True,
        reassociates=False,
        example={"A": "exp(B)"},
        near_miss={},
    ),
    Rule(
        "relu-of-nonnegative",
        Family.CLEANUP,
        "relu(A)",
        "A",
        guards=(nonnegative("A"),),
        always=True,
        reassociates=False,
        example={"A": "exp(B)"},
        near_miss={},
    ),
    Rule(
        "maximum-zero-is-relu",
        Family.CLEANUP,
        "maximum(A, 0)",
        "relu(A)",
        always=True,
        reassociates=False,
    ),
    Rule(
        "clip-is-relu",
        Family.CLEANUP,
        "clip(A, lo, hi)",
        "relu(A)",
        always=True,
        guards=(Guard("the bounds must be 0 and the largest number", _clip_is_relu),),
        reassociates=False,
        example={"lo": 0.0, "hi": float("inf")},
        near_miss={"lo": 0.0, "hi": 6.0},
    ),
    Rule(
        "where-same",
        Family.CLEANUP,
        "where(C, A, A)",
        "A",
        always=True,
        reassociates=False,
        example={"C": Spec(dtype="bool", low=0, high=2)},
    ),
    Rule(
        "flip-twice",
        Family.CLEANUP,
        "flip(flip(A, axis=a), axis=a)",
        "A",
        always=True,
        reassociates=False,
        example={"a": 1},
    ),
)
