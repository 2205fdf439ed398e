"""The phone bench: compile, link, send, verify, warm up, measure; one column after another.

Every column is done when the next one begins, and `keep` is told: a device that dies takes the
column under way with it, and the same call with `before` goes on with the rest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tvm.error import InternalError
from tvm.s_tir.schedule import ScheduleError

from tvm_dnnfusion import __version__
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.devices.sessions import Address, Limits, Session, TimingOptions
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.fingerprint import fingerprint
from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.ondevice.build import build
from tvm_dnnfusion.ondevice.measure import measure
from tvm_dnnfusion.ondevice.place import fitted
from tvm_dnnfusion.ondevice.records import VARIANTS, Report, Result, key_of
from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.runtime.inputs import check_inputs
from tvm_dnnfusion.runtime.reference import run_unfused
from tvm_dnnfusion.runtime.signature import signature_of

Say = Callable[[str], None]
TVM_ERRORS = (InternalError, ScheduleError)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure.

    `threads` None takes the cores of the device's spec, as far as the device has them; `cluster` is
    "all", "big" or "little"; `system` "android", "linux" or "" for what the server suggests.
    `float16` compiles every column so, and compares with float16's tolerance; `float16_sums` is
    the dtype in which sums of float16 are kept.
    """

    variants: tuple[str, ...] = tuple(VARIANTS)
    timing: TimingOptions = field(default_factory=TimingOptions)
    threads: int | None = None
    cluster: str = "all"
    system: str = ""
    limits: Limits = field(default_factory=Limits)
    float16: bool = False
    float16_sums: str = "float16"


def bench(
    module: Any,
    inputs: Mapping[str, Array],
    spec: DeviceSpec,
    address: Address | str,
    settings: Settings = Settings(),
    *,
    model: str = "model",
    before: Report | None = None,
    keep: Callable[[Report], None] = lambda _: None,
    say: Say = lambda _: None,
) -> Report:
    """Measure a model on a device.

    Parameters
    ----------
    module : a Relax module, as `frontend.load` gives it.
    inputs : arrays by name; results on them are compared with this machine's.
    spec : the device to compile for; `fitted` to what answers at the address.
    address : see `devices.sessions.address`.
    before : an earlier report; its columns are taken over where they are of the same key.
    keep : called with the report so far after each column.

    Raises the sessions' errors for a device that cannot be reached or is lost for good, DeviceError
    where the device is not what is compiled for, InputsError where the inputs do not fit.
    """
    given = check_inputs(inputs, signature_of(module))
    say("connect")
    with Session(address, limits=settings.limits, cluster=settings.cluster) as session:
        report = _head(session, module, given, spec, settings, model)
        if before is not None and before.key == report.key:
            report = replace(report, results=before.results)
        left = [name for name in settings.variants if report.result(name) is None]
        if not left:
            return report
        say("reference")
        expected = run_unfused(module, registry.target_dict(registry.host()), given)
        with tempfile.TemporaryDirectory(prefix="dnnfusion-device-") as folder:
            for name in left:
                found = _column(session, module, name, spec, settings, Path(folder),
                                list(given.values()), expected, say)  # fmt: skip
                report = replace(report, results=_in_order((*report.results, found)))
                keep(report)
    return report


def _column(
    session: Session,
    module: Any,
    name: str,
    spec: DeviceSpec,
    settings: Settings,
    folder: Path,
    inputs: Sequence[Array],
    expected: Mapping[str, Array],
    say: Say,
) -> Result:
    """Compile and measure one column."""
    say(f"compile {name}")
    place = fitted(spec, session.info, settings.system)
    try:
        built = build(
            module, VARIANTS[name], place, folder, settings.float16, settings.float16_sums
        )
    except TVM_ERRORS as error:  # the other columns, and the other models, may compile
        line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return Result(name, 0, 0, problem=f"does not compile: {line[:300]}")
    say(f"measure {name}")
    processor = "opencl" if spec.kind == "gpu" else "cpu"
    return measure(session, built, inputs, expected, processor, settings.timing)


def _head(
    session: Session,
    module: Any,
    inputs: Mapping[str, Array],
    spec: DeviceSpec,
    settings: Settings,
    model: str,
) -> Report:
    """The report without results; sets the device's threads."""
    info = session.info
    place = fitted(spec, info, settings.system)
    wanted = settings.threads or (spec.cores if spec.kind == "cpu" else 1)
    threads = session.configure(min(wanted, info.processors or wanted), settings.cluster)
    target = registry.target_dict(place)
    shapes = {name: [str(a.dtype), *a.shape] for name, a in inputs.items()}
    form = fingerprint(from_relax(module).graph)
    sums = () if settings.float16_sums == "float16" else (settings.float16_sums,)
    key = key_of(model, form, shapes, target, threads, settings.cluster, info.machine, __version__,
                 settings.float16, *sums)  # fmt: skip
    return Report(key, model, spec.name, str(session.address), target, info.machine, info.system,
                  info.processors, threads, info.emulated, settings.float16,
                  settings.float16_sums)  # fmt: skip


def _in_order(results: Sequence[Result]) -> tuple[Result, ...]:
    """Columns in the paper's order, whatever order they were asked for in."""
    return tuple(sorted(results, key=lambda result: list(VARIANTS).index(result.variant)))
