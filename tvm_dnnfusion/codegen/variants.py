"""What of a build, beside the schedules' version, a block's latency depends on: Winograd's limits,
and the dtype of sums.

A convolution may be kept from its fastest tiles by the user's `winograd` or by the budget of the
weights (`winograd_budget.py`), which looks at the whole graph. A latency that was measured under a
limit is another one than without: it carries a tag in its key. So does one with sums of float16 in
float32, for which the device has the same name and other tiles.
"""

from __future__ import annotations

from collections.abc import Mapping

from tvm_dnnfusion.codegen.winograd_budget import WEIGHTS_GROWTH, allowed
from tvm_dnnfusion.codegen.winograd_choice import MAX_TILE
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op


class Variants:
    """The limits of each block of a graph, for one choice of the user's.

    Parameters
    ----------
    winograd : the largest F(m, r) anywhere; 0 forbids it.
    winograd_memory : how many times their memory all weights together may take for it.
    """

    def __init__(
        self,
        device: DeviceSpec,
        winograd: int = MAX_TILE,
        winograd_memory: float = WEIGHTS_GROWTH,
    ) -> None:
        self.device = device
        self.winograd, self.winograd_memory = winograd, winograd_memory
        self._graph: Graph | None = None
        self._limits: Mapping[str, int] = {}
        self._free: Mapping[str, int] = {}

    def limit(self, ops: tuple[Op, ...], graph: Graph) -> int:
        """The largest m that the block may take; `MAX_TILE` where nothing holds it back."""
        self._of(graph)
        return min((self._limits.get(op.name, MAX_TILE) for op in ops), default=MAX_TILE)

    def tag(self, ops: tuple[Op, ...], graph: Graph) -> str:
        """ ".m2" where the block is held at F(2, 3) though more would be faster; before it
        ".float32-sums" where sums are so wide; else "".
        """
        self._of(graph)
        held = [
            self._limits[op.name]
            for op in ops
            if self._limits.get(op.name, MAX_TILE) < self._free.get(op.name, 0)
        ]
        sums = f".{self.device.sums}-sums" if self.device.sums else ""
        return sums + (f".m{min(held)}" if held else "")

    def _of(self, graph: Graph) -> None:
        """Look at a graph, unless it is the one that was looked at last."""
        if self._graph is graph:
            return
        self._limits = allowed(graph, self.device, self.winograd, self.winograd_memory).limits
        self._free = allowed(graph, self.device, MAX_TILE, float("inf")).limits
        self._graph = graph


def limit_of(tag: str) -> int:
    """The limit that a schedule's version with a tag stands for: "2.m4" -> 4, "2" -> MAX_TILE."""
    _, dot, held = tag.partition(".m")
    return int(held) if dot else MAX_TILE
