"""What the machine can do at best: multiply-adds per second, and bytes per second from memory.

The kernels are those of `tvm_dnnfusion/measuring/machine.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.arguments import count
from tvm_dnnfusion.devices import cpu, threads
from tvm_dnnfusion.measuring.machine import bandwidth_gbs, peak_gflops


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine: its CPU, the threads in force, and what was measured with them."""

    cpu: str
    threads: int
    peak_gflops: float
    bandwidth_gbs: float


def measure(count: int) -> Machine:
    """Measure with `count` threads; the best of 25 runs each."""
    in_force = threads.configure(count).count
    return Machine(
        cpu=cpu.cpu_info().model,
        threads=in_force,
        peak_gflops=round(peak_gflops(in_force), 1),
        bandwidth_gbs=round(bandwidth_gbs(in_force), 1),
    )


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """Seconds of processor time since some moment: all that the machine gave, what was spent, by
    anyone or by the hypervisor for other guests, and what this process spent.

    Times of the system are counted in hundredths of a second: differences over a fraction of a
    second are rough, their sums are not.
    """

    all: float
    spent: float
    own: float

    @classmethod
    def now(cls) -> ProcessorTime:
        """Of Linux's /proc/stat; zeros on systems without it."""
        try:
            line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
        except OSError:
            return cls(0.0, 0.0, 0.0)
        user, nice, system, idle, wait, irq, soft, steal = map(int, line.split()[1:9])
        spent = user + nice + system + irq + soft + steal
        tick = os.sysconf("SC_CLK_TCK")
        return cls((spent + idle + wait) / tick, spent / tick, time.process_time())

    def since(self, before: ProcessorTime) -> ProcessorTime:
        """What was spent between `before` and this."""
        return ProcessorTime(
            self.all - before.all, self.spent - before.spent, self.own - before.own
        )


def share_of_others(times: Iterable[ProcessorTime]) -> float | None:
    """Of the processor time of some stretches, the share that was not this process's, 0 to 1.

    None where the system does not tell.
    """
    found = list(times)
    given = sum(t.all for t in found)
    others = sum(t.spent - t.own for t in found)
    return round(min(1.0, max(0.0, others / given)), 4) if given else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.machine", description=__doc__)
    parser.add_argument("threads", nargs="?", type=count, default=2)
    print(json.dumps(asdict(measure(parser.parse_args().threads)), indent=2))
