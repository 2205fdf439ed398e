"""The latency model as a `Cost`, where one fits the device; the analytic estimate where none does.

A model predicts by which factor a kernel differs from the analytic estimate: log(us / estimate) is
the mean over the ensemble, its uncertainty the spread between the members, scaled so that two of
three blocks of models left out lie within it. What a device is capable of enters by the estimate.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import exp, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from tvm_dnnfusion import settings
from tvm_dnnfusion.cost.analytic import AnalyticCost
from tvm_dnnfusion.cost.learned.features import NAMES, features, leaves
from tvm_dnnfusion.cost.learned.forest import Forest, ForestError, load
from tvm_dnnfusion.cost.protocol import Cost, Estimate
from tvm_dnnfusion.devices import cpu
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.catalog import barrier_of
from tvm_dnnfusion.ecg.graph import Arg, Graph, Op, Ref

log = logging.getLogger(__name__)
SOURCE = "learned"


def family(device: DeviceSpec) -> str:
    """Which devices share a model: "cpu-x86_64", "cpu-aarch64", "gpu-mali"."""
    target = dict(device.target)
    triple = str(target.get("mtriple", ""))
    if device.kind != "cpu":
        return f"{device.kind}-{device.gpu.family if device.gpu else target.get('kind', 'unknown')}"
    x86 = str(target.get("mcpu", "")).startswith("x86-64")
    return "cpu-x86_64" if x86 else f"cpu-{cpu.arch_of(triple or platform.machine() or 'unknown')}"


def misfit(facts: Mapping[str, Any], device: DeviceSpec) -> str | None:
    """Why a model with these facts says nothing of a device, or None where it fits.

    It fits the family that it was trained on, vectors of a width that it has seen, and cores within
    a factor of two of those: trees do not extrapolate.
    """
    if facts.get("family") != family(device):
        return f"it is of {facts.get('family')}, not of {family(device)}"
    if device.vector_bits not in facts.get("vector_bits", ()):
        return f"it has seen no vectors of {device.vector_bits} bits"
    cores = facts.get("cores", (0, 0))
    if not cores[0] / 2 <= device.cores <= cores[1] * 2:
        return f"it has seen {cores[0]} to {cores[1]} cores, not {device.cores}"
    return None


Form = tuple[Any, ...]
"""A group of ops without names, as `form_of` makes it; hashable."""


def form_of(ops: tuple[Op, ...], graph: Graph) -> Form:
    """What a prediction depends on: kinds, attributes, wiring, types, and which results leave.

    Groups of one form are equal; equal groups whose ops stand in another order may have another
    one, unlike `profile.keys.canonical_block`, which costs twenty times as much.
    """
    number: dict[str, int] = {}
    inside = {op.name for op in ops}
    made = {t for op in ops for t in op.outputs}
    types: list[tuple[Any, ...]] = []
    for op in ops:
        for t in (*op.inputs, *op.outputs):
            if t not in number:
                number[t] = len(number)
                types.append((*_type(t, graph), t in made and leaves(t, graph, inside)))
    rows = (
        (op.kind, op.barrier, op.attrs, _numbered(op.args, number), len(op.outputs)) for op in ops
    )
    return (*types, *rows)


def _type(tensor: str, graph: Graph) -> tuple[Any, ...]:
    record = graph.tensors[tensor]
    return record.shape, record.dtype, tensor in graph.constants


def _numbered(arg: Arg | tuple[Arg, ...], number: Mapping[str, int]) -> Any:
    if isinstance(arg, tuple):
        return tuple(_numbered(a, number) for a in arg)
    return number[arg.tensor] if isinstance(arg, Ref) else arg


class LearnedCost:
    """A `Cost` from a forest; estimates carry the source "learned" and their uncertainty.

    Barriers and views are answered by the analytic estimate, which knows them exactly.
    Raises ForestError where the forest does not fit the device.
    """

    def __init__(self, forest: Forest, device: DeviceSpec) -> None:
        reason = misfit(forest.facts, device)
        if reason is not None:
            raise ForestError(f"the latency model does not fit {device.name}: {reason}")
        self.forest, self.device = forest, device
        self._known: dict[Form, Estimate] = {}
        self.analytic = AnalyticCost(device)
        self._floor = float(forest.facts.get("floor", 0.0))
        self._scale = float(forest.facts.get("scale", 1.0))

    def latency_us(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        """Estimate for `ops` as one kernel: half a millisecond, for one that is equal to an earlier
        one (layers repeat themselves) a twentieth of that."""
        form = form_of(ops, graph)
        if form not in self._known:
            self._known[form] = self._predicted(ops, graph)
        return self._known[form]

    def _predicted(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        parts = self.analytic.parts(ops, graph)
        if parts is None or any(barrier_of(op, graph) is not None for op in ops):
            return self.analytic.latency_us(ops, graph)
        found = self.forest.predict(features(ops, graph, self.device, parts))
        apart = float(np.std(found))
        error = self._scale * sqrt(self._floor**2 + apart**2)
        return Estimate(parts.us * exp(float(np.mean(found))), SOURCE, exp(error) - 1.0)


def learned_cost(device: DeviceSpec) -> Cost:
    """The latency model that fits a device, else its analytic estimate.

    The user's own model (`dnnfusion db train` puts it into the cache folder) goes before the one of
    the package. A file that cannot be used is named in a warning.
    """
    for folder in (settings.read().cache, Path(__file__).parent):
        path = folder / file_name(device)
        if not path.is_file():
            continue
        try:
            forest = _loaded(path, path.stat().st_mtime_ns)
        except ForestError as error:
            log.warning("%s", error)
            continue
        reason = misfit(forest.facts, device)
        if reason is None:
            return LearnedCost(forest, device)
        log.info("%s does not fit %s: %s", path, device.name, reason)
    return AnalyticCost(device)


def with_threads(device: DeviceSpec, threads: int) -> DeviceSpec:
    """The device as a kernel with so many threads sees it."""
    peak = device.peak_gflops * threads / device.cores
    return replace(device, cores=threads, peak_gflops=peak)


def file_name(device: DeviceSpec) -> str:
    """Name of the file of a device's latency model: "latency-cpu-x86_64.npz"."""
    return f"latency-{family(device)}.npz"


@lru_cache(maxsize=8)
def _loaded(path: Path, changed_ns: int) -> Forest:
    """A file is read once, and again when it has changed."""
    return load(path, NAMES)
