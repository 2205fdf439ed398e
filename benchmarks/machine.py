"""What the machine can do at best: multiply-adds per second, and bytes per second from memory.

Both are measured with kernels of TVM's own, so that they bound what its generated code can reach:
chains of fused multiply-adds that stay in registers, and a sum of two arrays larger than any cache.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass

import numpy as np
import tvm
from tvm.script import tirx as T

from tvm_dnnfusion.devices import cpu, registry, threads

CHAINS = 12
"""Independent accumulators per thread: two units of four cycles' latency need eight; AVX2 has 16
registers, of which two hold the factors."""

STEPS = 200_000
"""Multiply-adds per chain: about a millisecond, against a launch of microseconds."""

STREAM_BYTES = 256 << 20
"""Size of each streamed array: eight times the largest L3 slice one usually gets."""

REPEATS = 25


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
        peak_gflops=round(_peak_gflops(in_force), 1),
        bandwidth_gbs=round(_bandwidth_gbs(in_force), 1),
        load_average=round(load, 2),
    )


def _peak_gflops(count: int) -> float:
    lanes, chains, steps = registry.host().lanes(), CHAINS, STEPS

    @T.prim_func(s_tir=True)
    def kernel(x: T.Buffer((lanes,), "float32"), y: T.Buffer((count, chains, lanes), "float32")):
        T.func_attr({"global_symbol": "kernel", "tirx.noalias": True})
        for t in T.parallel(count):
            acc = T.alloc_buffer((chains, lanes), "float32", scope="local")
            for j in T.unroll(chains):
                for i in T.vectorized(lanes):
                    acc[j, i] = x[i]
            for _ in T.serial(steps):
                for j in T.unroll(chains):
                    for i in T.vectorized(lanes):
                        acc[j, i] = acc[j, i] * x[i] + x[i]
            for j in T.unroll(chains):
                for i in T.vectorized(lanes):
                    y[t, j, i] = acc[j, i]

    x = np.full(lanes, 0.5, np.float32)
    y = np.zeros((count, chains, lanes), np.float32)
    flops = 2 * chains * lanes * steps * count
    return flops / _seconds(kernel, x, y) / 1e9


def _bandwidth_gbs(count: int) -> float:
    lanes = registry.host().lanes()
    size = STREAM_BYTES // 4 // (count * lanes)

    @T.prim_func(s_tir=True)
    def kernel(
        x: T.Buffer((count, size, lanes), "float32"),
        y: T.Buffer((count, size, lanes), "float32"),
        z: T.Buffer((count, size, lanes), "float32"),
    ):
        T.func_attr({"global_symbol": "kernel", "tirx.noalias": True})
        for t in T.parallel(count):
            for k in T.serial(size):
                for i in T.vectorized(lanes):
                    z[t, k, i] = x[t, k, i] + y[t, k, i]

    arrays = [np.ones((count, size, lanes), np.float32) for _ in range(3)]
    return 3 * arrays[0].nbytes / _seconds(kernel, *arrays) / 1e9


def _seconds(kernel: tvm.tirx.PrimFunc, *arrays: np.ndarray) -> float:
    """Best time of one call."""
    target = tvm.target.Target(registry.target_dict(registry.host()))
    library = tvm.compile(tvm.IRModule({"kernel": kernel}), target=target).jit()
    timer = library.time_evaluator("kernel", tvm.cpu(), number=1, repeat=REPEATS)
    return min(timer(*(tvm.runtime.tensor(a) for a in arrays)).results)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 2)), indent=2))
