"""When two results are equal: tolerances per dtype, and how long sums are.

An element agrees where |actual - expected| <= atol * sqrt(K) * rms(expected) + rtol * |expected|.
K is the longest reduction that leads to the output: rounding errors of a sum of K terms grow as
sqrt(K) (Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019). The root
mean square of the output scales `atol`, which is meant for values of order one: without it a
softmax over a thousand classes would pass whatever it holds, and large values would never.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm_dnnfusion.ecg.graph import Graph, Op


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Relative and absolute tolerance; `atol` is for values of order one."""

    rtol: float
    atol: float


EXACT = Tolerance(0.0, 0.0)
TOLERANCES = {
    "float64": Tolerance(1e-10, 1e-12),
    "float32": Tolerance(1e-4, 1e-5),
    "float16": Tolerance(1e-2, 2e-3),
    "bfloat16": Tolerance(5e-2, 2e-2),
}
"""Per dtype. float32 is the library's promise; the others keep its distance from their epsilon, as
far as a few roundings of intermediate results allow. What is not named here must be equal."""

_PRODUCTS = ("matmul", "linear", "bmm")
_WHOLE_AXES = (
    "softmax",
    "log_softmax",
    "layer_norm",
    "rms_norm",
    "group_norm",
    "instance_norm",
    "cumsum",
    "cumprod",
)


def tolerance_of(dtype: str, rtol: float | None = None, atol: float | None = None) -> Tolerance:
    """The tolerance of a dtype, with what the user gives in place of it."""
    base = TOLERANCES.get(dtype, EXACT)
    return Tolerance(base.rtol if rtol is None else rtol, base.atol if atol is None else atol)


def reduction_length(graph: Graph) -> int:
    """Terms of the longest sum in a graph; 1 where there is none, or shapes are symbolic."""
    return max((_terms(op, graph) for op in graph.ops), default=1)


def _terms(op: Op, graph: Graph) -> int:
    """Terms that are summed for one element of an op's result."""
    tensors = [graph.tensors[t] for t in (*op.inputs, *op.outputs)]
    if not tensors or not op.inputs or not all(t.is_static for t in tensors):
        return 1
    kind = op.kind.rpartition(".")[2]
    first = graph.tensors[op.inputs[0]]
    if kind.startswith("conv") and len(op.inputs) > 1:
        return _convolution_terms(op, graph)
    if kind in _PRODUCTS:
        return first.dims[-1] if first.dims else 1
    if kind in _WHOLE_AXES:
        return max(first.dims, default=1)
    if kind.startswith("attention"):
        return max(d for t in op.inputs for d in graph.tensors[t].dims or (1,))
    if "pool" in kind and op.ints("pool_size"):
        return math.prod(op.ints("pool_size"))
    made = sum(graph.tensors[t].elements for t in op.outputs)
    return max(1, first.elements // made) if made and len(op.inputs) == 1 else 1


def _convolution_terms(op: Op, graph: Graph) -> int:
    """Multiply-adds per element: the weight's elements per output channel, whatever the layout."""
    weight = graph.tensors[op.inputs[1]]
    layout = str(op.attr("kernel_layout") or "")
    axis = layout.find("O") if len(layout) == len(weight.dims) else -1
    return max(1, weight.elements // max(1, weight.dims[max(axis, 0)]))
