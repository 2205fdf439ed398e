"""Stages that a Winograd kernel writes element by element with the convolution's results."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad

from tvm_dnnfusion.schedules.cpu import nest, places
from tvm_dnnfusion.schedules.cpu.winograd.plan import shape_of


def reads(block: Any, source: Any) -> bool:
    """Whether a block loads from a buffer."""
    return bool(nest.loads_of(block.body, source))


def fused_stages(rest: list[Any], result: Any) -> list[Any]:
    """The stages written element by element with the anchor.

    Of what is made from the anchor such a stage reads only the anchor and other fused stages, each
    at its own place: all else comes after the anchor's loops.
    """
    fused: list[Any] = []
    late: list[Any] = []  # buffers made from the anchor in loops of their own
    for block in rest:
        if any(reads(block, b) for b in late) or not _elementwise(block, result, fused):
            made = [result, *(b.writes[0].source for b in fused), *late]
            if any(reads(block, b) for b in made):
                late.append(block.writes[0].source)
            continue
        fused.append(block)
    return fused


def _elementwise(block: Any, source: Any, fused: list[Any]) -> bool:
    """Whether a block writes one element from the anchor's element at the same place."""
    name = block.name_hint.rstrip("0123456789")
    if name not in ("out", "mid") or not isinstance(block.body, tirx.BufferStore):
        return False
    axes, shape = [iv.var for iv in block.iter_vars], shape_of(source)
    if [int(iv.dom.extent) for iv in block.iter_vars] != shape:
        return False
    loads = nest.loads_of(block.body, source)
    if not loads or not all(_is(i, a, n) for x in loads for i, a, n in zip(x.indices, axes, shape)):
        return False
    return all(places.reads_own(block, other) for other in fused)


def _is(index: Any, axis: Any, extent: int) -> bool:
    return extent == 1 or (isinstance(index, tirx.Var) and index.same_as(axis))


def placed(block: Any, source: Any, value: Any, place: tuple[Any, ...]) -> Any:
    """The block's statement at a place, with the anchor's element replaced by a value."""
    axes = [(iv.var, i) for iv, i in zip(block.iter_vars, place)]

    def variable(v: Any) -> Any:
        return next((i for a, i in axes if v.same_as(a)), v)

    def element(node: Any) -> Any:
        return value if node.source.same_as(source) else node

    body = tvm_ffi.structural_map(block.body, [(TensorLoad, element)])
    return tvm_ffi.structural_map(body, [(tirx.Var, variable)])
