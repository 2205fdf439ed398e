"""What the machine can do at best: multiply-adds per second, and bytes per second from memory.

Both are measured with kernels of TVM's own, so that they bound what its generated code can reach:
chains of fused multiply-adds that stay in registers, and a sum of two arrays larger than any cache.
The best of some runs counts: what else runs on the machine can only slow them down. A second or two
in all, and 768 MB of memory.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm.script import tirx as T

from tvm_dnnfusion.devices import registry, threads
from tvm_dnnfusion.devices.figures import Figures

CHAINS = 12
"""Independent accumulators per thread: two units of four cycles' latency need eight; AVX2 has 16
registers, of which two hold the factors."""

STEPS = 200_000
"""Multiply-adds per chain: about a millisecond, against a launch of microseconds."""

STREAM_BYTES = 256 << 20
"""Size of each streamed array: eight times the largest L3 slice one usually gets."""

REPEATS = 25


def machine_figures() -> Figures:
    """Peak and bandwidth of the host with all cores that the library uses on it."""
    cores = registry.host().cores

    def measured(_: threads.ThreadReport) -> Figures:
        return Figures(cores, round(peak_gflops(cores), 1), round(bandwidth_gbs(cores), 1))

    return threads.call_with(cores, measured)


def peak_gflops(count: int) -> float:
    """Float32 operations per nanosecond of `count` threads."""
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


def bandwidth_gbs(count: int) -> float:
    """Bytes per nanosecond from and to memory of `count` threads."""
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
