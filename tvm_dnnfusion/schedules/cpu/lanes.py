"""Operands of register tiles in vectors, where a multiply-add takes a lane of one (A64's FMLA).

A tile reads one element of its left operand for each place and fold. One vector holds as many folds
of a place (or, in a plain layout, as many places of a fold) as there are lanes:

    for k: for p, v in unrolled: tile[p, v] += x[p, k] * w[k, v]
->  for ko:
      for p: held[p, 0:4] = x[p, 4 ko : 4 ko + 4]                                   # one load each
      for ki in unrolled(4): for p, v in unrolled: tile[p, v] += held[p, ki] * w[4 ko + ki, v]

`held` is smaller than what TVM keeps on the stack, and all its indices are constants: LLVM makes
registers of it, and lanes of the elements. It would take a vector of which only elements are read
for as many loads of one element: `whole` hides them behind an arithmetic fence, which is no
instruction. Nothing is summed in another order.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock

from tvm_dnnfusion.codegen.tiles import by_lane
from tvm_dnnfusion.schedules.cpu.common import Kernel

HELD = "dnnfusion.held"
_FENCE = "llvm.arithmetic.fence"


def split_fold(k: Kernel, fold: Any) -> tuple[Any, Any | None]:
    """A fold as (outside, lanes inside), or half as many; the latter None where neither divides."""
    lanes = k.lanes()
    steps = next((n for n in (lanes, lanes // 2) if k.extent(fold) % n == 0), 1)
    if not by_lane(k.device) or steps == 1:
        return fold, None
    outer, inner = k.sch.split(fold, [None, steps])
    return outer, inner


def by_vectors(k: Kernel, folded: list[Any]) -> Any:
    """Unroll the folds of one vector of the operand; returns the loop that takes such a vector.

    Those folds are the innermost axis where the operand lies in blocks of channels, else part of
    the only axis longer than one; folds keep their order. A loop that is cut is replaced in
    `folded`.
    """
    last = folded[-1]
    if not by_lane(k.device) or k.attr("dnnfusion.unroll_taps"):
        return last
    if len(folded) > 1 and k.extent(last) in (k.lanes(), 2 * k.lanes()):  # of float16 twice as many
        k.unroll(last)
        return folded[-2]
    long = [x for x in folded if k.extent(x) > 1]
    if len(long) != 1:
        return last
    outer, inner = split_fold(k, long[0])
    folded[:] = [outer if x.same_as(long[0]) else x for x in folded]
    if inner is not None:
        k.unroll(inner)
        k.sch.reorder(*folded, inner)  # loops of one turn stay outside
    return folded[-1]


def hold(k: Kernel, anchor: str, under: Any) -> None:
    """Load what a tile reads element by element in vectors, at the top of the loop `under`.

    The reduction of `anchor` has been taken apart; its last axis that is not folded runs along
    lanes.
    """
    if not by_lane(k.device):
        return
    update = k.sch.get_sblock(f"{anchor}_update")
    index = _element(k, update)
    if index is None:
        return
    copy = k.sch.cache_read(update, index, "local", consumer_blocks=[update])
    k.sch.annotate(copy, HELD, 1)
    k.sch.compute_at(copy, under)
    loops = k.sch.get_loops(copy)
    depth = next(i for i, x in enumerate(loops) if k.sch.get(x).same_as(k.sch.get(under)))
    below = loops[depth + 1 :]
    if not below:
        return
    dtype = str(k.sch.get(copy).writes[0].source.ty.dtype)
    if k.extent(below[-1]) == k.device.lanes(dtype):
        k.sch.vectorize(below[-1])
        below = below[:-1]
    elif k.extent(below[-1]) % k.lanes() == 0:
        k.vectorize(below[-1])
        below = k.sch.get_loops(copy)[depth + 1 : -1]
    k.unroll(*below)


def unroll_taps(k: Kernel, folded: list[Any]) -> None:
    """Unroll the taps of a row where a vector holds several places: their distances are constants.

    `folded` ends with the taps of a row and the channels read together, which are one there.
    """
    if by_lane(k.device) and k.attr("dnnfusion.unroll_taps"):
        k.unroll(*folded[-2:])


def _element(k: Kernel, update: Any) -> int | None:
    """Which operand of a multiply-add is the same for all lanes; None where there is none."""
    block = k.sch.get(update)
    lane = [iv.var for iv in block.iter_vars if int(iv.iter_type) == 0][-1]
    made = block.writes[0].source
    for index, read in enumerate(block.reads):
        if not read.source.same_as(made) and not _uses(read.region, lane):
            return index
    return None


def _uses(region: Any, var: Any) -> bool:
    found: list[Any] = []
    for axis in region:
        tvm_ffi.structural_walk(axis.min, [(tvm.ir.Var, found.append)])
    return any(v.same_as(var) for v in found)


def fenced(value: Any) -> Any:
    """The float, or vector of floats, which LLVM may not take apart."""
    return tirx.call_llvm_pure_intrin(value.ty, _FENCE, value)


def whole(func: Any) -> Any:
    """The function with its held vectors loaded as such."""

    def hidden(store: Any) -> Any:
        return tirx.BufferStore(store.buffer, fenced(store.value), store.indices)

    def block(node: Any) -> Any:
        if HELD not in node.annotations:
            return node
        body = tvm_ffi.structural_map(node.body, [(tirx.BufferStore, hidden)])
        left = {k: v for k, v in node.annotations.items() if k != HELD}
        return SBlock(
            node.iter_vars, node.reads, node.writes, node.name_hint, body, node.init,
            node.alloc_buffers, node.match_buffers, left,
        )  # fmt: skip

    found: list[Any] = []
    tvm_ffi.structural_walk(func.body, [(SBlock, lambda b: found.append(HELD in b.annotations))])
    if not any(found):
        return func
    return func.with_body(tvm_ffi.structural_map(func.body, [(SBlock, block)]))
