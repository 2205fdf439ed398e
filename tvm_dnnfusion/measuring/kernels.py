"""Candidate blocks as the kernels that they would become, and what they take on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm_dnnfusion.codegen.block import lower_block
from tvm_dnnfusion.codegen.conv_shape import channel_block
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.layouts import HEAVY, assign_layouts
from tvm_dnnfusion.codegen.lower import is_view
from tvm_dnnfusion.codegen.plain import lower_plain
from tvm_dnnfusion.codegen.stages import NotLowerable
from tvm_dnnfusion.codegen.variants import Variants
from tvm_dnnfusion.codegen.winograd_choice import MAX_TILE
from tvm_dnnfusion.devices.registry import target_dict
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.catalog import barrier_of
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.profile.measure import measure_primfunc
from tvm_dnnfusion.profile.records import Measurement
from tvm_dnnfusion.schedules.dispatch import schedule_kernel

Measure = Callable[[tuple[Op, ...], Graph], "Measurement | None"]


def block_measurer(
    device: DeviceSpec, threads: int | None = None, variants: Variants | None = None
) -> Measure:
    """A function that measures ops as one kernel on the machine at hand.

    It answers None for what has no kernel of its own: barriers, views and symbolic shapes.
    `variants` holds the user's limits on Winograd's tiles; None: those of `compile`'s defaults.
    """
    held = variants or Variants(device)

    def measure(ops: tuple[Op, ...], graph: Graph) -> Measurement | None:
        if not has_kernel(ops, graph):
            return None
        func = candidate(ops, graph, device, held.limit(ops, graph))
        return measure_primfunc(func, target_dict(device), threads=threads)

    return measure


def has_kernel(ops: tuple[Op, ...], graph: Graph) -> bool:
    """Whether a block runs as a kernel that can be measured by itself."""
    records = [graph.tensors[t] for op in ops for t in (*op.inputs, *op.outputs)]
    if any(op.barrier or barrier_of(op, graph) is not None for op in ops) or is_view(ops):
        return False
    return all(r.is_static and 0 not in r.dims for r in records)


def candidate(
    ops: tuple[Op, ...], graph: Graph, device: DeviceSpec, winograd: int = MAX_TILE
) -> Any:
    """The scheduled PrimFunc of a block that has a kernel, as it would stand in a model.

    Results have the layouts that the block gives them; what a convolution or a pooling reads comes
    in blocks of channels, as its neighbours of the same sort would write it.
    """
    try:
        layouts = assign_layouts((ops,), graph, device)
        layouts.update(_read_blocked(ops, graph, device))
        kernel = lower_block("candidate", ops, graph, layouts, device, winograd=winograd)
    except NotLowerable:
        kernel = lower_plain("candidate", ops, graph)
    return schedule_kernel(kernel.func, device)


def _read_blocked(ops: tuple[Op, ...], graph: Graph, device: DeviceSpec) -> dict[str, Layout]:
    """Layouts of the float tensors of rank 3 and more that heavy blocks read."""
    if not any(op.kind in HEAVY for op in ops):
        return {}
    made = {t for op in ops for t in op.outputs}
    out: dict[str, Layout] = {}
    for t in dict.fromkeys(t for op in ops for t in op.inputs):
        record = graph.tensors[t]
        if t in made or t in graph.constants or len(record.dims) < 3:
            continue
        if record.dtype.startswith("float"):
            factor = channel_block(record.dims[1], device.lanes(record.dtype))
            if factor >= 4:
                out[t] = Layout(1, factor)
    return out
