"""What a block's kernel is made from: by it equal blocks are known, and their tuning records found.

A kernel follows from the block's ops, from how and where the tensors lie that it reads and writes,
from how far Winograd's may go, and from the parameters of its template. All but the last are the
block's form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi

from tvm_dnnfusion.codegen import convolution
from tvm_dnnfusion.codegen.block import Kernel, lower_block
from tvm_dnnfusion.codegen.layout import PLAIN, Layout
from tvm_dnnfusion.codegen.params import Choices, TemplateParams, params_of
from tvm_dnnfusion.codegen.plain import lower_plain
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.planners.places import home
from tvm_dnnfusion.planners.plan import Place
from tvm_dnnfusion.profile.keys import canonical_block, canonical_tensors

TRACE = "dnnfusion.trace"
"""The attribute of a kernel that is scheduled by a trace of MetaSchedule's, which it holds."""


@dataclass(frozen=True, slots=True)
class Form:
    """A block with its surroundings. `winograd` is the largest m of its convolutions."""

    name: str
    ops: tuple[Op, ...]
    layouts: Mapping[str, Layout]
    places: Mapping[str, Place]
    winograd: int
    plain: bool = False

    def kernel(self, graph: Graph, device: DeviceSpec, choices: Choices | None = None) -> Kernel:
        """The kernel, not scheduled. Raises as `lower_block` and `lower_plain` do."""
        if self.plain:
            return lower_plain(self.name, self.ops, graph)
        return lower_block(
            self.name, self.ops, graph, self.layouts, device, self.places, self.winograd, choices
        )

    def signature(self, graph: Graph, device: DeviceSpec) -> str:
        """The form as JSON that does not depend on names: equal for equal blocks.

        Of the device it holds what its name does not say: the dtype of sums, where it is wider.
        """
        lie = [self._lies(t, graph) for t in canonical_tensors(self.ops, graph)]
        heavy = any(op.kind in convolution.KINDS for op in self.ops)
        fields: dict[str, Any] = {"block": json.loads(canonical_block(self.ops, graph))}
        if any(lie):
            fields["lie"] = lie
        if heavy:
            fields["winograd"] = self.winograd
        if self.plain:
            fields["plain"] = True
        if device.sums:
            fields["sums"] = device.sums
        return json.dumps(fields, separators=(",", ":"))

    def _lies(self, tensor: str, graph: Graph) -> Any:
        """How a tensor lies in memory: 0 where it is row-major and whole."""
        layout = self.layouts.get(tensor, PLAIN)
        place = home(tensor, graph, self.places)
        blocked = [layout.axis, layout.factor] if layout.blocked else 0
        if place.buffer == tensor:
            return blocked
        return [blocked, list(graph.tensors[place.buffer].dims), list(place.start)]


Tuned = Callable[[Form, Graph], "str | None"]
"""The best record of a form: parameters as JSON, or {"trace": ...}; None where there is none."""


def recorded(text: str) -> tuple[TemplateParams, str | None]:
    """A record as the parameters of a template, or as a trace.

    Raises ParamsError for what is neither.
    """
    trace = _trace(text)
    return (TemplateParams(), trace) if trace is not None else (params_of(text), None)


def _trace(text: str) -> str | None:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return None
    return json.dumps(found["trace"]) if isinstance(found, dict) and "trace" in found else None


BY_WORKLOAD = "workload:"
"""Before the hash of a TIR module: the form of a record of which only that is known."""


def workload_of(func: Any) -> tvm.IRModule:
    """A kernel as MetaSchedule takes it: a module of one function, without what only names it."""
    bare = func
    for name in [str(key) for key, _ in (func.attrs or {}).items()]:
        if name.startswith("dnnfusion."):
            bare = bare.without_attr(name)
    return tvm.IRModule({"main": bare.with_attr("global_symbol", "main")})


def trace_text(trace: Any) -> str:
    """A trace of TVM's as the record that holds it."""
    return json.dumps({"trace": _plain(trace.as_json())}, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """TVM's containers and numbers as Python's."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tvm.tirx.IntImm, tvm.tirx.FloatImm)):
        return value.value
    if hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value]


def module_hash(mod: tvm.IRModule) -> str:
    """The structural hash of a module: 16 hexadecimal digits."""
    return f"{tvm_ffi.structural_hash(mod) & (1 << 64) - 1:016x}"
