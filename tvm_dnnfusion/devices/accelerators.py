"""Accelerators with one shared buffer, as data: what memory planners need to know of them.

Three levels of memory: registers in each processing element (PE), a shared buffer, DRAM. The PE
array unrolls two loops of a layer; their extents are lower bounds of every tile that runs on it.
Energies are relative: one multiply-accumulate is 1. Sources: the configurations published with
Optimus (LCTES'21), Simba as Cocco (ASPLOS'24) uses it, and vendors' figures for the caches.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from tvm_dnnfusion.devices.registry import DeviceError

KIB = 1024


@dataclass(frozen=True, slots=True)
class Dataflow:
    """The two loops that a PE array unrolls, with the extent of each, and what fills idle PEs.

    Loops are named "B" (batch), "K" (output channels), "C" (input channels), "H" and "W" (rows and
    columns of the output), "R" and "D" (rows and columns of the kernel).
    """

    unrolled: tuple[tuple[str, int], tuple[str, int]]
    replicated: tuple[str, str] = ("", "")

    def bound(self, loop: str) -> int:
        """Least extent of a loop's tile: the PEs that it is spread over, 1 for other loops."""
        return dict(self.unrolled).get(loop, 1)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One accelerator, or one level of a processor's caches.

    `buffer_bytes` is the shared buffer, `register_bytes` the register file of one PE. Energies are
    per access of a word: registers, buffer, DRAM, and a hop between neighbouring PEs.
    """

    name: str
    buffer_bytes: int
    pes: int
    register_bytes: int
    dataflow: Dataflow
    register_energy: float
    buffer_energy: float
    dram_energy: float = 200.0
    hop_energy: float = 0.25
    mac_energy: float = 1.0

    def slice_of(self, channels: int) -> int:
        """Channels in the thinnest slice that keeps the array busy, of a map with so many."""
        return min(max(self.dataflow.bound("K"), self.dataflow.bound("C")), channels)


def _array(first: str, second: str, side: int = 32, replicated: tuple[str, str] = ("", "")
           ) -> Dataflow:  # fmt: skip
    return Dataflow(((first, side), (second, side)), replicated)


DATAFLOWS: dict[str, Dataflow] = {
    "W|K": _array("W", "K", replicated=("H", "C")),
    "C|K": _array("C", "K"),
    "R|K": _array("R", "K"),
    "R|C": _array("R", "C"),
    "W|C": _array("W", "C"),
    "B|K": _array("B", "K"),
    "B|C": _array("B", "C"),
}
"""The seven variants that Optimus compares, on 32 x 32 PEs."""

_EYERISS = Dataflow((("D", 12), ("W", 14)), ("R", "H"))
_LANES = Dataflow((("W", 1), ("K", 16)))
"""A processor's vector unit: sixteen output channels (512 bits of float32) at a time."""

_ALL = (
    Accelerator("optimus", 128 * KIB, 1024, 64, DATAFLOWS["W|K"], 0.1, 6.0),
    Accelerator("optimus-512k", 512 * KIB, 1024, 32, DATAFLOWS["W|K"], 0.05, 12.0),
    Accelerator("optimus-512rf", 128 * KIB, 1024, 512, DATAFLOWS["W|K"], 1.0, 6.0),
    Accelerator("eyeriss", 181 * KIB + 512, 168, 512, _EYERISS, 1.0, 6.0),
    Accelerator("shidiannao", 181 * KIB + 512, 64, 64, _array("C", "K", 8), 0.1, 6.0),
    Accelerator("lower-bound", 173 * KIB + 512, 1024, 128, DATAFLOWS["W|K"], 0.5, 6.0),
    Accelerator("simba", 1024 * KIB, 1024, 64, _array("C", "K", 8), 0.1, 12.0),
    Accelerator("cpu-l2-512k", 512 * KIB, 16, 2048, _LANES, 1.0, 10.0),
    Accelerator("cpu-l2-1m", 1024 * KIB, 16, 2048, _LANES, 1.0, 12.0),
    Accelerator("cpu-l3-32m", 32 * 1024 * KIB, 16, 2048, _LANES, 1.0, 40.0),
    Accelerator("adreno-640-gmem", 1024 * KIB, 768, 512, _array("W", "K", 8), 0.5, 12.0),
    Accelerator("mali-g76-l2", 2048 * KIB, 720, 512, _array("W", "K", 8), 0.5, 16.0),
)
"""Processor levels take Optimus' relative energies, scaled with the size of the memory."""

ACCELERATORS: dict[str, Accelerator] = {a.name: a for a in _ALL}
DEFAULT = ACCELERATORS["optimus"]


def accelerator(name: str) -> Accelerator:
    """The accelerator of that name. Raises DeviceError with the names that exist."""
    if name not in ACCELERATORS:
        close = difflib.get_close_matches(name, ACCELERATORS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise DeviceError(f"no accelerator named {name!r}{hint} Known: {', '.join(ACCELERATORS)}")
    return ACCELERATORS[name]
