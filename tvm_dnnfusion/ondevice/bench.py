"""The phone bench: compile, link, send, verify, warm up, measure; one column after another.

Every column is done when the next one begins, and `keep` is told: a device that dies takes what was
in flight with it, and the same call with `before` goes on with the samples and columns that miss.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tvm_dnnfusion import __version__
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.devices.sessions import Address, Limits, Session, TimingOptions
from tvm_dnnfusion.devices.sessions.address import TRACKER
from tvm_dnnfusion.devices.sessions.errors import is_interrupt
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.fingerprint import fingerprint
from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.ondevice.build import build
from tvm_dnnfusion.ondevice.known import known
from tvm_dnnfusion.ondevice.measure import LostColumn, StoppedColumn, measure
from tvm_dnnfusion.ondevice.place import fitted
from tvm_dnnfusion.ondevice.records import VARIANTS, Report, Result, key_of
from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.profile.database import ProfileDB
from tvm_dnnfusion.profile.trials import TuningDB
from tvm_dnnfusion.runtime.inputs import check_inputs
from tvm_dnnfusion.runtime.reference import run_unfused
from tvm_dnnfusion.runtime.signature import signature_of

Say = Callable[[str], None]


class OtherResultsError(ValueError):
    """The earlier report is of another measurement; nothing of it was touched."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure.

    `threads` None takes the cores of the device's spec, as far as the device has them; `cluster` is
    "all", "big" or "little"; `system` "android", "linux" or "" for what the server suggests.
    `float16` compiles every column so, and compares with float16's tolerance; `float16_sums` is
    the dtype in which sums of float16 are kept. `profile`: whether kernels are timed too.
    The tuning `records` hold for the kernels of all columns, the profile `database` for DNNF, whose
    planner is the only one that asks it.
    """

    variants: tuple[str, ...] = tuple(VARIANTS)
    timing: TimingOptions = field(default_factory=TimingOptions)
    threads: int | None = None
    cluster: str = "all"
    system: str = ""
    limits: Limits = field(default_factory=Limits)
    float16: bool = False
    float16_sums: str = "float16"
    profile: bool = True
    records: TuningDB | None = None
    database: ProfileDB | None = None


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
    note: Say = lambda _: None,
) -> Report:
    """Measure a model on a device.

    Parameters
    ----------
    module : a Relax module, as `frontend.load` gives it.
    inputs : arrays by name; results on them are compared with this machine's.
    spec : the device to compile for; `fitted` to what answers at the address.
    address : see `devices.sessions.address`.
    before : an earlier report of the same measurement: its columns are taken over, and the samples
        of one that was lost; what failed is tried again.
    keep : called with the report so far after each column, and where the device is lost.
    note : told what goes on: columns taken over, a lost device that is waited for.

    Raises OtherResultsError where `before` is of another measurement, LostError for a device that
    is lost for good, the sessions' other errors for one that cannot be reached, DeviceError where
    it is not what is compiled for, InputsError where the inputs do not fit.
    """
    given = check_inputs(inputs, signature_of(module))
    say("connect")
    with Session(address, limits=settings.limits, cluster=settings.cluster, notify=note) as session:
        if spec.kind == "gpu":
            session.require("opencl")
        report = _head(session, module, given, spec, settings, model)
        cut: dict[str, Result] = {}
        if before is not None:
            report = _resumed(report, before, note)
            cut = {r.variant: r for r in before.results if r.problem and r.samples_us}
        left = [name for name in settings.variants if report.result(name) is None]
        if not left:
            return report
        say("reference")
        expected = run_unfused(module, registry.target_dict(registry.host()), given)
        with tempfile.TemporaryDirectory(prefix="dnnfusion-device-") as folder:
            for name in left:
                try:
                    found = _column(session, module, name, spec, settings, Path(folder),
                                    list(given.values()), expected,
                                    cut[name].samples_us if name in cut else (),
                                    say)  # fmt: skip
                except (LostColumn, StoppedColumn) as end:
                    keep(_with(report, end.result, cut))
                    raise
                report = _with(report, found)
                keep(_with(report, None, cut))
    return report


def _resumed(report: Report, before: Report, note: Say) -> Report:
    """The report with the columns that an earlier one has. Raises OtherResultsError."""
    if before.key != report.key:
        raise OtherResultsError(
            f"the results there are of {before.model} on {before.device} at {before.address}, "
            f"measured {before.made or 'earlier'}: another measurement ({report.differs(before)}). "
            "Give another folder, or remove them"
        )
    done = before.done()
    note(f"goes on after {', '.join(r.variant for r in done) or 'no column'}")
    for r in before.results:
        if r.problem and r.samples_us:
            note(f"{r.variant}: goes on after {len(r.samples_us)} samples")
    return replace(report, results=done, made=before.made)


def _column(
    session: Session,
    module: Any,
    name: str,
    spec: DeviceSpec,
    settings: Settings,
    folder: Path,
    inputs: Sequence[Array],
    expected: Mapping[str, Array],
    taken: Sequence[float],
    say: Say,
) -> Result:
    """Compile and measure one column. Raises LostColumn."""
    say(f"compile {name}")
    place = fitted(spec, session.info, settings.system)
    try:
        built = build(
            module, VARIANTS[name], place, folder, settings.float16, settings.float16_sums,
            settings.records, settings.database,
        )  # fmt: skip
    except Exception as error:  # the other columns, and the other models, may compile
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return Result(name, 0, 0, problem=f"does not compile: {line[:300]}")
    say(f"measure {name}")
    processor = "opencl" if spec.kind == "gpu" else "cpu"
    return measure(
        session, built, inputs, expected, processor, settings.timing, settings.profile, taken
    )


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
    timing = asdict(settings.timing)
    rest = {f"cool_{name}": value for name, value in timing.pop("cool").items()}
    decides: dict[str, object] = {
        "model": fingerprint(from_relax(module).graph),
        "name": model,
        "shapes": {name: [str(a.dtype), *a.shape] for name, a in inputs.items()},
        "target": target,
        "threads": threads,
        "cores": settings.cluster,
        "device": _place(session.address),
        "machine": [info.machine, info.system, info.processors, info.max_mhz, info.emulated],
        **{k: str(v) if v == math.inf else v for k, v in {**timing, **rest}.items()},
        "float16": [settings.float16, settings.float16_sums],
        **known(place, settings.records, settings.database),
        "version": __version__,
    }
    decides = json.loads(json.dumps(decides, default=str))  # as it comes back from a file
    return Report(key_of(decides), model, spec.name, str(session.address), target, info.machine,
                  info.system, info.processors, threads, info.emulated, settings.float16,
                  settings.float16_sums, (), decides, _now())  # fmt: skip


def _place(address: Address) -> str:
    """The device among others: devices under one key of a tracker are alike, wherever it runs."""
    return f"tracker's {address.key}" if address.kind == TRACKER else str(address)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _with(report: Report, found: Result | None, cut: Mapping[str, Result] = {}) -> Report:
    """The report with a column more, and those that an earlier run began and this has not yet."""
    results = report.results if found is None else (*report.results, found)
    there = {r.variant for r in results}
    later = (r for name, r in cut.items() if name not in there)
    return replace(report, results=_in_order((*results, *later)))


def _in_order(results: Sequence[Result]) -> tuple[Result, ...]:
    """Columns in the paper's order, whatever order they were asked for in."""
    return tuple(sorted(results, key=lambda result: list(VARIANTS).index(result.variant)))
