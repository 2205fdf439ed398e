"""Counts of one run under Oclgrind, an interpreter that counts what OpenCL kernels execute."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

RUNTIMES = (
    Path("/usr/lib/oclgrind/liboclgrind-rt.so"),
    Path("/usr/local/lib/oclgrind/liboclgrind-rt.so"),
)
"""Oclgrind's own OpenCL library, opened in place of the system's."""

LIMIT_S = 900
"""Seconds after which a run is given up; a second interprets some millions of instructions."""

_KERNEL = re.compile(r"Instructions executed for kernel '([^']+)':\n((?:[ \t]+[\d,]+ - .*\n)+)")
_RACE = re.compile(r"data race at \w+ memory address")
_LINE = re.compile(r"[ \t]+([\d,]+) - (.*)\n")
_ACCESS = re.compile(r"(load|store) (\w+) \((\d+) bytes\)")
# vload4(size_t, const __global float*) and its like are functions to the interpreter, which counts
# their calls but not their bytes: width, address space and type are in the mangled name.
_VECTOR = re.compile(r"call _Z\d+v(load|store)(2|3|4|8|16)\w*P(?:U3AS(\d))?K?(Dh|[a-z])\(")
_ELEMENT = {"f": 4, "i": 4, "j": 4, "Dh": 2, "s": 2, "t": 2, "c": 1, "h": 1, "d": 8, "l": 8, "m": 8}
_SPACE = {"": "private", "1": "global", "2": "constant", "3": "local"}
_SPACES = ("global", "constant", "local", "private")


@dataclass(frozen=True, slots=True)
class Counts:
    """What the kernels of one run executed.

    `loaded` and `stored` are bytes by address space: "global" (constant memory included), "local",
    "private" (arrays that an unoptimised compiler keeps in memory). `instructions` are LLVM's, of
    all work-items together; a vector operation counts once. `races` are those that Oclgrind saw,
    None where it was not asked to look.
    """

    kernels: int
    instructions: int
    loaded: Mapping[str, int]
    stored: Mapping[str, int]
    barriers: int
    races: int | None = None

    @property
    def global_bytes(self) -> int:
        """Bytes read from and written to global memory."""
        return self.loaded["global"] + self.stored["global"]

    @property
    def local_bytes(self) -> int:
        """Bytes read from and written to local memory."""
        return self.loaded["local"] + self.stored["local"]


class CountError(RuntimeError):
    """A run cannot be counted; the message says why."""


def runtime() -> Path:
    """Oclgrind's library. Raises CountError where it is not installed."""
    beside = shutil.which("oclgrind")
    places = [Path(beside).parent.parent / "lib/oclgrind/liboclgrind-rt.so"] if beside else []
    for path in (*places, *RUNTIMES):
        if path.is_file():
            return path
    raise CountError("Oclgrind is not installed: apt-get install oclgrind")


def count(script: list[str], races: bool = False) -> Counts:
    """Run `python script...` under Oclgrind and add up what its kernels executed.

    Raises CountError where Oclgrind is absent, or the run fails or takes too long.
    """
    env = {
        **os.environ,
        "DNNFUSION_OPENCL_LIB": str(runtime()),
        "OCLGRIND_INST_COUNTS": "1",
        **({"OCLGRIND_DATA_RACES": "1", "OCLGRIND_UNIFORM_WRITES": "1"} if races else {}),
    }
    try:
        done = subprocess.run(
            [sys.executable, *script], env=env, capture_output=True, text=True,
            timeout=LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CountError(f"no result within {LIMIT_S} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise CountError(lines[-1][:300] if lines else f"exit code {done.returncode}")
    return parse(done.stdout, len(_RACE.findall(done.stderr)) if races else None)


def parse(text: str, races: int | None = None) -> Counts:
    """Counts out of what Oclgrind printed; raises CountError where it printed none."""
    found = _KERNEL.findall(text)
    if not found:
        raise CountError("no kernel ran")
    loaded, stored = dict.fromkeys(_SPACES, 0), dict.fromkeys(_SPACES, 0)
    total = barriers = 0
    for number, what in (m for _, lines in found for m in _LINE.findall(lines)):
        times = int(number.replace(",", ""))
        total += times
        barriers += times if what.startswith("call _Z7barrier") else 0
        for kind, space, size in _accesses(what, times):
            into = loaded if kind == "load" else stored
            into["global" if space == "constant" else space] += size
    return Counts(len(found), total, loaded, stored, barriers, races)


def _accesses(what: str, times: int) -> Iterator[tuple[str, str, int]]:
    """(load or store, address space, bytes) of one line."""
    if plain := _ACCESS.match(what):
        yield plain[1], plain[2], int(plain[3])
    elif vector := _VECTOR.match(what):
        size = times * int(vector[2]) * _ELEMENT[vector[4]]
        yield vector[1], _SPACE[vector[3] or ""], size
