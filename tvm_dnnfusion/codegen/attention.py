"""Attention as one block: scores, softmax and weighted values of a tile of rows at a time.

    out = softmax(q k^T * scale + bias) v        q [B, S, H, D], k [B, T, H, D], v [B, T, H, E]

Beyond the paper, whose table 3 forbids the chain of two products. Only a tile of query rows by T
scores exists at a time; k and v are packed once for the register tiles of the two products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from tvm_dnnfusion.codegen import vecmath
from tvm_dnnfusion.codegen.stages import MAX, NotLowerable, Stages, lowest, zero
from tvm_dnnfusion.codegen.tiles import vectors_of
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute
from tvm_dnnfusion.ecg.graph import Graph, Op

Dims = tuple[int, ...]


def attention(op: Op, inputs: list[Value], graph: Graph, stages: Stages) -> Value:
    """nn.attention and nn.attention_bias, without causal masks and windows."""
    if op.attr("causal_mask") is not None or op.attr("window_size") is not None:
        raise NotLowerable(f"{op.kind} with a causal mask or a window")
    query, key, value = inputs[:3]
    bias = inputs[3] if len(inputs) > 3 else None
    lanes = stages.device.lanes(query.dtype)
    batch, rows, heads, depth = query.shape
    width, keys = value.shape[3], key.shape[1]
    if query.dtype != "float32" or width % lanes:
        raise NotLowerable(f"{op.kind} of {query.dtype}, {width} columns")
    stages.anchor("attention")
    query = stages.resident(query)
    scale = op.attr("scale")
    factor = float(scale) if scale is not None else depth**-0.5  # type: ignore[arg-type]
    scores = _scores(query, key, lanes, stages)
    power, inverse = _softmax(scores, bias, factor, stages)
    packed, v = _packed(value, (batch, heads), width, keys, lanes, stages, by_key=True)

    def expr(body: Body, i: Index) -> Any:
        b, h, s, block, lane, t = i
        weight = packed(b, h, body.simplify(block // v), t, body.simplify(block % v), lane)
        return body.read(power, (b, h, s, t)) * weight

    stages.domain = (batch, heads, rows, width // lanes, lanes)
    stage = compute(stages.name("anchor"), stages.domain, expr, (keys,), te.sum)

    def at(body: Body, index: Index) -> Any:
        b, s, h, e = index
        total = stage(b, h, s, body.simplify(e // lanes), body.simplify(e % lanes))
        return total * body.read(inverse, (b, h, s, 0))

    def push(body: Body, i: Index) -> Index:
        return (i[0], i[2], i[1], body.simplify(i[3] * lanes + i[4]))

    return Value((batch, rows, heads, width), query.dtype, at, resident=True, push=push, moved=True)


def _scores(query: Value, key: Value, lanes: int, stages: Stages) -> Value:
    """q k^T as [B, H, S, T], computed in blocks of `lanes` keys."""
    batch, rows, heads, depth = query.shape
    keys = key.shape[1]
    packed, v = _packed(key, (batch, heads), keys, depth, lanes, stages, by_key=False)
    blocks = -(-keys // lanes)

    def expr(body: Body, i: Index) -> Any:
        b, h, s, block, lane, d = i
        column = packed(b, h, body.simplify(block // v), d, body.simplify(block % v), lane)
        return body.read(query, (b, s, h, d)) * column

    shape = (batch, heads, rows, blocks, lanes)
    stage = compute(stages.name("anchor"), shape, expr, (depth,), te.sum)

    def at(body: Body, index: Index) -> Any:
        t = index[-1]
        return stage(*index[:-1], body.simplify(t // lanes), body.simplify(t % lanes))

    return Value((batch, heads, rows, keys), query.dtype, at, resident=True)


def _packed(
    source: Value, lead: Dims, columns: int, depth: int, lanes: int, stages: Stages, by_key: bool
) -> tuple[Callable[..., Any], int]:
    """[B, T, H, E] packed as [B, H, columns / (v f), depth, v, f]; columns padded with zeros.

    Columns are keys for the scores, and components of the values (`by_key`: the depth is keys).
    """
    blocks = -(-columns // lanes)
    v = vectors_of(blocks)

    def expr(body: Body, i: Index) -> Any:
        b, h, outer, d, inner, lane = i
        column = (outer * v + inner) * lanes + lane
        place = (b, d, h, column) if by_key else (b, column, h, d)
        where = tuple(body.simplify(p) for p in place)
        return body.where(
            column < columns,
            lambda: body.read(source, where),
            lambda: tirx.const(0, source.dtype),
        )

    return compute(stages.name("pack"), (*lead, blocks // v, depth, v, lanes), expr), v


def _softmax(
    scores: Value, bias: Value | None, factor: float, stages: Stages
) -> tuple[Value, Value]:
    """(e^(x - max), 1 / sum) of x = scores * factor + bias, over the last axis."""
    shape = scores.shape

    def logits(body: Body, index: Index) -> Any:
        x = body.read(scores, index) * tirx.const(factor, scores.dtype)
        if bias is None:
            return x
        place = tuple(0 if n == 1 else i for i, n in zip(index, bias.shape))
        return x + body.read(bias, place)

    x = Value(shape, scores.dtype, logits)
    top = stages.reduce(x, (3,), MAX, lowest)

    def shifted(body: Body, index: Index) -> Any:
        return vecmath.exp(body.read(x, index) - body.read(top, (*index[:-1], 0)))

    power = stages.hold(Value(shape, scores.dtype, shifted))
    total = stages.reduce(power, (3,), te.sum, zero)
    one = tirx.const(1.0, scores.dtype)
    inverse = Value(total.shape, total.dtype, lambda body, i: one / body.read(total, i))
    return power, stages.hold(inverse, "red")


KINDS = {"nn.attention": attention, "nn.attention_bias": attention}
