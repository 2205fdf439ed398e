"""How few instructions a kernel could do with: its multiply-adds, and the loads of its tile.

A register tile of p places by v vectors takes, for each step over f folds (f lanes), f p v
multiply-adds and at least p vectors of its left operand and f v vectors of weights (over planes p
rows of weights, and f v vectors of places). So

    ideal = macs / f * (1 + (p / f + v) / (p v))

with every lane at work, one load per vector (LLVM pairs them: two per instruction), and nothing for
addresses, loops, borders, bias, activation and stores. A convolution's tile is its own, a product's
the best of those that fit the registers, whether or not it divides the rows. Convolutions by
Winograd's transforms take fewer multiplications than this counts; they have no ideal here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_dnnfusion.api import Compiled
from tvm_dnnfusion.codegen.product_tiles import fitting
from tvm_dnnfusion.codegen.tiles import Tile
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.ecg.metrics import extend

HEAVY = ("conv", "convpool", "matmul", "planes")
"""Kinds of kernels that have an ideal: sums over channels in register tiles. Of a convolution with
its pooling it is the convolution's; the pooling counts against it."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one run of a model asks of all calls of a kernel: multiply-adds of the direct algorithm,
    and instructions at the least (0 where that is not known)."""

    kind: str
    macs: int
    ideal: float = 0.0


def needs(compiled: Compiled) -> dict[str, Need]:
    """By kernel; MACs are those of its heavy operator."""
    info, lowered = extend(compiled.graph).info, compiled.fused.lowered
    out: dict[str, Need] = {}
    for block in compiled.plan.blocks:
        kernel, kind = lowered.kernel_of.get(block.name, block.name), lowered.kinds[block.name]
        heavy = max(block.ops, key=lambda op: info[op].flops)
        macs = info[heavy].flops // 2
        tile = _tile(compiled, kernel, kind, compiled.graph.by_name[heavy])
        need = Need(kind, macs, ideal(macs, tile, compiled.device.lanes()) if tile else 0.0)
        known = out.get(kernel, Need(kind, 0))
        out[kernel] = Need(kind, known.macs + need.macs, known.ideal + need.ideal)
    return out


def ideal(macs: int, tile: Tile, lanes: int) -> float:
    """Instructions of so many multiply-adds in tiles of this form."""
    loads = (tile.places / lanes + tile.vectors) / (tile.places * tile.vectors)
    return macs / lanes * (1 + loads)


def _tile(compiled: Compiled, kernel: str, kind: str, heavy: Op) -> Tile | None:
    if kind in ("conv", "convpool", "planes"):
        function = compiled.module[kernel]
        return Tile(*(int(n) for n in function.attrs["dnnfusion.tile"]))
    if kind == "matmul":
        return best_of_product(compiled.device, *compiled.graph.tensors[heavy.output].dims[-2:])
    return None


def best_of_product(device: DeviceSpec, rows: int, columns: int) -> Tile:
    """The tile of a product with the lowest ideal, whether or not it divides rows and columns."""
    lanes = device.lanes()
    found = (t for t in fitting(device, rows) if t.vectors <= -(-columns // lanes))
    return min(found, key=lambda tile: ideal(lanes, tile, lanes))
