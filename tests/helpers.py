"""Kernels of single blocks: lowered, scheduled, run, looked into, compared with TVM alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.s_tir import SBlock

from tvm_dnnfusion.codegen.block import Kernel, lower_block
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.stages import Packed
from tvm_dnnfusion.codegen.tiles import STACK_BYTES
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.frontend.to_relax import graph_to_relax
from tvm_dnnfusion.schedules.cpu.registers import sizes
from tvm_dnnfusion.schedules.dispatch import ScheduleWarning, schedule_kernel

Array = np.ndarray

# The forms of kernels are asserted for this vector unit; LLVM splits vectors that the host lacks.
DEVICE = replace(host(), name="test-512", vector_bits=512, vector_registers=32, cores=2)
NARROW = replace(DEVICE, name="test-128", vector_bits=128, vector_registers=16)


def built(make: Callable[[GraphBuilder], Any]) -> Graph:
    """The graph of a function that takes a builder and returns the output, or a tuple of them."""
    b = GraphBuilder()
    made = make(b)
    return b.output(*((made,) if isinstance(made, str) else made)).build()


def weights(b: GraphBuilder, *shape: int, seed: int = 7) -> str:
    """A constant of values between -1 and 1."""
    data = np.random.default_rng([seed, *shape]).uniform(-1, 1, shape)
    return b.constant("w", data.astype("float32"))


def feed_of(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Random values for every input: floats between -1 and 1, integers from 0 to 4."""
    rng = np.random.default_rng(seed)
    out = {}
    for name in graph.inputs:
        record = graph.tensors[name]
        if record.dtype == "bool":
            out[name] = rng.integers(0, 2, record.dims).astype("bool")
        elif "float" in record.dtype:
            out[name] = rng.uniform(-1, 1, record.dims).astype(record.dtype)
        else:
            out[name] = rng.integers(0, 5, record.dims).astype(record.dtype)
    return out


def run_module(mod: tvm.IRModule, feed: Mapping[str, Array], **options: Any) -> list[Array]:
    """The outputs of `main`, compiled for the host; nested results are flattened."""
    target = tvm.target.Target(target_dict(host()))
    machine = relax.VirtualMachine(tvm.compile(mod, target, **options), tvm.cpu())
    return flat(machine["main"](*[tvm.runtime.tensor(a) for a in feed.values()]))


def flat(found: Any) -> list[Array]:
    """The arrays in a result of the VM, tuples opened."""
    return [found.numpy()] if hasattr(found, "numpy") else [a for f in found for a in flat(f)]


def unfused(graph: Graph, feed: Mapping[str, Array]) -> list[Array]:
    """The outputs of the graph as TVM alone computes them, one kernel per op."""
    return run_module(graph_to_relax(graph), feed)


def lowered(
    graph: Graph,
    layouts: Mapping[str, Layout] | None = None,
    device: DeviceSpec = DEVICE,
    winograd: int = 0,
) -> Kernel:
    """The whole graph as one block, not scheduled."""
    return lower_block("b000_test", graph.ops, graph, layouts or {}, device, winograd=winograd)


def scheduled(kernel: Kernel, device: DeviceSpec = DEVICE) -> Any:
    """The kernel under its own schedule; a fallback is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScheduleWarning)
        func = schedule_kernel(kernel.func, device)
    assert str(func.attrs["dnnfusion.schedule"]) == kernel.kind
    return func


def stored(data: Array, layout: Layout) -> Array:
    """An array as it lies in memory: [N, C, ...] -> [N, C/f, ..., f]."""
    if not layout.blocked:
        return data
    a, f = layout.axis, layout.factor
    cut = data.reshape(*data.shape[:a], data.shape[a] // f, f, *data.shape[a + 1 :])
    return np.ascontiguousarray(np.moveaxis(cut, a + 1, -1))


def logical(data: Array, layout: Layout) -> Array:
    """The inverse of `stored`."""
    if not layout.blocked:
        return data
    a = layout.axis
    cut = np.moveaxis(data, -1, a + 1)
    return cut.reshape(*cut.shape[:a], cut.shape[a] * cut.shape[a + 1], *cut.shape[a + 2 :])


def run_kernel(
    func: Any,
    kernel: Kernel,
    graph: Graph,
    feed: Mapping[str, Array],
    layouts: Mapping[str, Layout] | None = None,
) -> list[Array]:
    """The outputs of a kernel, row-major; they start as garbage: what is not written shows."""
    known = {**graph.constants, **feed}
    args = []
    for source in kernel.inputs:
        if isinstance(source, Packed):
            args.append(source.data)
        else:
            args.append(stored(known[source], (layouts or {}).get(source, Layout())))
    outs = []
    for name, layout in zip(kernel.outputs, kernel.layouts, strict=True):
        record = graph.tensors[name]
        fill = np.nan if "float" in record.dtype else 1 if record.dtype == "bool" else 99
        outs.append(np.full(layout.shape(record.dims), fill, record.dtype))
    tensors = [tvm.runtime.tensor(np.asarray(a, order="C")) for a in (*args, *outs)]
    target = tvm.target.Target(target_dict(host()))
    tvm.compile(tvm.IRModule({"kernel": func.with_attr("global_symbol", "kernel")}), target)[
        "kernel"
    ](*tensors)
    results = tensors[len(args) :]
    return [logical(t.numpy(), x) for t, x in zip(results, kernel.layouts, strict=True)]


def check_block(
    graph: Graph,
    kind: str,
    layouts: Mapping[str, Layout] | None = None,
    device: DeviceSpec = DEVICE,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Any:
    """Lower the graph as one block of that kind, compare with the unfused module.

    Both the unscheduled and the scheduled function are run; returns the scheduled one.
    """
    kernel, feed = lowered(graph, layouts, device), feed_of(graph)
    assert kernel.kind == kind
    assert kernel.outputs == tuple(dict.fromkeys(kernel.outputs))
    wanted = dict(zip(graph.outputs, unfused(graph, feed), strict=True))
    func = scheduled(kernel, device)
    for candidate in (kernel.func, func):
        found = run_kernel(candidate, kernel, graph, feed, layouts)
        for name, value in zip(kernel.outputs, found, strict=True):
            np.testing.assert_allclose(value, wanted[name], rtol=rtol, atol=atol, err_msg=name)
    return func


def check_against_double(graph: Graph, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    """Compare the graph as one scheduled block with the interpreter in float64."""
    kernel, feed = lowered(graph), feed_of(graph)
    wanted = evaluate(graph, feed, "float64")
    found = run_kernel(scheduled(kernel), kernel, graph, feed)
    for name, value in zip(kernel.outputs, found, strict=True):
        np.testing.assert_allclose(value, wanted[name], rtol=rtol, atol=atol, err_msg=name)


def sblocks(func: Any) -> list[Any]:
    """The blocks of a function but for the root."""
    found: list[Any] = []
    tvm_ffi.structural_walk(func.body, [(SBlock, found.append)])
    return [b for b in found if b.name_hint != "root"]


def block_names(func: Any) -> list[str]:
    """Names of the blocks, sorted."""
    return sorted(b.name_hint for b in sblocks(func))


def buffers(func: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Buffers that the function allocates: name -> (shape, scope)."""
    found: list[Any] = []
    tvm_ffi.structural_walk(func.body, [(SBlock, lambda b: found.extend(b.alloc_buffers))])
    return {b.name: (tuple(int(n) for n in b.ty.shape), b.scope()) for b in found}


def kept_in_memory(func: Any, *roles: str) -> list[str]:
    """Buffers of the roles that are too large for the stack, where they would become registers."""
    size = sizes(func)
    return [n for n in size if n.startswith(roles or "") and size[n] >= STACK_BYTES]


def loops(func: Any, kind: Any = None) -> list[int]:
    """Extents of the loops of a kind ("parallel", "vectorized", "unrolled"), outermost last."""
    wanted = {
        "parallel": tirx.ForKind.PARALLEL,
        "vectorized": tirx.ForKind.VECTORIZED,
        "unrolled": tirx.ForKind.UNROLLED,
    }
    found: list[Any] = []
    tvm_ffi.structural_walk(func.body, [(tirx.For, found.append)])
    return [int(x.extent) for x in found if kind is None or int(x.kind) == int(wanted[kind])]
