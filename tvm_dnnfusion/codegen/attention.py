"""Attention as one block: scores, softmax and weighted values of some rows at a time.

    out = softmax(q k^T * scale + bias) v        q [B, S, H, D], k [B, T, H, D], v [B, T, H, E]

Beyond the paper, whose table 3 forbids the chain of two products. Scores lie with the queries as
lanes, so that the maximum and the sum of a row are vector operations, and only the queries have to
be transposed: keys enter the first product element by element, values the second as vectors. Only
some vectors of queries by T scores exist at a time. With f lanes and u vectors of queries:

    query [B, H, S/(u f), D, u, f] scaled,  key [B, H, T, D],  value [B, H, E/(v f), T, v, f]
    hold  [B, H, S/(u f), T, u, f] = key query + bias, then e^(hold - max)
    anchor[B, H, S, E/f, f] = sum over T of hold value,  out = anchor / sum
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from tvm_dnnfusion.codegen import attention_gpu, vecmath
from tvm_dnnfusion.codegen.params import Choices, divisors
from tvm_dnnfusion.codegen.stages import MAX, NotLowerable, Stages, lowest, zero
from tvm_dnnfusion.codegen.tiles import MAX_VECTORS, key_tile, product_limit, vectors_of
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute
from tvm_dnnfusion.codegen.wide import SHORT, WIDE, narrow, wide
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op

Dims = tuple[int, ...]


def attention(op: Op, inputs: list[Value], graph: Graph, stages: Stages) -> Value:
    """nn.attention and nn.attention_bias, without causal masks and windows; float32 inside."""
    if op.attr("causal_mask") is not None or op.attr("window_size") is not None:
        raise NotLowerable(f"{op.kind} with a causal mask or a window")
    dtype = inputs[0].dtype
    if dtype != WIDE and dtype not in SHORT:
        raise NotLowerable(f"{op.kind} of {dtype}")
    stages.anchor("attention")
    query, key, value, *bias = map(wide, inputs)
    return narrow(_attention(op, query, key, value, bias[0] if bias else None, stages), dtype)


def _attention(
    op: Op, query: Value, key: Value, value: Value, bias: Value | None, stages: Stages
) -> Value:
    """The operator over operands in float32."""
    lanes = stages.device.lanes(query.dtype)
    batch, rows, heads, depth = query.shape
    width, keys = value.shape[3], key.shape[1]
    scale = op.attr("scale")
    factor = float(scale) if scale is not None else depth**-0.5  # type: ignore[arg-type]
    if stages.device.kind == "gpu":
        return attention_gpu.attention(query, key, value, bias, factor, stages)
    u = query_vectors(stages.choices, -(-rows // lanes))
    scores = _scores(query, key, bias, factor, u, stages)
    power, inverse = _softmax(scores, keys, stages)
    packed, v = _values(value, lanes, stages)
    blocks = -(-width // lanes)

    def lane_of(body: Body, s: Any) -> Index:
        return (
            body.simplify(s // (u * lanes)),
            body.simplify(s // lanes % u),
            body.simplify(s % lanes),
        )

    def expr(body: Body, i: Index) -> Any:
        b, h, s, block, lane, t = i
        outer, inner, column = lane_of(body, s)
        weight = packed(b, h, body.simplify(block // v), t, body.simplify(block % v), lane)
        return body.read(power, (b, h, outer, t, inner, column)) * weight

    shape = (batch, heads, -(-rows // (u * lanes)) * u * lanes, blocks, lanes)
    stage = compute(stages.name("anchor"), shape, expr, (keys,), te.sum)

    def divided(body: Body, i: Index) -> Any:
        outer, inner, column = lane_of(body, i[2])
        return stage(*i) * body.read(inverse, (i[0], i[1], outer, 0, inner, column))

    result = compute(stages.name("mid"), shape, divided)

    def at(body: Body, index: Index) -> Any:
        b, s, h, e = index
        return result(b, h, s, body.simplify(e // lanes), body.simplify(e % lanes))

    if width % lanes:
        stages.domain = (batch, heads, rows, width)
    else:
        stages.domain = (batch, heads, rows, blocks, lanes)

    def push(body: Body, i: Index) -> Index:
        column = i[3] if len(i) == 4 else body.simplify(i[3] * lanes + i[4])
        return (i[0], i[2], i[1], column)

    return Value((batch, rows, heads, width), query.dtype, at, resident=True, push=push, moved=True)


def _scores(
    query: Value, key: Value, bias: Value | None, factor: float, u: int, stages: Stages
) -> Value:
    """k q^T * factor + bias as [B, H, S/(u f), T, u, f], T rounded up to whole tiles."""
    lanes = stages.device.lanes(query.dtype)
    batch, rows, heads, depth = query.shape
    keys = key.shape[1]
    tile = key_rows(stages.choices, stages.device, keys, u)
    padded = -(-keys // tile) * tile
    blocks = -(-rows // (u * lanes))
    queries = _queries(query, factor, (batch, heads, blocks, depth, u, lanes), stages)
    zero_key = tirx.const(0, key.dtype)

    def key_at(body: Body, i: Index) -> Any:
        b, h, t, d = i
        return body.where(t < keys, lambda: body.read(key, (b, t, h, d)), lambda: zero_key)

    packed = compute(stages.name("key"), (batch, heads, padded, depth), key_at)

    def expr(body: Body, i: Index) -> Any:
        b, h, outer, t, inner, lane, d = i
        return packed(b, h, t, d) * queries(b, h, outer, d, inner, lane)

    shape = (batch, heads, blocks, padded, u, lanes)
    stage = compute(stages.name("anchor"), shape, expr, (depth,), te.sum)
    if bias is None:
        return stages.hold(Value(shape, query.dtype, lambda body, i: stage(*i)))
    mask = _mask(bias, rows, u, lanes, stages)

    def logits(body: Body, index: Index) -> Any:
        score = stage(*index)
        return body.where(index[3] < keys, lambda: score + mask(body, index), lambda: score)

    return stages.hold(Value(shape, query.dtype, logits))


def _queries(query: Value, factor: float, shape: Dims, stages: Stages) -> Any:
    """The queries, scaled, transposed, in blocks of vectors; rows beyond the last are zeros."""
    rows, u, lanes = query.shape[1], shape[-2], shape[-1]

    def expr(body: Body, i: Index) -> Any:
        b, h, outer, d, inner, lane = i
        s = body.simplify((outer * u + inner) * lanes + lane)
        scale = tirx.const(factor, query.dtype)
        return body.where(
            s < rows,
            lambda: body.read(query, (b, s, h, d)) * scale,
            lambda: tirx.const(0, query.dtype),
        )

    return compute(stages.name("query"), shape, expr)


def _mask(
    bias: Value, rows: int, u: int, lanes: int, stages: Stages
) -> Callable[[Body, Index], Any]:
    """The mask at an index of the scores; one that differs from row to row is transposed first."""
    if bias.shape[2] == 1:
        return lambda body, i: body.read(bias, _first(bias, (i[0], i[1], 0, i[3])))
    blocks = -(-rows // (u * lanes))
    shape = (*bias.shape[:2], blocks, bias.shape[3], u, lanes)

    def expr(body: Body, i: Index) -> Any:
        b, h, outer, t, inner, lane = i
        s = body.simplify((outer * u + inner) * lanes + lane)
        return body.where(
            s < rows, lambda: body.read(bias, (b, h, s, t)), lambda: tirx.const(0, bias.dtype)
        )

    stage = compute(stages.name("mask"), shape, expr)

    def at(body: Body, i: Index) -> Any:
        return stage(*(0 if n == 1 else j for j, n in zip(i, shape)))

    return at


def _first(value: Value, index: Index) -> Index:
    return tuple(0 if n == 1 else i for i, n in zip(index, value.shape))


def _values(value: Value, lanes: int, stages: Stages) -> tuple[Any, int]:
    """[B, T, H, E] packed as [B, H, E/(v f), T, v, f], columns padded with zeros."""
    batch, keys, heads, width = value.shape
    blocks = -(-width // lanes)
    v = value_vectors(stages.choices, blocks)

    def expr(body: Body, i: Index) -> Any:
        b, h, outer, t, inner, lane = i
        column = body.simplify((outer * v + inner) * lanes + lane)
        return body.where(
            column < width,
            lambda: body.read(value, (b, t, h, column)),
            lambda: tirx.const(0, value.dtype),
        )

    return compute(stages.name("value"), (batch, heads, blocks // v, keys, v, lanes), expr), v


def _softmax(scores: Value, keys: int, stages: Stages) -> tuple[Value, Value]:
    """(e^(x - max), 1 / sum) over the keys; the keys that only fill a tile are left out."""
    shape = (*scores.shape[:3], keys, *scores.shape[4:])
    x = Value(shape, scores.dtype, scores.at, resident=True)
    top = stages.reduce(x, (3,), MAX, lowest)

    def shifted(body: Body, index: Index) -> Any:
        return vecmath.exp(body.read(x, index) - body.read(top, _first(top, index)))

    power = stages.hold(Value(shape, scores.dtype, shifted))
    total = stages.reduce(power, (3,), te.sum, zero)
    one = tirx.const(1.0, scores.dtype)
    inverse = Value(total.shape, total.dtype, lambda body, i: one / body.read(total, i))
    return power, stages.hold(inverse, "red")


def query_vectors(choices: Choices, blocks: int) -> int:
    """Vectors of queries side by side; `blocks` are rounded up to a multiple."""
    return int(choices.pick("query_vectors", vectors_of(blocks), lambda: range(1, MAX_VECTORS)))


def value_vectors(choices: Choices, blocks: int) -> int:
    """Vectors of columns side by side, a divisor of their blocks."""
    return int(
        choices.pick("value_vectors", vectors_of(blocks), lambda: divisors(blocks, MAX_VECTORS))
    )


def key_rows(choices: Choices, device: DeviceSpec, keys: int, u: int) -> int:
    """Keys of a tile of scores with u vectors of queries."""
    limit = product_limit(device, u)
    best, _ = key_tile(device, keys, u)
    return choices.at_most("keys", best, lambda: range(1, min(keys, limit) + 1))


KINDS = {"nn.attention": attention, "nn.attention_bias": attention}
