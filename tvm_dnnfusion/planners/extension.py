"""Two pairs that table 3 forbids and that one kernel still does well: beyond the paper.

Table 3 refuses Many-to-Many after Many-to-Many because the second would wait for all of the first,
or compute parts of it again. Where the second reads the first piece by piece, neither happens:

- convolution -> pooling: the kernel computes a strip of convolution rows and pools from it while it
  is in the cache; only the rows that two strips share are computed twice.
- row after row (softmax, layer normalisation written out): all reductions fold the same rows, so a
  kernel takes row by row, which stays in the cache, from the first op to the last.

Both carry their own reason (FUSED_EXTENSION) and can be switched off. Cost: linear in the block.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.planners.facts import ANCHORS, POOLS, Facts, Rows

STRIP_ROWS = 4
"""Pooled rows per strip: the convolution rows of a strip (9 for a 3x3 window of stride 2) times
112 columns and 16 channels of float32 are 63 KiB, a fraction of any second-level cache."""

MAX_RECOMPUTE = 1.25
"""Convolution rows computed over rows needed. A quarter more work is what the bytes saved are worth
at 10 FLOPs per byte moved, the balance of the CPUs in `devices`; own estimate, not measured."""

_TAIL_POOLS = frozenset(("nn.max_pool2d", "nn.avg_pool2d"))
_TAIL_ANCHORS = frozenset(("nn.conv2d",))

Numbers = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Extension:
    """A pair that may be fused although its cell is red, and the figures behind it."""

    numbers: Numbers


def extension(first: tuple[Op, ...], second: tuple[Op, ...], facts: Facts,
              row_limit_bytes: int) -> Extension | None:  # fmt: skip
    """Whether a red pair is one of the two, and its numbers; None where it is not."""
    return _pool_tail(first, second, facts) or _row_block(first, second, facts, row_limit_bytes)


def _pool_tail(first: tuple[Op, ...], second: tuple[Op, ...], facts: Facts) -> Extension | None:
    heavy = [op for op in first if facts.is_heavy(op)]
    tails = [op for op in second if facts.is_heavy(op)]
    if len(heavy) != 1 or heavy[0].kind not in _TAIL_ANCHORS or len(tails) != 1:
        return None
    pool, anchor = tails[0], heavy[0]
    if pool.kind not in _TAIL_POOLS or any(d != 1 for d in pool.ints("dilation")):
        return None
    layouts = {pool.attr("layout"), pool.attr("out_layout"), anchor.attr("data_layout")}
    if len(layouts) != 1 or _uneven(pool) or not _follows(anchor, pool, facts):
        return None
    factor, halo = recompute(pool, facts)
    if factor > MAX_RECOMPUTE:
        return None
    window, stride = pool.ints("pool_size")[0], pool.ints("strides")[0]
    return Extension(
        (("recompute", factor), ("halo_rows", float(halo)), ("window", float(window)),
         ("stride", float(stride)))
    )  # fmt: skip


def _uneven(pool: Op) -> bool:
    """Averages whose divisor differs at a border that no attribute states: no strip knows it."""
    return "avg" in pool.kind and bool(pool.attr("ceil_mode"))


def _follows(anchor: Op, pool: Op, facts: Facts) -> bool:
    """Whether the pool's operand is the anchor's result after elementwise ops, all of its shape."""
    shape = facts.graph.tensors[anchor.outputs[0]].shape
    seen: dict[str, None] = {}
    pending = [pool.inputs[0]]
    while pending:
        tensor = pending.pop()
        op = facts.graph.producers.get(tensor)
        if op is None or tensor in seen or facts.graph.tensors[tensor].shape != shape:
            continue
        if op.name == anchor.name:
            return True
        seen[tensor] = None
        if facts.types.get(op.name) in (MappingType.ONE_TO_ONE, MappingType.ONE_TO_MANY):
            pending.extend(t for t in op.inputs if t in facts.graph.producers)
    return False


def recompute(pool: Op, facts: Facts) -> tuple[float, int]:
    """(rows computed / rows needed, rows that two strips share) of a pooling after a convolution.

    A strip of r pooled rows needs (r-1)*stride + window rows; strips start r*stride rows apart.
    """
    window, stride = pool.ints("pool_size")[0], pool.ints("strides")[0]
    layout = str(pool.attr("layout") or "NCHW")
    height = facts.graph.tensors[pool.outputs[0]].dims[layout.index("H")]
    strip = min(STRIP_ROWS, height)
    halo = max(0, window - stride)
    if strip == height:
        return 1.0, 0
    return 1.0 + halo / (strip * stride), halo


def _row_block(first: tuple[Op, ...], second: tuple[Op, ...], facts: Facts,
               limit: int) -> Extension | None:  # fmt: skip
    ops = first + second
    heavy = [op for op in ops if facts.is_heavy(op)]
    shapes = {facts.rows(op) for op in heavy}
    if len(shapes) != 1 or None in shapes or not heavy:
        return None
    rows = next(r for r in shapes if r is not None)
    if not all(_keeps_rows(op, rows, facts) for op in ops if not facts.is_heavy(op)):
        return None
    row_bytes = rows[1] * max(facts.graph.tensors[op.inputs[0]].itemsize for op in heavy)
    if row_bytes > limit:
        return None
    numbers = {"rows": rows[0], "row_elements": rows[1], "row_bytes": row_bytes}
    return Extension(tuple((key, float(value)) for key, value in numbers.items()))


def _keeps_rows(op: Op, rows: Rows, facts: Facts) -> bool:
    """Elementwise over whole rows or over one value per row; reshapes only of the latter."""
    if op.kind in ANCHORS or op.kind in POOLS:
        return False
    sizes = {facts.elements(t) for t in op.outputs}
    if facts.intrinsic(op) is MappingType.ONE_TO_ONE and op.kind not in _MOVES:
        return sizes <= {rows[0], rows[0] * rows[1]}
    return facts.types[op.name] is MappingType.REORGANIZE and sizes == {rows[0]}


_MOVES = frozenset("concat split strided_slice stack slice_scatter nn.pad".split())
