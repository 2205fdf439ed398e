"""Rows cut into phases: columns that lie `apart` from each other become neighbours.

    for q, r: out[r, q] = x[apart q + r]

Element by element that takes some ten instructions each. All phases of a vector of columns come
from one run of x, which is loaded whole and taken apart (A64: one LD2, LD3 or LD4; AVX: shuffles):

    for qo: v = x[apart f qo : apart f (qo + 1)]
            for r in unrolled: out[r, f qo : f (qo + 1)] = v[r :: apart]
"""

from __future__ import annotations

from typing import Any

from tvm import ir, tirx
from tvm.s_tir import SBlock, SBlockRealize

from tvm_dnnfusion.schedules.cpu.common import Kernel
from tvm_dnnfusion.schedules.cpu.crossed import step_of
from tvm_dnnfusion.schedules.cpu.places import loads, stores_of
from tvm_dnnfusion.schedules.cpu.trees import Copies, bindings, collect, replaced, with_loops

PHASES = "dnnfusion.phases"

MAX_APART = 4
"""Phases that one load of A64's brings."""


def cuts(k: Kernel, block: str) -> bool:
    """Whether a stage cuts rows into phases, which vectors can do."""
    node = k.sch.get(k.sch.get_sblock(block))
    found, axes = loads(node), [iv.var for iv in node.iter_vars]
    if len(found) != 1 or len(axes) < 2 or node.init is not None:
        return False
    extents = [int(iv.dom.extent) for iv in node.iter_vars[-2:]]
    apart = step_of(found[0], axes[-1])
    return (
        apart == extents[0]
        and 2 <= apart <= MAX_APART
        and step_of(found[0], axes[-2]) == 1
        and extents[1] % k.lanes() == 0
    )


def cut_rows(k: Kernel, block: str) -> None:
    """Mark the loops of such a stage, whose last two run over phases and columns."""
    phase, column = k.loops(block)[-2:]
    outer, inner = k.sch.split(column, [None, k.lanes()])
    k.sch.reorder(outer, phase, inner)
    k.sch.annotate(phase, PHASES, k.lanes())


def apart(func: Any) -> Any:
    """The function with its marked loops over phases written as vectors taken apart."""
    return with_loops(func, (PHASES,), _vectors)


def _vectors(loop: Any, copies: Copies) -> Any:
    lanes, phases = int(loop.annotations[PHASES]), int(loop.extent)
    (realize,) = collect(loop.body, SBlockRealize)
    block, bound = realize.block, bindings(realize)
    (store,), (load,) = stores_of(block), loads(block)
    first = {x.loop_var: tirx.const(0, "int32") for x in (loop, *collect(loop.body, tirx.For))}
    target, source = (
        [replaced(replaced(i, bound), first) for i in x.indices] for x in (store, load)
    )
    run = tirx.BufferLoad(load.source, [*source[:-1], _ramp(source[-1], phases * lanes)])
    statements = []
    for phase in range(phases):
        taken = [tirx.const(phase + phases * lane, "int32") for lane in range(lanes)]
        place = [*target[:-2], tirx.const(phase, "int32"), _ramp(target[-1], lanes)]
        statements.append(tirx.BufferStore(store.buffer, tirx.Shuffle([run], taken), place))
    reads = _region(load.source, source, 1, phases * lanes)
    writes = _region(store.buffer, target, phases, lanes)
    body = SBlock([], [reads], [writes], block.name_hint, tirx.SeqStmt(statements))
    return SBlockRealize([], realize.predicate, body)


def _ramp(first: Any, count: int) -> Any:
    return tirx.Ramp(first, tirx.const(1, "int32"), count)


def _region(buffer: Any, first: list[Any], rows: int, columns: int) -> Any:
    """Part of a buffer: from an index on, so many rows and columns of its last two axes."""
    extents = [1] * (len(first) - 2) + [rows, columns]
    ranges = [ir.Range.from_min_extent(i, n) for i, n in zip(first, extents)]
    return tirx.BufferRegion(buffer, ranges)
