"""Matrix products as anchors.

The stage `anchor` is [*batch, M, N/f, f]: f lanes of columns innermost. The right operand is packed
[N/(v f), K, v, f], at compile time where it is constant, else by a stage of the kernel. GPUs read
it as [K, N/f, f], row by row, so that work-items side by side read vectors side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from tvm import te, tirx

from tvm_dnnfusion.codegen.pointwise import broadcast
from tvm_dnnfusion.codegen.product_tiles import product_tile, product_tiles
from tvm_dnnfusion.codegen.stages import NotLowerable, Packed, Stages
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute, lies_in_rows, narrowed
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
    columns, blocks, batch = _columns(op, b, graph, m, stages)

    def expr(body: Body, i: Index) -> Any:
        lead, row, block, lane, depth = i[:-4], i[-4], i[-3], i[-2], i[-1]
        x = body.read(a, (*broadcast(lead, a.shape[:-2]), row, depth))
        return x * columns(body, broadcast(lead, batch), block, depth, lane)

    domain, sums = (*shape[:-2], m, blocks, lanes), stages.sums(a.dtype)
    stage = compute(stages.name("anchor"), domain, expr, (k,), te.sum, sums)
    stage = narrowed(stage, a.dtype)

    def at(body: Body, index: Index) -> Any:
        col = index[-1]
        return stage(*index[:-1], body.simplify(col // lanes), body.simplify(col % lanes))

    out = Value(shape, a.dtype, at, resident=True)
    stages.domain = domain
    if n == blocks * lanes:
        out.push = lambda body, i: (*i[:-2], body.simplify(i[-2] * lanes + i[-1]))
    return out


Columns = Callable[[Body, Index, Any, Any, Any], Any]
"""The right operand's element by (batch dimensions, block of columns, depth, lane)."""


def _columns(
    op: Op, b: Value, graph: Graph, rows: int, stages: Stages
) -> tuple[Columns, int, Index]:
    """The right operand by blocks of columns, how many are computed, and its batch dimensions."""
    k, n = b.shape[-2:]
    lanes = stages.device.lanes(b.dtype)
    used = -(-n // lanes)
    products = math.prod(graph.tensors[op.output].dims[:-2])
    height, best, _ = product_tile(stages.device, rows, used, products)
    offered = partial(product_tiles, stages.device, rows, used, products)
    _, v = stages.choices.pick("tile", (height, best), offered)
    blocks = -(-used // v) * v
    batch = b.shape[:-2]
    data = graph.constants.get(op.inputs[1])
    if stages.device.kind == "gpu":
        return _by_rows(b, data, blocks, lanes, stages), blocks, batch
    shape = (*batch, blocks // v, k, v, lanes)
    if data is not None:
        source = Packed("columns", pack(data, lanes, v))
        packed = stages.argument(source, shape, b.dtype)
    else:

        def expr(body: Body, i: Index) -> Any:
            return _column(b, body, i[:-4], i[-3], (i[-4] * v + i[-2]) * lanes + i[-1])

        packed = compute(stages.name("pack"), shape, expr)

    def at(body: Body, lead: Index, block: Any, depth: Any, lane: Any) -> Any:
        outer, inner = body.simplify(block // v), body.simplify(block % v)
        return packed(*lead, outer, depth, inner, lane)

    return at, blocks, batch


def _column(b: Value, body: Body, lead: Index, depth: Any, column: Any) -> Any:
    """An element of the right operand, 0 beyond its columns."""
    return body.where(
        column < b.shape[-1],
        lambda: body.read(b, (*lead, depth, body.simplify(column))),
        lambda: tirx.const(0, b.dtype),
    )


def _by_rows(b: Value, data: np.ndarray | None, blocks: int, lanes: int, stages: Stages) -> Columns:
    """The right operand as [*, K, N/f, f]: where it is, if its rows lie in memory; else packed."""
    n, shape = b.shape[-1], (*b.shape[:-1], blocks, lanes)
    if data is None and n == blocks * lanes and lies_in_rows(b):
        return lambda body, lead, block, depth, lane: body.read(
            b, (*lead, depth, body.simplify(block * lanes + lane))
        )
    if data is not None:
        full = np.pad(data, [(0, 0)] * (data.ndim - 1) + [(0, blocks * lanes - n)])
        source = Packed("columns", np.ascontiguousarray(full.reshape(shape)))
        packed = stages.argument(source, shape, b.dtype)
    else:

        def expr(body: Body, i: Index) -> Any:
            return _column(b, body, i[:-3], i[-3], i[-2] * lanes + i[-1])

        packed = compute(stages.name("pack"), shape, expr)
    return lambda body, lead, block, depth, lane: packed(*lead, depth, block, lane)


def pack(data: np.ndarray, lanes: int, v: int) -> np.ndarray:
    """[*, K, N] -> [*, ceil(N/(v f)), K, v, f], columns padded with zeros."""
    k, n = data.shape[-2:]
    blocks = -(-n // (lanes * v)) * v
    full = np.pad(data, [(0, 0)] * (data.ndim - 1) + [(0, blocks * lanes - n)])
    full = full.reshape(*data.shape[:-2], k, blocks // v, v, lanes)
    return np.ascontiguousarray(np.moveaxis(full, -4, -3))


KINDS = {"matmul": matmul}
