"""What the machine can do at best: multiply-adds per second, and bytes per second from memory.

The kernels are those of `tvm_dnnfusion/measuring/machine.py`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass

from tvm_dnnfusion.devices import cpu, threads
from tvm_dnnfusion.measuring.machine import bandwidth_gbs, peak_gflops


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine: its CPU, the threads in force, and what was measured with them.

    `load_average` is the system's, over the minute before: above about 0.5 something else ran, and
    no figure is worth much.
    """

    cpu: str
    threads: int
    peak_gflops: float
    bandwidth_gbs: float
    load_average: float


def measure(count: int) -> Machine:
    """Measure with `count` threads; the best of 25 runs each."""
    load = os.getloadavg()[0]
    in_force = threads.configure(count).count
    return Machine(
        cpu=cpu.cpu_info().model,
        threads=in_force,
        peak_gflops=round(peak_gflops(in_force), 1),
        bandwidth_gbs=round(bandwidth_gbs(in_force), 1),
        load_average=round(load, 2),
    )


if __name__ == "__main__":
    print(json.dumps(asdict(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 2)), indent=2))
