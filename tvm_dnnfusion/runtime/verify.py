"""Whether two ways to run a model agree: per output, the largest errors and where they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.runtime.module import Module, run
from tvm_dnnfusion.runtime.tolerance import Tolerance, tolerance_of


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """Comparison of one output with what is expected.

    `max_abs` and `max_rel` are the largest absolute and relative errors, `rms_rel` the root mean
    square of the error over that of the expected values, `worst` the index that is furthest out of
    (or nearest to) tolerance, with `actual` and `expected` there. `atol` is the absolute tolerance
    in force, scaled. `wrong` counts elements out of tolerance; `reason` is "" where all is well.
    `flat` is whether all expected values are the same number, as a softmax over constant weights
    gives: agreement then proves little, and the user should be told so.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    ok: bool
    max_abs: float
    max_rel: float
    rms_rel: float
    rtol: float
    atol: float
    wrong: int
    worst: tuple[int, ...]
    actual: float
    expected: float
    reason: str = ""
    flat: bool = False


@dataclass(frozen=True, slots=True)
class Verification:
    """Outputs compared with a reference, whose name is `against`."""

    against: str
    outputs: tuple[OutputCheck, ...]

    @property
    def ok(self) -> bool:
        """Whether every output agrees; no output at all is no agreement."""
        return bool(self.outputs) and all(check.ok for check in self.outputs)


def compare_all(
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    *,
    against: str = "reference",
    reduction: int = 1,
    rtol: float | None = None,
    atol: float | None = None,
) -> Verification:
    """Compare outputs by name; an output that only one side has is wrong.

    `reduction` is the longest sum in the model (`tolerance.reduction_length`), `rtol` and `atol`
    replace the dtype's tolerances.
    """
    checks: list[OutputCheck] = []
    for name in dict.fromkeys((*expected, *actual)):
        if name not in actual or name not in expected:
            there = np.asarray((actual if name in actual else expected)[name])
            side = "the reference" if name in actual else "the module"
            checks.append(_refused(name, there, f"{side} does not give this output"))
            continue
        limits = tolerance_of(str(np.asarray(expected[name]).dtype), rtol, atol)
        checks.append(compare(name, expected[name], actual[name], limits, reduction))
    return Verification(against, tuple(checks))


def compare(
    name: str, expected: Array, actual: Array, tolerance: Tolerance, reduction: int = 1
) -> OutputCheck:
    """Compare one output; NaN agrees with NaN, an infinity with the same infinity."""
    want, have = np.asarray(expected), np.asarray(actual)
    if want.shape != have.shape:
        return _refused(name, have, f"shape {have.shape}, expected {want.shape}")
    if want.dtype != have.dtype:
        return _refused(name, have, f"dtype {have.dtype}, expected {want.dtype}")
    if want.size == 0:
        zero = 0.0
        return OutputCheck(
            name, str(want.dtype), want.shape, True, zero, zero, zero, zero, zero, 0, (), zero, zero
        )
    return _numbers(name, want, have, tolerance, reduction)


def verify(
    module: Module,
    reference: Mapping[str, Array],
    inputs: Mapping[str, Array],
    *,
    against: str,
    reduction: int = 1,
    rtol: float | None = None,
    atol: float | None = None,
    threads: int | None = None,
) -> Verification:
    """Run a module and compare it with the outputs of a reference on the same inputs."""
    outputs = run(module, inputs, threads).outputs
    return compare_all(
        reference, outputs, against=against, reduction=reduction, rtol=rtol, atol=atol
    )


def _numbers(
    name: str, want: Array, have: Array, tolerance: Tolerance, reduction: int
) -> OutputCheck:
    w, h = want.astype(np.float64), have.astype(np.float64)
    error = _integer_errors(want, have) if want.dtype.kind in "iu" else _float_errors(w, h)
    magnitude = np.where(np.isfinite(w), np.abs(w), 0.0)
    rms = float(np.sqrt(np.mean(np.square(magnitude))))
    atol = tolerance.atol * math.sqrt(max(1, reduction)) * (rms or 1.0)
    excess = error - (atol + tolerance.rtol * magnitude)
    at = np.unravel_index(int(np.argmax(excess)), want.shape)
    wrong = int(np.count_nonzero(excess > 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(error > 0, error / magnitude, 0.0)
    return OutputCheck(
        name=name,
        dtype=str(want.dtype),
        shape=want.shape,
        ok=wrong == 0,
        max_abs=float(error.max()),
        max_rel=float(relative.max()),
        rms_rel=float(np.sqrt(np.mean(np.square(error)))) / (rms or 1.0),
        rtol=tolerance.rtol,
        atol=atol,
        wrong=wrong,
        worst=tuple(int(i) for i in at),
        actual=float(h[at]),
        expected=float(w[at]),
        reason="" if wrong == 0 else f"{wrong} of {want.size} elements are out of tolerance",
        flat=want.size > 1 and bool((w == w.flat[0]).all()),
    )


def _float_errors(want: Array, have: Array) -> Array:
    """Absolute errors of doubles; NaN and infinities are infinitely far from all but themselves."""
    same = (want == have) | (np.isnan(want) & np.isnan(have))
    finite = np.isfinite(want) & np.isfinite(have)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(same, 0.0, np.where(finite, np.abs(have - want), math.inf))


def _integer_errors(want: Array, have: Array) -> Array:
    """Absolute errors of integers, taken before they become doubles: 2**62 is not 2**62 + 1."""
    unsigned = np.dtype(f"u{want.dtype.itemsize}")
    with np.errstate(over="ignore"):
        distance = np.where(want > have, want - have, have - want).astype(want.dtype)
    return distance.view(unsigned).astype(np.float64)


def _refused(name: str, array: Array, reason: str) -> OutputCheck:
    """A comparison that cannot be made, and so has failed."""
    return OutputCheck(
        name,
        str(array.dtype),
        array.shape,
        False,
        math.inf,
        math.inf,
        math.inf,
        0.0,
        0.0,
        int(array.size),
        (),
        math.nan,
        math.nan,
        reason,
    )
