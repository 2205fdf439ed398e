"""The kernel that holds a model back: where most time goes beyond what its FLOPs need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.tables import Slowest
from tvm_dnnfusion.api import Compiled
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.runtime.bench import BUILTIN, KernelTime


def kernel_flops(compiled: Compiled) -> dict[str, int]:
    """FLOPs of all calls of each kernel in one run."""
    info, kernel_of = extend(compiled.graph).info, compiled.fused.lowered.kernel_of
    out: dict[str, int] = {}
    for block in compiled.plan.blocks:
        kernel = kernel_of.get(block.name, block.name)
        out[kernel] = out.get(kernel, 0) + sum(info[op].flops for op in block.ops)
    return out


def slowest(
    kernels: Iterable[KernelTime], flops: Mapping[str, int], peak_gflops: float
) -> Slowest | None:
    """The kernel with the most time to win; None where nothing ran."""
    rows = [row for row in kernels if row.name != BUILTIN]
    if not rows:
        return None
    needed = {row.name: flops.get(row.name, 0) / peak_gflops / 1e3 for row in rows}
    worst = max(rows, key=lambda row: (row.us - needed[row.name], row.name))
    share = needed[worst.name] / worst.us
    return Slowest(worst.name, round(worst.calls), worst.us, worst.share, share)
