"""Measures candidate blocks as the kernels that they would become."""

from __future__ import annotations

from collections.abc import Callable

from tvm_dnnfusion.codegen.block import lower_block
from tvm_dnnfusion.codegen.layouts import assign_layouts
from tvm_dnnfusion.codegen.plain import lower_plain
from tvm_dnnfusion.codegen.stages import NotLowerable
from tvm_dnnfusion.devices.registry import target_dict
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.profile.measure import measure_primfunc
from tvm_dnnfusion.profile.records import Measurement
from tvm_dnnfusion.schedules.dispatch import schedule_kernel

Measure = Callable[[tuple[Op, ...], Graph], "Measurement | None"]


def block_measurer(device: DeviceSpec, threads: int | None = None) -> Measure:
    """A function that measures ops as one kernel on the machine at hand.

    It answers None for what has no kernel of its own: barriers and symbolic shapes. Layouts are
    those that the block would have by itself.
    """

    def measure(ops: tuple[Op, ...], graph: Graph) -> Measurement | None:
        records = [graph.tensors[t] for op in ops for t in (*op.inputs, *op.outputs)]
        if any(op.barrier for op in ops) or not all(r.is_static for r in records):
            return None
        try:
            layouts = assign_layouts((ops,), graph, device)
            kernel = lower_block("candidate", ops, graph, layouts, device)
        except NotLowerable:
            kernel = lower_plain("candidate", ops, graph)
        func = schedule_kernel(kernel.func, device)
        return measure_primfunc(func, target_dict(device), threads=threads)

    return measure
