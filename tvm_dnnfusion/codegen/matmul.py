"""Matrix products as anchors.

The stage `anchor` is [*batch, M, N/f, f]: f lanes of columns innermost. The right operand is packed
[N/(v f), K, v, f], at compile time where it is constant, else by a stage of the kernel.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from tvm import te, tirx

from tvm_dnnfusion.codegen.pointwise import broadcast
from tvm_dnnfusion.codegen.stages import NotLowerable, Packed, Stages
from tvm_dnnfusion.codegen.tiles import product_tile, product_tiles
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute
from tvm_dnnfusion.ecg.graph import Graph, Op


def matmul(op: Op, inputs: list[Value], graph: Graph, stages: Stages) -> Value:
    """matmul(a, b): [*, M, K] x [*, K, N] -> [*, M, N], batch dimensions broadcast."""
    a, b = inputs
    shape = graph.tensors[op.output].dims
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise NotLowerable("matmul with a vector operand")
    if a.dtype != b.dtype or graph.tensors[op.output].dtype != a.dtype or "float" not in a.dtype:
        raise NotLowerable(f"matmul of {a.dtype} by {b.dtype}")
    stages.anchor("matmul")
    lanes = stages.device.lanes(a.dtype)
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    a = a if a.resident else stages.hold(a, "pad")
    packed, v, blocks, batch = _columns(op, b, graph, m, stages)

    def expr(body: Body, i: Index) -> Any:
        lead, row, block, lane, depth = i[:-4], i[-4], i[-3], i[-2], i[-1]
        x = body.read(a, (*broadcast(lead, a.shape[:-2]), row, depth))
        w = packed(
            *broadcast(lead, batch),
            body.simplify(block // v),
            depth,
            body.simplify(block % v),
            lane,
        )
        return x * w

    stage = compute(stages.name("anchor"), (*shape[:-2], m, blocks, lanes), expr, (k,), te.sum)

    def at(body: Body, index: Index) -> Any:
        col = index[-1]
        return stage(*index[:-1], body.simplify(col // lanes), body.simplify(col % lanes))

    out = Value(shape, a.dtype, at, resident=True)
    stages.domain = (*shape[:-2], m, blocks, lanes)
    if n == blocks * lanes:
        out.push = lambda body, i: (*i[:-2], body.simplify(i[-2] * lanes + i[-1]))
    return out


def _columns(
    op: Op, b: Value, graph: Graph, rows: int, stages: Stages
) -> tuple[Any, int, int, tuple[int, ...]]:
    """The right operand packed, the vectors in a tile and in all, and its batch dimensions."""
    k, n = b.shape[-2:]
    lanes = stages.device.lanes(b.dtype)
    used = -(-n // lanes)
    height, best, _ = product_tile(stages.device, rows, used)
    offered = partial(product_tiles, stages.device, rows, used)
    _, v = stages.choices.pick("tile", (height, best), offered)
    blocks = -(-used // v) * v
    batch = b.shape[:-2]
    data = graph.constants.get(op.inputs[1])
    shape = (*batch, blocks // v, k, v, lanes)
    if data is not None:
        packed = Packed("columns", pack(data, lanes, v))
        return stages.argument(packed, shape, b.dtype), v, blocks, batch

    def expr(body: Body, i: Index) -> Any:
        col = (i[-4] * v + i[-2]) * lanes + i[-1]
        return body.where(
            col < n,
            lambda: body.read(b, (*i[:-4], i[-3], body.simplify(col))),
            lambda: tirx.const(0, b.dtype),
        )

    return compute(stages.name("pack"), shape, expr), v, blocks, batch


def pack(data: np.ndarray, lanes: int, v: int) -> np.ndarray:
    """[*, K, N] -> [*, ceil(N/(v f)), K, v, f], columns padded with zeros."""
    k, n = data.shape[-2:]
    blocks = -(-n // (lanes * v)) * v
    full = np.pad(data, [(0, 0)] * (data.ndim - 1) + [(0, blocks * lanes - n)])
    full = full.reshape(*data.shape[:-2], k, blocks // v, v, lanes)
    return np.ascontiguousarray(np.moveaxis(full, -4, -3))


KINDS = {"matmul": matmul}
