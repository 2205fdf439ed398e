"""Measures blocks on one device: built here, linked, sent, timed in a session's own process.

A kernel that crashes or hangs costs its deadline, not the run. Timings are repeated until their
spread is small, as `profile/measure.py` does without a session.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_dnnfusion.codegen.variants import limit_of
from tvm_dnnfusion.devices.registry import target_dict
from tvm_dnnfusion.devices.sessions import Address, Session, TimingOptions
from tvm_dnnfusion.devices.sessions import Limits as Deadlines
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.measuring.kernels import candidate
from tvm_dnnfusion.profile.arrays import Array, random_array
from tvm_dnnfusion.profile.blocks import block_graph
from tvm_dnnfusion.profile.measure import Limits, is_quiet, parameters, spread
from tvm_dnnfusion.profile.records import Measurement
from tvm_dnnfusion.runtime.link import find_linker

SYMBOL = "measured_kernel"
LIMITS = Limits()
CALL_S = 60.0
"""Deadline of one group of samples: a kernel of a large model takes a second at most."""


@dataclass(frozen=True, slots=True)
class Job:
    """A block to be measured: its canonical form and the rest of what its key is made of.

    `schedule` is the schedules' version with the tag of `codegen.variants`.
    """

    key: str
    block: str
    device: str
    threads: int
    schedule: str


class Meter:
    """One device, under one address.

    Parameters
    ----------
    device : what is compiled for; `address` : where it runs, as `devices.sessions.address` has it.
    threads : of TVM on the device; None for its own choice.
    limits : when a timing is steady, and when it is given up.
    """

    def __init__(
        self,
        address: Address | str,
        device: DeviceSpec,
        threads: int | None = None,
        limits: Limits = LIMITS,
        call_s: float = CALL_S,
    ) -> None:
        self.device, self.limits = device, limits
        self.session = Session(address, threads=threads, limits=Deadlines(call_s=call_s))

    def measure(self, job: Job) -> Measurement:
        """Latency of a block.

        Raises SessionError where the device fails, and whatever building may raise.
        """
        ops, graph = block_graph(job.block)
        func = candidate(ops, graph, self.device, limit_of(job.schedule))
        rng = np.random.default_rng(0)
        arguments = [
            random_array(shape, dtype, rng, int_high=1) for shape, dtype in parameters(func)
        ]
        with tempfile.TemporaryDirectory(prefix="dnnfusion-") as folder:
            library = Path(folder) / f"kernel-{os.getpid()}.so"
            build(func, self.device, library)
            processor = "opencl" if self.device.kind == "gpu" else "cpu"
            program = self.session.load(library, processor=processor, plain=True)
            found = self._steady(program, arguments)
            program.close()
            return found

    def close(self) -> None:
        """End the session."""
        self.session.close()

    def _steady(self, program: Any, arguments: list[Array]) -> Measurement:
        """Groups of samples until one agrees with itself and with the fastest sample of all."""
        limits, times = self.limits, list[float]()
        warmup_s = limits.warmup_us / 1e6
        spent = 0.0
        while True:
            options = TimingOptions(limits.min_samples, limits.sample_us, warmup_s)
            timing = program.time(arguments, entry=SYMBOL, options=options)
            window = list(timing.samples_us)
            times += window
            spent += sum(window) * timing.runs_per_sample / 1e6
            if is_quiet(window, min(times), limits.spread):
                return Measurement(float(np.median(window)), spread(window), len(times))
            if len(times) >= limits.max_samples or spent >= limits.wall_s:
                return Measurement(float(np.median(times)), spread(times), len(times))


def build(func: Any, device: DeviceSpec, library: Path) -> None:
    """Compile one kernel for a device into a library that holds nothing else."""
    import tvm

    target = tvm.target.Target(target_dict(device) or {"kind": "llvm"})
    host = dict(device.host) or dict(device.target)
    module = tvm.IRModule({SYMBOL: func.with_attr("global_symbol", SYMBOL)})
    built = tvm.compile(module, target=target)
    built.export_library(str(library), fcompile=find_linker(str(host.get("mtriple", ""))))
