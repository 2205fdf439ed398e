"""Peak and bandwidth of the machine at hand: measured once and kept, or estimated until then.

A guest system shows a base clock, or none, and nobody tells the bandwidth. `dnnfusion profile`
measures both (`tvm_dnnfusion/measuring/machine.py`) and keeps them in `machine.json` of the cache
folder, by the device's name and its cores; `registry.host()` takes them from there. Without that
file the estimates below hold, which are the same on every run: plans do not depend on the moment.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from tvm_dnnfusion import settings

FILE_NAME = "machine.json"

BOOST_GHZ: dict[str, float] = {
    "znver2": 3.3, "znver3": 3.4, "znver4": 3.55, "znver5": 3.7, "skylake-avx512": 2.8,
    "cascadelake": 3.1, "icelake-server": 3.1, "sapphirerapids": 3.0, "emeraldrapids": 3.0,
    "neoverse-n1": 2.5, "neoverse-v1": 2.6, "neoverse-n2": 2.8, "neoverse-v2": 2.8,
}  # fmt: skip
"""Clock in GHz with all cores at work, by LLVM's name of the CPU, for guests, to which the base
clock is shown. Source: vendors' data sheets of common server parts (7763, 9654, 8375C, 8488C); on a
2-core guest of znver4 that shows 2.6, chains of multiply-adds ran at 3.56."""

CORE_GBS = 15.0
"""Bandwidth that one core adds, in GB/s: 29 were measured with two cores of a Zen 4 server."""

MOST_GBS = 40.0
"""Where the sum over the cores ends: two channels of DDR4-2666, what a desktop has."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Float32 multiply-adds per second and bytes per second from memory, with all `cores`."""

    cores: int
    peak_gflops: float
    bandwidth_gbs: float


def clock_ghz(shown: float, mcpu: str, guest: bool) -> float:
    """The clock to reckon with: the one that the system shows, of guests at least the typical."""
    return max(shown, BOOST_GHZ.get(mcpu, 0.0)) if guest else shown


def estimated(cores: int, ghz: float, flops_per_cycle: int) -> Figures:
    """Figures of a machine that nobody measured; a peak of 0 where the clock is not known."""
    peak = round(cores * ghz * flops_per_cycle, 1)
    return Figures(cores, peak, min(cores * CORE_GBS, MOST_GBS))


def load(device: str, cores: int, folder: Path | None = None) -> Figures | None:
    """What was measured of a device with so many cores; None where nothing was.

    A file that cannot be read counts as none: the next measurement writes it anew.
    """
    entry = _read(_path(folder)).get(device)
    if not isinstance(entry, dict):
        return None
    found = cast("dict[str, Any]", entry)
    try:
        made = Figures(
            int(found["cores"]), float(found["peak_gflops"]), float(found["bandwidth_gbs"])
        )
    except (KeyError, TypeError, ValueError):
        return None
    usable = made.cores == cores and made.peak_gflops > 0 and made.bandwidth_gbs > 0
    return made if usable else None


def save(device: str, found: Figures, folder: Path | None = None) -> Path:
    """Keep what was measured of a device; returns the file. It is written whole or not at all.

    Raises OSError where it cannot be written.
    """
    path = _path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**_read(path), device: asdict(found)}, indent=2, sort_keys=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text + "\n")
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def _path(folder: Path | None) -> Path:
    return (settings.read().cache if folder is None else folder) / FILE_NAME


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
