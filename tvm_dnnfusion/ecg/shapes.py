"""Shapes and dtypes of what an operator makes, without TVM.

Used by the graph builder and by rewriting, which make ops that Relax has not seen. A table of
functions, one per calling shape; convolutions, pools and norms are in `shapes_nn.py`. Agrees with
Relax's own inference (tests/ecg/test_shapes.py compares them kind by kind).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod
from typing import NoReturn

from tvm_dnnfusion.ecg.graph import Arg, Attr, GraphError, Lit, Ref, Tensor
from tvm_dnnfusion.ecg.signatures import BINARY, COMPARE, PREDICATES, REDUCE, UNARY

Shape = tuple[int, ...]
Result = tuple[tuple[Shape, str], ...]
"""(shape in elements, dtype) of each output."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operator call, with readers that raise GraphError naming the op."""

    kind: str
    args: tuple[Arg, ...]
    attrs: Mapping[str, Attr]
    tensors: Mapping[str, Tensor]

    def fail(self, why: str) -> NoReturn:
        """Raise GraphError."""
        raise GraphError(f"{self.kind}: {why}")

    def tensor(self, i: int) -> Tensor:
        """The i-th argument, which must be a tensor."""
        arg = self.args[i] if i < len(self.args) else None
        if not isinstance(arg, Ref):
            self.fail(f"argument {i} should be a tensor, not {arg!r}")
        return self.tensors[arg.tensor]

    def many(self, i: int) -> tuple[Tensor, ...]:
        """The i-th argument, which must be a tuple of tensors."""
        arg = self.args[i]
        if not isinstance(arg, tuple) or not all(isinstance(a, Ref) for a in arg) or not arg:
            self.fail(f"argument {i} should be a tuple of tensors, not {arg!r}")
        return tuple(self.tensors[a.tensor] for a in arg if isinstance(a, Ref))

    def shape(self, i: int) -> Shape:
        """Shape of the i-th argument."""
        return self.tensor(i).dims

    def dtype(self, i: int) -> str:
        """Element type of the i-th argument."""
        return self.tensor(i).dtype

    def numbers(self, i: int) -> Shape:
        """The i-th argument as integers: a shape, or a tuple of scalars."""
        arg = self.args[i] if i < len(self.args) else None
        if isinstance(arg, Lit) and isinstance(arg.value, tuple):
            return tuple(int(v) for v in arg.value)  # type: ignore[arg-type]
        if isinstance(arg, tuple):
            return tuple(int(a.value) for a in arg if isinstance(a, Lit))  # type: ignore[arg-type]
        self.fail(f"argument {i} should be numbers, not {arg!r}")

    def scalar(self, i: int) -> float:
        """The i-th argument as a number."""
        arg = self.args[i] if i < len(self.args) else None
        if not isinstance(arg, Lit) or not isinstance(arg.value, (int, float)):
            self.fail(f"argument {i} should be a number, not {arg!r}")
        return arg.value

    def ints(self, name: str) -> Shape | None:
        """An attribute as integers; None where it is absent or None."""
        value = self.attrs.get(name)
        if value is None:
            return None
        items = value if isinstance(value, tuple) else (value,)
        return tuple(int(v) for v in items)  # type: ignore[arg-type]

    def int(self, name: str, default: int = 0) -> int:
        """An attribute as one integer."""
        value = self.attrs.get(name)
        return default if value is None else int(value)  # type: ignore[arg-type]

    def axis(self, value: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= value < rank:
            self.fail(f"axis {value} of a tensor with {rank} dimensions")
        return value % rank

    def axes(self, name: str, rank: int) -> Shape:
        """An attribute as axes counted from the front; None means all."""
        found = self.ints(name)
        return tuple(range(rank)) if found is None else tuple(self.axis(a, rank) for a in found)


def infer(
    kind: str, args: tuple[Arg, ...], attrs: Mapping[str, Attr], tensors: Mapping[str, Tensor]
) -> Result:
    """Shape and dtype of each output of an operator call.

    Raises
    ------
    GraphError naming the operator, when it is unknown or the operands do not fit.
    """
    from tvm_dnnfusion.ecg.shapes_nn import NN_RULES  # it imports Call from here

    rule = _RULES.get(kind) or NN_RULES.get(kind)
    if rule is None:
        raise GraphError(f"{kind}: no shape rule for this operator")
    return rule(Call(kind, args, attrs, tensors))


def broadcast(call: Call, *shapes: Shape) -> Shape:
    """The shape that operands broadcast to."""
    rank = max(map(len, shapes))
    out = []
    for dims in zip(*((1,) * (rank - len(s)) + s for s in shapes)):
        wide = {d for d in dims if d != 1}
        if len(wide) > 1:
            call.fail(f"shapes {', '.join(map(str, shapes))} do not broadcast")
        out.append(wide.pop() if wide else 1)
    return tuple(out)


def same(call: Call) -> Result:
    """One output like the first operand."""
    return ((call.shape(0), call.dtype(0)),)


def same_dtype(call: Call, *tensors: Tensor) -> str:
    """The common dtype of operands."""
    kinds = {t.dtype for t in tensors}
    if len(kinds) != 1:
        call.fail(f"operands of different types: {', '.join(sorted(kinds))}")
    return kinds.pop()


def _binary(call: Call) -> Result:
    dtype = same_dtype(call, call.tensor(0), call.tensor(1))
    return ((broadcast(call, call.shape(0), call.shape(1)), dtype),)


def _compare(call: Call) -> Result:
    return ((_binary(call)[0][0], "bool"),)


def _where(call: Call) -> Result:
    dtype = same_dtype(call, call.tensor(1), call.tensor(2))
    return ((broadcast(call, *(call.shape(i) for i in range(3))), dtype),)


def _fma(call: Call) -> Result:
    dtype = same_dtype(call, *(call.tensor(i) for i in range(3)))
    return ((broadcast(call, *(call.shape(i) for i in range(3))), dtype),)


def reduced(call: Call, shape: Shape, axes: Shape) -> Shape:
    """The shape after reduction over axes, by the attribute `keepdims`."""
    if call.attrs.get("keepdims"):
        return tuple(1 if i in axes else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def _reduce(call: Call) -> Result:
    shape = call.shape(0)
    return ((reduced(call, shape, call.axes("axis", len(shape))), call.dtype(0)),)


def _argreduce(call: Call) -> Result:
    return ((_reduce(call)[0][0], "int64"),)


def _median(call: Call) -> Result:
    (out,) = _reduce(call)
    single = len(call.axes("axis", len(call.shape(0)))) == 1 and call.attrs.get("axis") is not None
    return (out, (out[0], "int64")) if single else (out,)


def _scan(call: Call) -> Result:
    shape = call.shape(0)
    flat = call.attrs.get("axis") is None
    return (((prod(shape),) if flat else shape, str(call.attrs.get("dtype") or call.dtype(0))),)


def _matmul(call: Call) -> Result:
    a, b = call.shape(0), call.shape(1)
    if not a or not b:
        call.fail("operands need at least one dimension")
    rows = a[-2:-1]
    cols = b[-1:] if len(b) > 1 else ()
    if a[-1] != b[max(0, len(b) - 2)]:
        call.fail(f"reduction extents of {a} and {b} differ")
    dtype = call.attrs.get("out_dtype") or same_dtype(call, call.tensor(0), call.tensor(1))
    return ((broadcast(call, a[:-2], b[:-2]) + rows + cols, str(dtype)),)


def _outer(call: Call) -> Result:
    return ((call.shape(0) + call.shape(1), call.dtype(0)),)


def _einsum(call: Call) -> Result:
    text = str(call.attrs["subscripts"]).replace(" ", "")
    operands = call.many(0)
    left, _, right = text.partition("->")
    terms = left.split(",")
    extents: dict[str, int] = {}
    for term, t in zip(terms, operands):
        if len(term) != len(t.dims):
            call.fail(f"subscripts {term!r} for shape {t.dims}")
        extents.update(zip(term, t.dims))
    if "->" not in text:
        right = "".join(c for c in sorted(extents) if left.count(c) == 1)
    return ((tuple(extents[c] for c in right), operands[0].dtype),)


def _reshape(call: Call) -> Result:
    source, target = call.shape(0), list(call.numbers(1))
    target = [
        source[i] if d == 0 and i < len(source) and prod(source) else d
        for i, d in enumerate(target)
    ]
    if -1 in target:
        known = prod(d for d in target if d != -1)
        target[target.index(-1)] = prod(source) // known if known else 0
    if prod(target) != prod(source):
        call.fail(f"{source} has not as many elements as {tuple(target)}")
    return ((tuple(target), call.dtype(0)),)


def _broadcast_to(call: Call) -> Result:
    target = call.numbers(1)
    if broadcast(call, call.shape(0), target) != target:
        call.fail(f"{call.shape(0)} does not broadcast to {target}")
    return ((target, call.dtype(0)),)


def _collapse(call: Call) -> Result:
    target = call.shape(1) if call.kind.endswith("like") else call.numbers(1)
    return ((target, call.dtype(0)),)


def _permute(call: Call) -> Result:
    shape = call.shape(0)
    axes = call.ints("axes")
    order = (
        tuple(reversed(range(len(shape))))
        if axes is None
        else tuple(call.axis(a, len(shape)) for a in axes)
    )
    if sorted(order) != list(range(len(shape))):
        call.fail(f"axes {axes} are no permutation of {len(shape)} dimensions")
    return ((tuple(shape[a] for a in order), call.dtype(0)),)


def _expand_dims(call: Call) -> Result:
    shape, axes = call.shape(0), call.ints("axis") or ()
    rank = len(shape) + len(axes)
    new = {call.axis(a, rank) for a in axes}
    rest = iter(shape)
    return ((tuple(1 if i in new else next(rest) for i in range(rank)), call.dtype(0)),)


def _squeeze(call: Call) -> Result:
    shape = call.shape(0)
    if call.attrs.get("axis") is None:
        return ((tuple(d for d in shape if d != 1), call.dtype(0)),)
    axes = call.axes("axis", len(shape))
    if any(shape[a] != 1 for a in axes):
        call.fail(f"axes {axes} of {shape} are not all 1")
    return ((tuple(d for i, d in enumerate(shape) if i not in axes), call.dtype(0)),)


def _flatten(call: Call) -> Result:
    return (((prod(call.shape(0)),), call.dtype(0)),)


def _batch_flatten(call: Call) -> Result:
    shape = call.shape(0)
    return (((shape[0], prod(shape[1:])), call.dtype(0)),)


def _concat(call: Call) -> Result:
    parts = call.many(0)
    first = parts[0].dims
    axis = call.axis(call.int("axis"), len(first))
    for p in parts:
        if len(p.dims) != len(first) or any(
            a != b for i, (a, b) in enumerate(zip(p.dims, first)) if i != axis
        ):
            call.fail(f"parts {first} and {p.dims} differ outside of axis {axis}")
    total = sum(p.dims[axis] for p in parts)
    return ((first[:axis] + (total,) + first[axis + 1 :], same_dtype(call, *parts)),)


def _stack(call: Call) -> Result:
    parts = call.many(0)
    if len({p.dims for p in parts}) != 1:
        call.fail("parts have different shapes")
    shape = parts[0].dims
    axis = call.axis(call.int("axis"), len(shape) + 1)
    return ((shape[:axis] + (len(parts),) + shape[axis:], same_dtype(call, *parts)),)


def split_points(total: int, spec: Attr) -> list[tuple[int, int]]:
    """(begin, end) of each part, by a number of sections or by indices."""
    if isinstance(spec, tuple):
        cuts = [0, *(min(max(int(v), 0), total) for v in spec), total]  # type: ignore[arg-type]
        return [(a, max(a, b)) for a, b in pairwise(cuts)]
    step = ceil(total / int(spec))  # type: ignore[arg-type]
    return [(i, min(i + step, total)) for i in range(0, total, step)]


def _split(call: Call) -> Result:
    shape = call.shape(0)
    axis = call.axis(call.int("axis"), len(shape))
    parts = split_points(shape[axis], call.attrs["indices_or_sections"])
    return tuple((shape[:axis] + (e - b,) + shape[axis + 1 :], call.dtype(0)) for b, e in parts)


def slices(call: Call) -> tuple[slice, ...]:
    """A strided_slice as one numpy slice per dimension (negative bounds resolved)."""
    shape = call.shape(0)
    axes, begin, end = call.numbers(1), call.numbers(2), call.numbers(3)
    steps = call.numbers(4) if len(call.args) > 4 else (1,) * len(axes)
    out: list[slice] = [slice(0, d, 1) for d in shape]
    for a, b, e, s in zip(axes, begin, end, steps):
        axis = call.axis(a, len(shape))
        start, stop, step = slice(b, e, s).indices(shape[axis])
        out[axis] = slice(start, None if stop < 0 else stop, step)
    return tuple(out)


def _strided_slice(call: Call) -> Result:
    dims = tuple(len(range(*s.indices(d))) for s, d in zip(slices(call), call.shape(0)))
    return ((dims, call.dtype(0)),)


def _take(call: Call) -> Result:
    shape, index = call.shape(0), () if isinstance(call.args[1], Lit) else call.shape(1)
    if call.attrs.get("axis") is None and len(shape) != 1:
        call.fail(f"needs an axis for shape {shape}")
    axis = call.axis(call.int("axis"), len(shape))
    return ((shape[:axis] + index + shape[axis + 1 :], call.dtype(0)),)


def _gather_elements(call: Call) -> Result:
    return ((call.shape(1), call.dtype(0)),)


def _gather_nd(call: Call) -> Result:
    data, index = call.shape(0), call.shape(1)
    skip = call.int("batch_dims") + index[-1]
    if skip > len(data):
        call.fail(f"indices {index} reach beyond the dimensions of {data}")
    return ((index[:-1] + data[skip:], call.dtype(0)),)


def _tile(call: Call) -> Result:
    shape, repeats = call.shape(0), call.ints("repeats") or ()
    rank = max(len(shape), len(repeats))
    full = (1,) * (rank - len(shape)) + shape
    times = (1,) * (rank - len(repeats)) + repeats
    return ((tuple(a * b for a, b in zip(full, times)), call.dtype(0)),)


def _repeat(call: Call) -> Result:
    shape, times = call.shape(0), call.int("repeats", 1)
    if call.attrs.get("axis") is None:
        return (((prod(shape) * times,), call.dtype(0)),)
    axis = call.axis(call.int("axis"), len(shape))
    return ((shape[:axis] + (shape[axis] * times,) + shape[axis + 1 :], call.dtype(0)),)


def _filled(call: Call) -> Result:
    if call.kind.endswith("_like"):
        return ((call.shape(0), str(call.attrs.get("dtype") or call.dtype(0))),)
    return ((call.numbers(0), str(call.attrs["dtype"])),)


def _arange(call: Call) -> Result:
    start, end, step = (call.scalar(i) for i in range(3))
    return (((max(0, ceil((end - start) / step)),), str(call.attrs["dtype"])),)


def _one_hot(call: Call) -> Result:
    index, value = call.shape(0), call.args[1]
    axis = call.axis(call.int("axis", -1), len(index) + 1)
    dtype = value.kind if isinstance(value, Lit) else call.dtype(1)
    return ((index[:axis] + (call.int("depth"),) + index[axis:], dtype),)


def _topk(call: Call) -> Result:
    shape = call.shape(0)
    axis = call.axis(call.int("axis", -1), len(shape))
    k = call.int("k") if call.int("k") > 0 else shape[axis]
    out = shape[:axis] + (k,) + shape[axis + 1 :]
    both = ((out, call.dtype(0)), (out, str(call.attrs["dtype"])))
    return {"both": both, "values": both[:1], "indices": both[1:]}[str(call.attrs["ret_type"])]


def _astype(call: Call) -> Result:
    return ((call.shape(0), str(call.attrs["dtype"])),)


def _predicate(call: Call) -> Result:
    return ((call.shape(0), "bool"),)


_RULES: dict[str, Callable[[Call], Result]] = {
    **dict.fromkeys(UNARY, same),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(COMPARE, _compare),
    **dict.fromkeys(PREDICATES, _predicate),
    **dict.fromkeys(REDUCE, _reduce),
    **dict.fromkeys(("argmax", "argmin"), _argreduce),
    **dict.fromkeys(("cumsum", "cumprod"), _scan),
    **dict.fromkeys(
        ("clip", "flip", "tril", "triu", "sort", "scatter_elements", "scatter_nd"), same
    ),
    **dict.fromkeys(("full", "zeros", "ones", "full_like", "zeros_like", "ones_like"), _filled),
    **dict.fromkeys(("collapse_sum_to", "collapse_sum_like"), _collapse),
    "median": _median,
    "where": _where,
    "ewise_fma": _fma,
    "astype": _astype,
    "argsort": _astype,
    "matmul": _matmul,
    "outer": _outer,
    "einsum": _einsum,
    "reshape": _reshape,
    "broadcast_to": _broadcast_to,
    "permute_dims": _permute,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "flatten": _flatten,
    "nn.batch_flatten": _batch_flatten,
    "concat": _concat,
    "stack": _stack,
    "split": _split,
    "strided_slice": _strided_slice,
    "take": _take,
    "gather_elements": _gather_elements,
    "gather_nd": _gather_nd,
    "tile": _tile,
    "repeat": _repeat,
    "arange": _arange,
    "one_hot": _one_hot,
    "topk": _topk,
}
