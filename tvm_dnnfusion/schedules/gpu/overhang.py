"""Columns that tiles do not divide: the last tile computes some more, and stores what there is.

A split that does not divide leaves a condition on every column of every tile: on what is loaded, on
each multiply-add, on what is stored. A schedule marks the loop over work-items with `OVERHANG`;
`overhanging` then takes the conditions from all that stays in registers:

    for t in threadIdx.x: for w in unrolled(6): if 6 t + w < 17: tile[w] += x[..] * k
                          for w in unrolled(6): if 6 t + w < 17: out[6 t + w] = tile[w]
->  for t in threadIdx.x: for w in unrolled(6): tile[w] += (x[..] if it is there else 0) * k
                          for w in unrolled(6): if 6 t + w < 17: out[6 t + w] = tile[w]

and of the conditions that are left the compiler keeps that of the last column only, which it cannot
prove. Nothing beyond the image is loaded. All work-items run the same code, where code of its own
for a shorter tile (`schedules/cpu/ragged.py`) would be run by every wave besides the long one: a
wave holds whole rows of tiles.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize

from tvm_dnnfusion.schedules.cpu.trees import Copies, loop_like, unmarked, with_loops

OVERHANG = "dnnfusion.overhang"


def mark(sch: Any, loop: Any, extent: int, tile: int) -> None:
    """Mark the loop over work-items whose tiles do not divide an extent."""
    if extent % tile:
        sch.annotate(loop, OVERHANG, 1)


def overhanging(func: Any) -> Any:
    """The function without conditions on what work-items of marked loops keep in registers."""
    return with_loops(func, (OVERHANG,), _unconditional)


def _unconditional(loop: Any, _: Copies) -> Any:
    def realize(node: Any) -> Any:
        if not all(w.source.scope() == "local" for w in node.block.writes):
            return node
        block = _guarded(node.block, node.predicate) if _loads(node.block) else node.block
        return SBlockRealize(node.iter_values, tirx.const(True, "bool"), block)

    loop = unmarked(loop, OVERHANG)
    body = tvm_ffi.structural_map(loop.body, [(SBlockRealize, realize)])
    return loop_like(loop, loop.loop_var, loop.min, loop.extent, body)


def _loads(block: Any) -> bool:
    """Whether a block reads memory, of which there may be no more."""
    return any(r.source.scope() != "local" for r in block.reads)


def _guarded(block: Any, condition: Any) -> Any:
    """A block that fills registers, with zeros where the condition does not hold.

    What is never stored is computed from them all the same; from registers that nothing was put in,
    PoCL's compiler makes code that ends the process.
    """
    if isinstance(condition, tirx.IntImm):
        return block

    def store(node: Any) -> Any:
        zero = tirx.const(0, str(node.value.ty.dtype))
        value = tirx.if_then_else(condition, node.value, zero)
        return tirx.BufferStore(node.buffer, value, node.indices)

    body = tvm_ffi.structural_map(block.body, [(tirx.BufferStore, store)])
    return SBlock(
        block.iter_vars, block.reads, block.writes, block.name_hint, body, block.init,
        block.alloc_buffers, block.match_buffers, block.annotations,
    )  # fmt: skip
