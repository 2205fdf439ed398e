"""Attention as one block on a GPU: a work-group takes some rows of queries through both products.

    out = softmax(q k^T * scale + bias) v        q [B, S, H, D], k [B, T, H, D], v [B, T, H, E]

Keys are the lanes of the scores, so that the rows of a group lie in local memory as the second
product reads them. Only the keys have to be transposed, by a kernel of their own; queries and
values are read where they are, if their rows lie in memory. With f lanes:

    key   [B, H, D, T/f, f]
    anchor[B, H, S, T/f, f] = query key
    hold  [B, H, S, T] = anchor * scale + bias, then e^(hold - max);  keys that fill up: -inf
    anchor[B, H, S, E/f, f] = sum over T of hold value,  out = anchor / sum
"""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from tvm_dnnfusion.codegen import vecmath
from tvm_dnnfusion.codegen.gpu_rows import ROW_ITEMS
from tvm_dnnfusion.codegen.pointwise import broadcast
from tvm_dnnfusion.codegen.stages import MAX, Stages, lowest, zero
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute, lies_in_rows

PACKED_BLOCKS = 4
"""Vectors of values that are copied anyway: a multiple of these, which tiles divide."""


def attention(
    query: Value, key: Value, value: Value, bias: Value | None, factor: float, stages: Stages
) -> Value:
    """The operator over its operands; `factor` scales the scores."""
    lanes = stages.device.lanes(query.dtype)
    batch, rows, heads, _ = query.shape
    keys, width = value.shape[1], value.shape[3]
    scores = _scores(query, key, bias, factor, stages)
    top = stages.reduce(scores, (3,), MAX, lowest)

    def shifted(body: Body, i: Index) -> Any:
        return vecmath.exp(body.read(scores, i) - body.read(top, broadcast(i, top.shape)))

    power = stages.hold(Value(scores.shape, scores.dtype, shifted))
    total = stages.reduce(power, (3,), te.sum, zero)
    values, blocks = _values(value, lanes, stages)

    def product(body: Body, i: Index) -> Any:
        b, h, s, block, lane, t = i
        return body.read(power, (b, h, s, t)) * values(body, (b, h, t, block, lane))

    shape = (batch, heads, rows, blocks, lanes)
    stage = compute(stages.name("anchor"), shape, product, (keys,), te.sum)

    def divided(body: Body, i: Index) -> Any:
        return stage(*i) / body.read(total, (*i[:3], 0))

    result = compute(stages.name("mid"), shape, divided)

    def at(body: Body, index: Index) -> Any:
        b, s, h, e = index
        return result(b, h, s, body.simplify(e // lanes), body.simplify(e % lanes))

    stages.domain = shape if width == blocks * lanes else (batch, heads, rows, width)

    def push(body: Body, i: Index) -> Index:
        column = i[3] if len(i) == 4 else body.simplify(i[3] * lanes + i[4])
        return (i[0], i[2], i[1], column)

    return Value((batch, rows, heads, width), query.dtype, at, resident=True, push=push, moved=True)


def padded_keys(keys: int, lanes: int) -> int:
    """Keys that are computed: of long rows as many as tiles and work-items divide."""
    vectors = ROW_ITEMS // 2 if keys >= 2 * ROW_ITEMS * lanes else 2 if keys > 2 * lanes else 1
    return -(-keys // (vectors * lanes)) * vectors * lanes


def _scores(query: Value, key: Value, bias: Value | None, factor: float, stages: Stages) -> Value:
    """q k^T * factor + bias as [B, H, S, T], T rounded up with keys of minus infinity."""
    lanes = stages.device.lanes(query.dtype)
    batch, rows, heads, depth = query.shape
    keys = key.shape[1]
    padded = padded_keys(keys, lanes)
    if not lies_in_rows(query):
        query = stages.hold(query, "query")

    def key_at(body: Body, i: Index) -> Any:
        b, h, d, block, lane = i
        t = body.simplify(block * lanes + lane)
        return body.where(
            t < keys, lambda: body.read(key, (b, t, h, d)), lambda: tirx.const(0, key.dtype)
        )

    blocks = padded // lanes
    packed = compute(stages.name("key"), (batch, heads, depth, blocks, lanes), key_at)

    def product(body: Body, i: Index) -> Any:
        b, h, s, block, lane, d = i
        return body.read(query, (b, s, h, d)) * packed(b, h, d, block, lane)

    shape = (batch, heads, rows, blocks, lanes)
    stage = compute(stages.name("anchor"), shape, product, (depth,), te.sum)

    def logits(body: Body, i: Index) -> Any:
        b, h, s, t = i
        place = (body.simplify(t // lanes), body.simplify(t % lanes))
        score = stage(b, h, s, *place) * tirx.const(factor, query.dtype)
        return score if bias is None else score + body.read(bias, broadcast(i, bias.shape))

    def whole(body: Body, i: Index) -> Any:
        return body.where(i[3] < keys, lambda: logits(body, i), lambda: lowest(query.dtype))

    return stages.hold(Value((batch, heads, rows, padded), query.dtype, whole))


def _values(value: Value, lanes: int, stages: Stages) -> tuple[Any, int]:
    """The values as [B, H, T, E/f, f]: where they are, if their rows lie in whole vectors."""
    batch, keys, heads, width = value.shape
    blocks = -(-width // lanes)

    def element(body: Body, i: Index) -> Any:
        b, h, t, block, lane = i
        column = body.simplify(block * lanes + lane)
        return body.where(
            column < width,
            lambda: body.read(value, (b, t, h, column)),
            lambda: tirx.const(0, value.dtype),
        )

    if width % lanes == 0 and lies_in_rows(value):
        return element, blocks
    if blocks > PACKED_BLOCKS:
        blocks = -(-blocks // PACKED_BLOCKS) * PACKED_BLOCKS
    packed = compute(stages.name("value"), (batch, heads, keys, blocks, lanes), element)
    return (lambda body, i: packed(*i)), blocks
