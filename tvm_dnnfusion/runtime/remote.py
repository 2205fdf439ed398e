"""A compiled model on a device, by names: what `run`, `verify` and `bench` are for a session.

The library is linked for the target, sent, and loaded there; outputs, latency and the profile by
kernel come back in the same records as those of this machine.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tvm_dnnfusion.devices.sessions import (
    CallError,
    Program,
    Session,
    SessionError,
    Timing,
    TimingOptions,
)
from tvm_dnnfusion.devices.sessions.records import FEWEST, CoolDown
from tvm_dnnfusion.devices.threads import ThreadReport
from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.runtime.artefact import read_saved
from tvm_dnnfusion.runtime.bench import (
    SAMPLE_US,
    BenchOptions,
    BenchReport,
    KernelTime,
    kernel_times,
)
from tvm_dnnfusion.runtime.inputs import check_inputs
from tvm_dnnfusion.runtime.link import find_linker
from tvm_dnnfusion.runtime.module import Module, RunResult
from tvm_dnnfusion.runtime.processor import processor_of, triple_of
from tvm_dnnfusion.runtime.signature import Signature

OPTIONS = BenchOptions()
NO_REST = CoolDown()


@dataclass(frozen=True)
class Deployed:
    """A model that is loaded on a device; `kernels` maps kernels to the source layers in them."""

    program: Program
    signature: Signature
    entry: str = "main"
    kernels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def run(self, inputs: Mapping[str, Array]) -> RunResult:
        """Run once. Raises InputsError, or the errors of sessions."""
        outputs = self.program.run(self._ordered(inputs), entry=self.entry)
        names = [port.name for port in self.signature.outputs]
        return RunResult(dict(zip(names, outputs, strict=True)), self.threads())

    def bench(
        self,
        inputs: Mapping[str, Array],
        *,
        options: BenchOptions = OPTIONS,
        cool: CoolDown = NO_REST,
    ) -> BenchReport:
        """Measure latency, and the profile where the device's server can take one.

        A device that is lost meanwhile costs the samples under way, see `Program.time`.
        """
        timing = self.time(inputs, options, cool)
        kernels: tuple[KernelTime, ...] = ()
        if options.profile:
            with contextlib.suppress(CallError):  # a server that has no instrument
                kernels = self.profile(inputs)
        return BenchReport(
            median_us=timing.median_us,
            p90_us=timing.p90_us,
            min_us=timing.min_us,
            spread=timing.spread,
            samples=len(timing.samples_us),
            runs_per_sample=timing.runs_per_sample,
            warmup_runs=timing.warmup_runs,
            threads=self.threads(),
            kernels=kernels,
        )

    def time(
        self,
        inputs: Mapping[str, Array],
        options: BenchOptions = OPTIONS,
        cool: CoolDown = NO_REST,
    ) -> Timing:
        """Samples of the latency: `runs` of them, or fewer within `wall_s`."""
        given = self._ordered(inputs)
        first = TimingOptions(1, SAMPLE_US, options.warmup_s, cool)
        trial = self.program.time(given, entry=self.entry, options=first)
        sample_s = trial.median_us * trial.runs_per_sample / 1e6 + cool.pause_s
        count = max(FEWEST, min(options.runs, math.floor(options.wall_s / sample_s)))
        rest = TimingOptions(count, SAMPLE_US, 0.0, replace(cool, below_celsius=None))
        found = self.program.time(given, entry=self.entry, options=rest)
        return replace(
            found,
            warmup_runs=trial.warmup_runs + trial.runs_per_sample,
            lost=(*trial.lost, *found.lost),
        )

    def profile(self, inputs: Mapping[str, Array]) -> tuple[KernelTime, ...]:
        """Time per kernel, longest first. Raises CallError where the server cannot tell."""
        passes = self.program.profile(self._ordered(inputs), entry=self.entry)
        return kernel_times(passes, self.kernels)

    def threads(self) -> ThreadReport:
        """Threads in force on the device."""
        session = self.program.session
        return ThreadReport(session.threads, "device", f"on {session.address}")

    def _ordered(self, inputs: Mapping[str, Array]) -> list[Array]:
        return list(check_inputs(inputs, self.signature).values())


@contextmanager
def deployed(module: Module, target: Mapping[str, object], session: Session) -> Generator[Deployed]:
    """Link a compiled model, send it to a device, and remove it at the end.

    Raises EnvironmentLackError where nothing links for the target, LibraryError where the device is
    another machine.
    """
    with tempfile.TemporaryDirectory(prefix="dnnfusion-") as folder:
        library = Path(folder) / "model.so"
        linker = find_linker(triple_of(target))
        module.code.export_library(str(library), fcompile=linker)
        with _loaded(session, library, target) as program:
            yield Deployed(program, module.signature, module.entry, module.kernels)


@contextmanager
def deployed_library(path: Path | str, session: Session) -> Generator[Deployed]:
    """Send a saved model to a device, and remove it at the end. Raises as `artefact.load` does."""
    record, library = read_saved(path)
    with _loaded(session, library, record.target) as program:
        yield Deployed(program, record.signature, record.entry, record.kernels)


@contextmanager
def _loaded(session: Session, library: Path, target: Mapping[str, object]) -> Generator[Program]:
    program = session.load(library, processor=processor_of(target))
    try:
        yield program
    finally:
        with contextlib.suppress(SessionError):  # a lost device has removed it by itself
            program.close()
