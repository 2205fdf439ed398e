"""One library on a device: sent, verified against this machine's results, timed, profiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from tvm_dnnfusion.devices.sessions import (
    CallError,
    DeviceState,
    LostError,
    Program,
    Session,
    SessionError,
    TimingOptions,
    UnreachableError,
)
from tvm_dnnfusion.ondevice.build import Built
from tvm_dnnfusion.ondevice.records import Kernel, Result
from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.runtime.bench import kernel_times
from tvm_dnnfusion.runtime.tolerance import tolerance_of
from tvm_dnnfusion.runtime.verify import Verification, compare_all

T = TypeVar("T")


class LostColumn(LostError):
    """The device was lost for good; `result` is what there is of the column: its samples so far."""

    def __init__(self, reason: Exception, result: Result) -> None:
        super().__init__(str(reason))
        self.result = result


class StoppedColumn(KeyboardInterrupt):
    """The user's interrupt; `result` is what there is of the column."""

    def __init__(self, result: Result) -> None:
        super().__init__()
        self.result = result


def measure(
    session: Session,
    built: Built,
    inputs: Sequence[Array],
    expected: Mapping[str, Array],
    processor: str,
    timing: TimingOptions,
    profile: bool = True,
    taken: Sequence[float] = (),
) -> Result:
    """The column's result; what the model does wrong there is its `problem`.

    `taken` are samples that an earlier call got before the device was lost.

    Raises LostColumn after the session's restarts, for a device that is gone; StoppedColumn for
    the user's interrupt.
    """
    head = Result(built.variant.name, built.kernels, built.library.stat().st_size)
    try:
        program = _again(session, lambda: session.load(built.library, processor=processor))
        outputs = _again(session, lambda: program.run(inputs))
        check = _checked(built, expected, outputs)
        if not check.ok:
            return _with(head, problem=_wrong(check), error=_error(check))
        head = _with(head, error=_error(check))
        found = _timed(session, program, inputs, timing, head, taken)
        taken = found.samples_us
        found = _profiled(session, program, built, inputs, found) if profile else found
        _again(session, program.close)
        return found
    except (UnreachableError, LostError) as error:
        samples = getattr(error, "samples", ()) or tuple(taken)
        raise LostColumn(
            error, _with(head, problem=f"lost: {error}", samples_us=samples)
        ) from error
    except KeyboardInterrupt as stop:
        samples = getattr(stop, "samples", ()) or tuple(taken)
        raise StoppedColumn(_with(head, problem="interrupted", samples_us=samples)) from stop
    except SessionError as error:  # it crashed, or has no such processor: the others may not
        return _with(head, problem=str(error))


def _checked(built: Built, expected: Mapping[str, Array], outputs: Sequence[Array]) -> Verification:
    """Results compared; float16's tolerance where the model is computed in it."""
    found = dict(zip(expected, outputs, strict=True))
    limits = tolerance_of(built.dtype) if built.dtype != "float32" else None
    return compare_all(
        expected, found, reduction=built.reduction,
        rtol=limits.rtol if limits else None, atol=limits.atol if limits else None,
    )  # fmt: skip


def _timed(
    session: Session,
    program: Program,
    inputs: Sequence[Array],
    timing: TimingOptions,
    head: Result,
    taken: Sequence[float],
) -> Result:
    before = session.state()
    found = program.time(inputs, options=timing, taken=taken)
    after = session.state()
    return _with(
        head,
        samples_us=found.samples_us,
        runs_per_sample=found.runs_per_sample,
        warmup_runs=found.warmup_runs,
        median_us=found.median_us,
        p90_us=found.p90_us,
        min_us=found.min_us,
        celsius=(before.hottest, after.hottest),
        mhz=(_clocks(before), _clocks(after)),
        lost=found.lost,
    )


def _profiled(
    session: Session, program: Program, built: Built, inputs: Sequence[Array], found: Result
) -> Result:
    """With kernels by time, their instructions, and those of all, where the device can say."""
    if not session.info.ours:
        return found
    passes = _again(session, lambda: program.profile(inputs))
    counts: dict[str, int] = {}
    try:
        for name, classes in _again(session, lambda: program.counts(inputs)):
            counts[name] = counts.get(name, 0) + classes["all"]
    except CallError:  # only a virtual phone counts
        pass
    rows = kernel_times(passes, built.origins)
    kernels = tuple(
        Kernel(k.name, k.calls, k.us, k.share, k.origins, counts.get(k.name, 0)) for k in rows
    )
    return _with(found, profile=kernels, instructions=sum(counts.values()))


def _again(session: Session, action: Callable[[], T]) -> T:
    """Do something, once more each time that the device was lost meanwhile and came back."""
    for _ in range(session.limits.restarts):
        try:
            return action()
        except LostError as error:
            session.wait_until_back(error)
    return action()


def _clocks(state: DeviceState) -> tuple[int, ...]:
    return tuple(state.mhz)


def _error(check: Verification) -> float:
    worst = max((output.rms_rel for output in check.outputs), default=math.inf)
    return worst if math.isfinite(worst) else -1.0


def _wrong(check: Verification) -> str:
    bad = [f"{output.name}: {output.reason}" for output in check.outputs if not output.ok]
    return f"wrong result: {'; '.join(bad)}"


def _with(result: Result, **changes: object) -> Result:
    return replace(result, **changes)  # type: ignore[arg-type]
