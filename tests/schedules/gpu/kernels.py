"""Kernels for GPUs: their OpenCL C, and their results where an OpenCL device is at hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import tirx

from tests.helpers import feed_of, logical, lowered, scheduled, stored, unfused
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.stages import Packed
from tvm_dnnfusion.devices.registry import get, on_host, target_dict
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph

DEVICES = ("mali-g76", "adreno-650")
"""One device of each family: local memory on the chip or not, narrow and wide waves."""


@dataclass(frozen=True)
class Built:
    """A kernel of a GPU: its OpenCL C and the extents of its thread axes, by tag."""

    source: str
    threads: tuple[Mapping[str, int], ...]
    module: Any

    @property
    def kernels(self) -> int:
        """How many kernels the device runs one after the other."""
        return self.source.count("// Function: ")

    @property
    def group(self) -> int:
        """Work-items of the largest group."""
        axes = ("threadIdx.x", "threadIdx.y", "threadIdx.z")
        return max(int(np.prod([t.get(a, 1) for a in axes])) for t in self.threads)

    def private(self) -> list[int]:
        """Bytes of the private arrays."""
        found = re.findall(r"^  (float|half|int)(\d*) \w+\[(\d+)\];", self.source, re.MULTILINE)
        width = {"float": 4, "half": 2, "int": 4}
        return [width[t] * int(lanes or 1) * int(n) for t, lanes, n in found]


def device(name: str) -> DeviceSpec:
    """A GPU whose kernels this machine starts."""
    return on_host(get(name))


def target_of(spec: DeviceSpec) -> Any:
    """The target of such a GPU."""
    return tvm.target.Target({k: v for k, v in target_dict(spec).items() if k != "host"}, "llvm")


def built(func: Any, spec: DeviceSpec) -> Built:
    """Compile a scheduled kernel. Works without an OpenCL device."""
    mod = tvm.IRModule({"kernel": func.with_attr("global_symbol", "kernel")})
    made = tvm.compile(mod, target_of(spec))
    source = _opencl(made.mod).inspect_source()
    assert not divergent_barriers(source), source
    return Built(source, tuple(_threads(func)), made)


def _opencl(module: Any) -> Any:
    """The module with the OpenCL C, among those that a built one imports."""
    if module.kind == "opencl":
        return module
    return next((m for x in module.imports if (m := _opencl(x)) is not None), None)


def _threads(func: Any) -> list[dict[str, int]]:
    """Extents of the bound loops of each nest."""
    found: list[dict[str, int]] = [{}]

    def loop(node: Any) -> None:
        if node.thread_binding is not None:
            tag = str(node.thread_binding.thread_tag)
            if tag in found[-1]:
                found.append({})
            found[-1][tag] = int(node.extent)

    tvm_ffi.structural_walk(func.body, [(tirx.For, loop)], order="pre")
    return found


def kernel_of(
    graph: Graph, name: str, layouts: Mapping[str, Layout] | None = None
) -> tuple[Any, Built]:
    """The whole graph as one block, under the schedule of its kind; a fallback is an error."""
    spec = device(name)
    kernel = lowered(graph, layouts, spec)
    func = scheduled(kernel, spec)
    return kernel, built(func, spec)


def opencl() -> Any:
    """The OpenCL device of this machine; skips the test where there is none."""
    found = tvm.opencl(0)
    if not found.exist:
        pytest.skip("no OpenCL device (PoCL and the extra `opencl` of this package make one)")
    return found


def check(
    graph: Graph,
    name: str,
    layouts: Mapping[str, Layout] | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Built:
    """Run the block on the OpenCL device, against the unfused module on the CPU."""
    machine = opencl()
    kernel, made = kernel_of(graph, name, layouts)
    feed = feed_of(graph)
    known = {**graph.constants, **feed}
    args = [
        s.data if isinstance(s, Packed) else stored(known[s], (layouts or {}).get(s, Layout()))
        for s in kernel.inputs
    ]
    outs = [_garbage(graph, n, x) for n, x in zip(kernel.outputs, kernel.layouts, strict=True)]
    tensors = [tvm.runtime.tensor(np.asarray(a, order="C"), machine) for a in (*args, *outs)]
    made.module["kernel"](*tensors)
    wanted = dict(zip(graph.outputs, unfused(graph, feed), strict=True))
    for output, layout, found in zip(
        kernel.outputs, kernel.layouts, tensors[len(args) :], strict=True
    ):
        value = logical(found.numpy(), layout)
        np.testing.assert_allclose(value, wanted[output], rtol=rtol, atol=atol, err_msg=output)
    return made


def _garbage(graph: Graph, name: str, layout: Layout) -> np.ndarray:
    """What an output holds before: what is not written shows."""
    record = graph.tensors[name]
    fill = np.nan if "float" in record.dtype else 1 if record.dtype == "bool" else 99
    return np.full(layout.shape(record.dims), fill, record.dtype)


def divergent_barriers(source: str) -> list[str]:
    """The conditions, of OpenCL C as TVM writes it, under which a barrier stands.

    Not all of a group's work-items would reach it, which is undefined: PoCL hangs. Loops in which
    barriers stand must be the same for all work-items.
    """
    found: list[str] = []
    open_lines: list[str] = []
    for line in source.splitlines():
        text = line.strip()
        if text.startswith("}") and open_lines:
            open_lines.pop()
        if text.startswith("barrier("):
            found += [
                x for x in open_lines
                if x.startswith(("if", "else", "while")) or "get_local_id" in x
            ]  # fmt: skip
        if text.endswith("{"):
            open_lines.append(text.lstrip("} "))
    return found


def source_of(executable: Any) -> str:
    """The OpenCL C of a compiled module."""
    return _opencl(executable.mod).inspect_source()
