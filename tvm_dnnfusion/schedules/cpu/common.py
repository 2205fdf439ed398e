"""What the CPU schedules share: finding stages, choosing tiles, parallel and vector loops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad

from tvm_dnnfusion.codegen.params import Choices, divisors
from tvm_dnnfusion.codegen.tiles import Tile
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.schedules.cpu.places import aligned

# Fewer elements than this are not worth waking the thread pool: a launch takes 2 us with hot
# threads and up to 25 us with cold ones, and a core handles about 1,000 elements per microsecond.
PARALLEL_ELEMENTS = 1 << 14

# Other thresholds that a search may try, up to no second thread at all.
_THRESHOLDS = (1 << 11, PARALLEL_ELEMENTS, 1 << 17, 1 << 20, 1 << 62)

# Steps of a fold that a search may have written out: a vector of channels.
MAX_UNROLL = 16

_CONDITION = tvm.ir.Op.get("prim.if_then_else")


class ScheduleFailed(Exception):
    """The kernel does not have the form that the schedule is for."""

    exit_code = 2


@dataclass(frozen=True)
class Kernel:
    """A schedule under way, and the device that it is for.

    `separate` keeps outputs out of the anchor's tiles: the second try of a schedule that failed.
    `choices` answers for the template's parameters.
    """

    sch: Any
    device: DeviceSpec
    separate: bool = False
    choices: Choices = field(default_factory=Choices)

    def names(self, *roles: str) -> list[str]:
        """Blocks whose stage has one of the roles, in program order."""
        children = self.sch.get_child_blocks(self.sch.get_sblock("root"))
        found = [self.sch.get(b).name_hint for b in children]
        return [n for n in found if n.rstrip("0123456789_") in roles]

    def all(self) -> list[str]:
        """All blocks, in program order."""
        children = self.sch.get_child_blocks(self.sch.get_sblock("root"))
        return [self.sch.get(b).name_hint for b in children]

    def loops(self, block: str) -> list[Any]:
        """The loops around a block."""
        return list(self.sch.get_loops(block))

    def extent(self, loop: Any) -> int:
        """The extent of a loop; ScheduleFailed when it is not a number."""
        value = self.sch.get(loop).extent
        if not isinstance(value, tirx.IntImm):
            raise ScheduleFailed(f"loop extent {value}")
        return int(value)

    def extents(self, block: str) -> list[int]:
        """The extents of the loops around a block."""
        return [self.extent(x) for x in self.loops(block)]

    def reduction(self, block: str) -> int:
        """How many of the block's own axes are folded."""
        return sum(
            int(iv.iter_type) == 2 for iv in self.sch.get(self.sch.get_sblock(block)).iter_vars
        )

    def spatial(self, block: str) -> tuple[list[Any], list[Any]]:
        """The loops of a root stage as (spatial, folded)."""
        loops, n = self.loops(block), self.reduction(block)
        return (loops[: len(loops) - n], loops[len(loops) - n :]) if n else (loops, [])

    def tile(self) -> Tile:
        """The register tile for which a convolution was packed; ScheduleFailed without one."""
        sizes = self.attr("dnnfusion.tile")
        if sizes is None:
            raise ScheduleFailed("no register tile")
        return Tile(*(int(n) for n in sizes))

    def attr(self, name: str) -> Any:
        """An attribute of the kernel, None where it has none of that name."""
        (func,) = self.sch.mod.functions.values()
        return (func.attrs or {}).get(name)

    def lanes(self) -> int:
        """Lanes of float32."""
        return self.device.lanes("float32")

    def parallel(self, loops: list[Any], elements: int) -> Any:
        """Fuse loops into one, and run it in parallel if there is enough to do."""
        fused = self.sch.fuse(*loops) if len(loops) > 1 else loops[0]
        least = self.choices.at_most("parallel_elements", PARALLEL_ELEMENTS, lambda: _THRESHOLDS)
        if elements >= least and self.extent(fused) > 1:
            self.sch.parallel(fused)
        return fused

    def innermost(self, block: str, under: Any) -> Any | None:
        """The innermost loop of a block below a loop, or None if it has none there."""
        loops = self.loops(block)
        depth = next(
            (i for i, x in enumerate(loops) if self.sch.get(x).same_as(self.sch.get(under))),
            len(loops) - 1,
        )
        return loops[-1] if depth < len(loops) - 1 else None

    def vectorize_under(self, block: str, under: Any) -> None:
        """A vector loop innermost in a block, unless the block is a single element there."""
        loop = self.innermost(block, under)
        if loop is not None:
            self.vectorize(loop)

    def unroll_under(self, block: str, under: Any) -> None:
        """Unroll the loops of a block below a loop, but for the innermost, which is a vector.

        Registers have no index: an accumulator that a loop reads by number stays in memory.
        """
        loops = self.loops(block)
        same = [i for i, x in enumerate(loops) if self.sch.get(x).same_as(self.sch.get(under))]
        if same:
            self.unroll(*loops[same[0] + 1 : -1])

    def apart(self, anchor: str, outs: list[str]) -> bool:
        """Whether the outputs cannot be written tile by tile of the anchor.

        So it is where one reads the anchor, or another output, only under a condition (padding,
        joining): some of its elements then belong to no tile, and reverse_compute_at would leave
        them unwritten. And so it is where one reads another output, or the anchor, at another place
        than its own: the tile would take elements that are not written yet.
        """
        if self.separate:
            return True
        blocks = [self.sch.get(self.sch.get_sblock(name)) for name in (anchor, *outs)]
        if not aligned(blocks[0], blocks[1:]):
            return True
        made = [self._written(name) for name in (anchor, *outs)]
        return any(self._guarded(name, made) for name in outs)

    def _written(self, block: str) -> Any:
        return self.sch.get(self.sch.get_sblock(block)).writes[0].source

    def _guarded(self, block: str, buffers: list[Any]) -> bool:
        """Whether a block reads one of the buffers only under a condition."""
        found: list[Any] = []

        def load(node: Any) -> None:
            if any(node.source.same_as(b) for b in buffers):
                found.append(node)

        def call(node: Any) -> None:
            if node.op.same_as(_CONDITION):
                for side in node.args[1:]:
                    tvm_ffi.structural_walk(side, [(TensorLoad, load)])

        body = self.sch.get(self.sch.get_sblock(block)).body
        tvm_ffi.structural_walk(body, [(tvm.ir.Call, call)])
        return bool(found)

    def conditional(self, block: str) -> bool:
        """Whether an element of a block is read, or made, only under a condition."""
        found: list[Any] = []

        def call(node: Any) -> None:
            if node.op.same_as(_CONDITION):
                found.append(node)

        body = self.sch.get(self.sch.get_sblock(block)).body
        tvm_ffi.structural_walk(body, [(tvm.ir.Call, call)])
        return bool(found)

    def vectorize(self, loop: Any) -> None:
        """A vector loop of whole vectors, if the extent allows one; else LLVM may find its own."""
        n, lanes = self.extent(loop), self.lanes()
        while lanes >= 4:
            if n == lanes:
                self.sch.vectorize(loop)
                return
            if n % lanes == 0:
                self.sch.vectorize(self.sch.split(loop, [None, lanes])[1])
                return
            lanes //= 2

    def folds(self, folded: list[Any]) -> list[Any]:
        """The loops of a fold, with steps of the innermost written out where a parameter asks."""
        extent = self.extent(folded[-1])
        steps = self.choices.at_most("unroll", 1, lambda: divisors(extent, MAX_UNROLL))
        if steps == 1:
            return folded
        outer, inner = self.sch.split(folded[-1], [None, steps])
        self.unroll(inner)
        return [*folded[:-1], outer, inner]

    def unroll(self, *loops: Any) -> None:
        """Unroll loops completely."""
        for x in loops:
            self.sch.unroll(x)


def product(values: list[int]) -> int:
    """Product of numbers."""
    out = 1
    for v in values:
        out *= v
    return out
