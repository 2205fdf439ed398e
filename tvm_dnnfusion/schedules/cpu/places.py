"""Which elements the outputs of a kernel read: whether each keeps to its own.

Outputs computed tile by tile of the anchor see the elements of that tile alone: another output's
element at another place may not be written yet, and the anchor's may be out of its registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import sym, tirx
from tvm.ir.expr import TensorLoad


def aligned(anchor: Any, outs: Sequence[Any]) -> bool:
    """Whether every element of the output blocks is made from one place of the anchor.

    It may read the anchor there, and what other outputs made from that same place.
    """
    places: dict[str, Any] = {}
    for k, block in enumerate(outs):
        found = _places(block, anchor, outs[:k], places)
        if found is None:
            return False
        if found and not all(same(found[0], other, block) for other in found[1:]):
            return False
        places[block.name_hint] = found[0] if found else None
    return True


def reads_own(block: Any, writer: Any) -> bool:
    """Whether a block reads of another one, with the same axes, only what its element is for."""
    source, axes = writer.writes[0].source, [iv.var for iv in block.iter_vars]
    wanted = [rewritten(s.indices, writer, axes) for s in stores_of(writer)]
    found = [x for x in loads(block) if x.source.same_as(source)]
    return all(same(w, list(x.indices), block) for x in found for w in wanted)


def stores_of(block: Any) -> list[Any]:
    """The stores of a block's body."""
    found: list[Any] = []
    tvm_ffi.structural_walk(block.body, [(tirx.BufferStore, found.append)])
    return found


def loads(block: Any) -> list[Any]:
    """The loads of a block's body."""
    found: list[Any] = []
    tvm_ffi.structural_walk(block.body, [(TensorLoad, found.append)])
    return found


def same(one: Sequence[Any], other: Sequence[Any], block: Any) -> bool:
    """Whether two index tuples over a block's axes are the same place."""
    analyzer = sym.Analyzer()
    for iv in block.iter_vars:
        analyzer.bind(iv.var, iv.dom)
    return len(one) == len(other) and all(
        analyzer.can_prove_equal(a, b) for a, b in zip(one, other)
    )


def rewritten(index: Sequence[Any], block: Any, values: Sequence[Any]) -> list[Any]:
    """An index over a block's axes, at other values of them."""
    axes = list(zip([iv.var for iv in block.iter_vars], values))

    def variable(v: Any) -> Any:
        return next((x for a, x in axes if v.same_as(a)), v)

    return [tvm_ffi.structural_map(i, [(tirx.Var, variable)]) for i in index]


def _places(
    block: Any, anchor: Any, before: Sequence[Any], places: dict[str, Any]
) -> list[Any] | None:
    """The places of the anchor from which a block reads; None where one cannot be told."""
    result, found = anchor.writes[0].source, []
    for node in loads(block):
        if node.source.same_as(result):
            found.append(list(node.indices))
            continue
        writers = [b for b in before if b.writes[0].source.same_as(node.source)]
        if not writers:
            continue
        made = [p for b in writers for p in _through(node, block, b, places[b.name_hint])]
        if not made:
            return None
        found += [p for p in made if p]
    return found


def _through(node: Any, block: Any, writer: Any, place: Any) -> list[Any]:
    """The anchor's place from which a writer made the element of a load: one item, or none.

    Slices of one buffer have several writers; a load belongs to the one that it fits.
    """
    stores = stores_of(writer)
    if len(stores) != 1:
        return []
    written, axes = list(stores[0].indices), [iv.var for iv in block.iter_vars]
    if _extents(block) == _extents(writer):
        values: Sequence[Any] = axes
    elif len(written) == len(writer.iter_vars):
        values = list(node.indices)
    else:
        return []
    if not same(rewritten(written, writer, values), list(node.indices), block):
        return []
    return [rewritten(place, writer, values) if place else []]


def _extents(block: Any) -> list[Any]:
    return [int(iv.dom.extent) for iv in block.iter_vars]
