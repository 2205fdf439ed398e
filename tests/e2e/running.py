"""Fused against unfused: builds both, runs both, compares within what rounding explains."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.frontend.to_relax import graph_to_relax
from tvm_dnnfusion.pipeline import Fused, Options, fuse
from tvm_dnnfusion.runtime.tolerance import TOLERANCES, reduction_length
from tvm_dnnfusion.runtime.verify import compare
from tvm_dnnfusion.schedules.dispatch import ScheduleWarning

AMPLIFIED = 64
"""How many times numpy's own float32 error a result may be off: sums in another order, and
polynomials for exp, tanh and erf, round differently; a wrong element is off by far more."""


@dataclass(frozen=True)
class Difference:
    """An output on which two modules disagree."""

    output: str
    text: str


@lru_cache(maxsize=1)
def target() -> tvm.target.Target:
    """This machine."""
    return tvm.target.Target(target_dict(host()))


def data_for(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Values of order one for each input; integers where the input has them."""
    rng = np.random.default_rng(seed)
    out = {}
    for name in graph.inputs:
        record = graph.tensors[name]
        raw = rng.uniform(-2, 2, record.dims)
        out[name] = (
            raw.astype(record.dtype)
            if record.dtype.startswith("float")
            else (np.floor(raw * 4).astype(record.dtype))
        )
    return out


def run_module(mod: tvm.IRModule, data: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a module's main function.

    It runs on NaN first: the memory that it takes for its results then holds what a kernel that
    leaves elements unwritten would show.
    """
    machine = relax.VirtualMachine(tvm.compile(mod, target=target()), tvm.cpu())
    _call(machine, {n: np.full_like(a, np.nan if a.dtype.kind == "f" else 7)
                    for n, a in data.items()})  # fmt: skip
    return _call(machine, data)


def _call(machine: Any, data: dict[str, np.ndarray]) -> list[np.ndarray]:
    found = machine["main"](*(tvm.runtime.tensor(a) for a in data.values()))
    return [found.numpy()] if hasattr(found, "numpy") else [t.numpy() for t in found]


def fused_module(graph: Graph, planner: Any, device: DeviceSpec | None = None,
                 rewriting: Any = None) -> tuple[Fused, list[str]]:  # fmt: skip
    """The graph through plan, lowering and schedules, and the warnings of schedules that failed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ScheduleWarning)
        fused = fuse(graph_to_relax(graph), Options(planner, rewriting, device or host()))
    return fused, [str(w.message) for w in caught if issubclass(w.category, ScheduleWarning)]


def differences(graph: Graph, expected: list[np.ndarray], actual: list[np.ndarray],
                data: dict[str, np.ndarray]) -> list[Difference]:  # fmt: skip
    """Where two sets of outputs disagree by more than rounding explains.

    The tolerance is the library's, plus a multiple of the error that numpy makes in float32 against
    float64 on the same graph: that is how badly conditioned it is.
    """
    single, double = evaluate(graph, data), evaluate(graph, data, "float64")
    length, out = reduction_length(graph), []
    for name, want, have in zip(graph.outputs, expected, actual, strict=True):
        base = TOLERANCES.get(str(want.dtype))
        if base is None:
            if want.shape != have.shape or not np.array_equal(want, have):
                out.append(Difference(name, f"{np.count_nonzero(want != have)} elements differ"))
            continue
        noise = float(np.abs(single[name] - double[name]).max(initial=0))
        rms = float(np.sqrt(np.mean(np.square(double[name])))) or 1.0
        limit = replace(base, atol=base.atol + AMPLIFIED * noise / rms)
        found = compare(name, want, have, limit, length)
        if not found.ok:
            out.append(Difference(name, f"{found.reason}: {found.actual} for {found.expected} at "
                                        f"{found.worst}"))  # fmt: skip
    return out
