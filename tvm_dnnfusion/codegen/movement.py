"""Ops that move elements without arithmetic: their index maps vanish into the loads.

Reorganize, Shuffle, and the One-to-Many and One-to-One ops that only choose elements (DNNFusion,
PLDI'21, section 4.4, intra-block optimisation, figure 5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm import tirx

from tvm_dnnfusion.codegen import selection
from tvm_dnnfusion.codegen.pointwise import broadcast
from tvm_dnnfusion.codegen.value import Body, Index, Value
from tvm_dnnfusion.ecg.graph import Graph, Lit, Op

Dims = tuple[int, ...]


def regroup(shape: Dims, source: Dims, index: Index, body: Body) -> Index:
    """The index into `source` that has the row-major rank of `index` in `shape`.

    Both shapes are cut into the shortest runs of equal product, so that (64, 7, 7) against
    (64, 49) keeps the first index as it is and only merges the other two.
    """
    out: list[Any] = []
    i = j = 0
    while i < len(shape) or j < len(source):
        a, b, first, second = 1, 1, i, j
        while i == first or j == second or a != b:
            if i < len(shape) and (a <= b or j >= len(source)):
                a, i = a * shape[i], i + 1
            elif j < len(source):
                b, j = b * source[j], j + 1
            else:
                break
        out.extend(_split(_merge(shape[first:i], index[first:i]), source[second:j], body))
    return tuple(out)


def _merge(shape: Dims, index: Index) -> Any:
    linear: Any = None
    for n, i in zip(shape, index):
        if n != 1:
            linear = i if linear is None else linear * n + i
    return 0 if linear is None else linear


def _split(linear: Any, shape: Dims, body: Body) -> Index:
    if len(shape) == 1:
        return (0 if shape[0] == 1 else body.simplify(linear),)
    out: list[Any] = []
    stride = 1
    for k in range(len(shape) - 1, -1, -1):
        part = 0 if shape[k] == 1 else linear // stride
        if shape[k] != 1 and any(n != 1 for n in shape[:k]):
            part = part % shape[k]
        out.append(body.simplify(part) if not isinstance(part, int) else part)
        stride *= shape[k]
    return tuple(reversed(out))


def reshape(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value:
    """reshape, squeeze, expand_dims, flatten: elements keep their row-major rank."""
    source = inputs[0]
    memo: dict[Any, Index] = {}

    def at(body: Body, index: Index) -> Any:
        key = (id(body), *(i if isinstance(i, int) else id(i) for i in index))
        if key not in memo:
            memo[key] = regroup(shape, source.shape, index, body)
            body.keep.append((body, index))
        return body.read(source, memo[key])

    push = source.push
    forward = push and (lambda body, i: regroup(source.shape, shape, push(body, i), body))
    return Value(
        shape,
        source.dtype,
        at,
        resident=source.resident,
        push=forward or None,
        moved=source.moved or shape != source.shape,
    )


def permute(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value:
    """permute_dims(x; axes): out[i] = x[i permuted back]."""
    source = inputs[0]
    rank = len(source.shape)
    axes = op.ints("axes") or tuple(reversed(range(rank)))
    back = [tuple(a % rank for a in axes).index(k) for k in range(rank)]
    push = source.push

    def forward(body: Body, i: Index) -> Index:
        assert push is not None
        moved = push(body, i)
        return tuple(moved[a % rank] for a in axes)

    return Value(
        shape,
        source.dtype,
        lambda body, index: body.read(source, tuple(index[b] for b in back)),
        resident=source.resident,
        push=forward if push else None,
        moved=True,
    )


def expand(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value:
    """broadcast_to(x, shape)."""
    source = inputs[0]
    return Value(
        shape, source.dtype, lambda body, index: body.read(source, broadcast(index, source.shape))
    )


def concat(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value:
    """concat((x, y, ...); axis): each element comes from the operand that covers its place."""
    axis = int(op.attr("axis", 0) or 0) % len(shape)  # type: ignore[arg-type]

    def pick(body: Body, index: Index, k: int, start: int) -> Any:
        part = inputs[k]
        place = (*index[:axis], body.simplify(index[axis] - start), *index[axis + 1 :])
        if k == len(inputs) - 1:
            return body.read(part, place)
        end = start + part.shape[axis]
        return body.where(
            index[axis] < end, lambda: body.read(part, place), lambda: pick(body, index, k + 1, end)
        )

    return Value(shape, inputs[0].dtype, lambda body, index: pick(body, index, 0, 0))


def stack(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value:
    """stack((x, y, ...); axis): concatenation along a new axis."""
    axis = int(op.attr("axis", 0) or 0) % len(shape)  # type: ignore[arg-type]

    def pick(body: Body, index: Index, k: int) -> Any:
        place = (*index[:axis], *index[axis + 1 :])
        if k == len(inputs) - 1:
            return body.read(inputs[k], place)
        here = index[axis]
        return body.where(
            tirx.EQ(here, k) if not isinstance(here, int) else here == k,
            lambda: body.read(inputs[k], place),
            lambda: pick(body, index, k + 1),
        )

    return Value(shape, inputs[0].dtype, lambda body, index: pick(body, index, 0))


def _scalars(arg: Any) -> list[int]:
    return [int(a.value) for a in arg if isinstance(a, Lit)]


def strided_slice(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value | None:
    """strided_slice(x, axes, begin, end, strides), out-of-range bounds clamped as numpy does."""
    source = inputs[0]
    rank = len(source.shape)
    parts = [_scalars(a) for a in op.args[1:]]
    axes, begin = parts[0], parts[1]
    strides = parts[3] if len(parts) > 3 else [1] * len(axes)
    start, step = [0] * rank, [1] * rank
    for a, b, s in zip(axes, begin, strides):
        n = source.shape[a % rank]
        first = b + n if b < 0 else b
        start[a % rank] = min(max(first, 0), n) if s > 0 else min(max(first, -1), n - 1)
        step[a % rank] = s

    def at(body: Body, index: Index) -> Any:
        place = tuple(
            i if s == 0 and k == 1 else body.simplify(i * k + s)
            for i, s, k in zip(index, start, step)
        )
        return body.read(source, place)

    return Value(shape, source.dtype, at)


def split(op: Op, inputs: list[Value], shapes: list[Dims], graph: Graph) -> list[Value]:
    """split(x; indices_or_sections, axis): several values over one."""
    source = inputs[0]
    axis = int(op.attr("axis", 0) or 0) % len(source.shape)  # type: ignore[arg-type]
    out, start = [], 0
    for shape in shapes:

        def at(body: Body, index: Index, start: int = start) -> Any:
            place = index[axis] if start == 0 else body.simplify(index[axis] + start)
            return body.read(source, (*index[:axis], place, *index[axis + 1 :]))

        out.append(Value(shape, source.dtype, at))
        start += shape[axis]
    return out


def flip(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value:
    """flip(x; axis)."""
    source = inputs[0]
    axis = int(op.attr("axis", 0) or 0) % len(shape)  # type: ignore[arg-type]

    def at(body: Body, index: Index) -> Any:
        place = body.simplify(shape[axis] - 1 - index[axis])
        return body.read(source, (*index[:axis], place, *index[axis + 1 :]))

    return Value(shape, source.dtype, at)


def tile(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value:
    """tile(x; repeats): the index modulo the source's extent."""
    source = inputs[0]

    def at(body: Body, index: Index) -> Any:
        tail = index[len(index) - len(source.shape) :]
        dims = shape[len(shape) - len(source.shape) :]
        place = tuple(
            i if n == m else body.simplify(i % n) for i, n, m in zip(tail, source.shape, dims)
        )
        return body.read(source, place)

    return Value(shape, source.dtype, at)


def repeat(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value | None:
    """repeat(x; repeats, axis): each element several times along the axis."""
    source, axis = inputs[0], op.attr("axis")
    if axis is None:
        return None
    a, times = int(axis) % len(shape), int(op.attr("repeats", 1))  # type: ignore[arg-type]

    def at(body: Body, index: Index) -> Any:
        place = body.simplify(index[a] // times)
        return body.read(source, (*index[:a], place, *index[a + 1 :]))

    return Value(shape, source.dtype, at)


def pad(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value | None:
    """nn.pad(x; pad_width, pad_value, pad_mode="constant")."""
    if op.attr("pad_mode", "constant") != "constant":
        return None
    widths = op.ints("pad_width")
    before = widths[::2]
    if any(w < 0 for w in widths):
        return None
    return padded(inputs[0], shape, before, float(op.attr("pad_value", 0.0) or 0.0))  # type: ignore[arg-type]


def padded(source: Value, shape: Dims, before: tuple[int, ...], fill: Any) -> Value:
    """The source within a larger shape; around it `fill`, a number or an expression."""

    value = fill
    if isinstance(fill, (int, float)):
        value = tirx.const(fill if "float" in source.dtype else int(fill), source.dtype)

    def at(body: Body, index: Index) -> Any:
        inside: Any = True
        place = []
        for i, b, n, m in zip(index, before, source.shape, shape):
            place.append(i if b == 0 else body.simplify(i - b))
            if b > 0:
                inside = both(inside, i >= b)
            if b + n < m:
                inside = both(inside, i < b + n)
        return body.where(inside, lambda: body.read(source, tuple(place)), lambda: value)

    return Value(shape, source.dtype, at)


def both(a: Any, b: Any) -> Any:
    """The conjunction of two conditions; True is neutral."""
    return b if a is True else a if b is True else tirx.And(a, b)


SINGLE: Mapping[str, Callable[[Op, list[Value], Dims, Graph], Value | None]] = {
    **selection.KINDS,
    "reshape": reshape, "squeeze": reshape, "expand_dims": reshape, "flatten": reshape,
    "nn.batch_flatten": reshape, "permute_dims": permute, "broadcast_to": expand,
    "concat": concat, "stack": stack, "strided_slice": strided_slice, "flip": flip,
    "tile": tile, "repeat": repeat, "nn.pad": pad,
}  # fmt: skip

KINDS = frozenset(SINGLE) | {"split"}
VIEWS = frozenset({"reshape", "squeeze", "expand_dims", "flatten", "nn.batch_flatten"})
