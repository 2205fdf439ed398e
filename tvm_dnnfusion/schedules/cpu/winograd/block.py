"""Winograd convolutions: transforms in straight lines, products in register tiles.

for g (groups of tiles) in parallel:
  for channel block, tile: V[all points] = B^T d B
  for panel (vectors of output channels), point, depth, register tile: M = sum_c V * U
  ...                     and then for each tile of the panel: y = A^T M A; out = epilogue(y)

Weights that come as they are become U = G g G^T first: where every core has groups of its own, all
of them, for all groups; else a panel's, channels by channels, so that they are used while in L2.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize

from tvm_dnnfusion.schedules.cpu import nest
from tvm_dnnfusion.schedules.cpu.common import Kernel
from tvm_dnnfusion.schedules.cpu.maps import movement
from tvm_dnnfusion.schedules.cpu.window import window_tiles
from tvm_dnnfusion.schedules.cpu.winograd.epilogue import fused_stages, reads
from tvm_dnnfusion.schedules.cpu.winograd.loops import Loops
from tvm_dnnfusion.schedules.cpu.winograd.plan import plan_of


def winograd_block(k: Kernel) -> Any:
    """The function with the loops of the stages data, prod and anchor written out."""
    blocks = nest.blocks_of(k.sch.mod["main"].body)
    anchor = blocks["anchor0"]
    plan = plan_of(k, blocks)
    rest = [blocks[name] for name in k.all() if name != anchor.name_hint]
    fused = [] if k.separate else fused_stages(rest, plan.result)
    own = {"data0", "weight0", "prod0", anchor.name_hint, *(b.name_hint for b in fused)}
    keep = any(reads(b, plan.result) for n, b in blocks.items() if n not in own and n != "root")
    _others(k, blocks, own)
    return _replaced(k.sch.mod["main"], own, Loops(plan, fused, keep, k.device))


def _others(k: Kernel, blocks: dict[str, Any], own: set[str]) -> None:
    """Schedule the stages before and after: a pooling with its outputs, the rest by itself."""
    outs: list[str] = []
    for pool in k.names("pool"):
        made = blocks[pool].writes[0].source
        outs = [n for n in k.names("out") if n not in own and reads(blocks[n], made)]
        window_tiles(k, pool, outs)
    for name in k.names("pad", "pack", "mid", "out", "hold"):
        if name not in own and name not in outs:
            movement(k, name)


def _replaced(func: Any, own: set[str], loops: Loops) -> Any:
    """The function with the statements of these stages replaced by the loops."""
    realize = func.body
    root: SBlock = realize.block
    statements = list(root.body.seq) if isinstance(root.body, tirx.SeqStmt) else [root.body]
    names = [set(nest.blocks_of(s)) for s in statements]
    made = loops.body()
    kept: list[Any] = []
    for statement, inside in zip(statements, names):
        if inside <= own:
            if made is not None:
                kept.append(made)
                made = None
            continue
        kept.append(statement)
    body = nest.sequence(*kept)
    used = [b for b in root.alloc_buffers if nest.touches(body, b)]
    block = SBlock([], [], [], "root", body, None, [*used, *loops.buffers])
    return func.with_body(SBlockRealize([], True, block))
