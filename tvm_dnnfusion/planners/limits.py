"""The structure that a kernel can have on a device: the constraint check of listing 1 (step 2.2).

The paper sets its threshold empirically and prints no value; each limit here is named, has a unit
and says where it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op, dtype_bits
from tvm_dnnfusion.planners.facts import ANCHORS, Facts

MAX_BLOCK_OPS = 64
"""Ops in one kernel. Longer chains save nothing more per byte, and LLVM's time per kernel grows
faster than linearly with the expression; it also keeps every check of a block short."""

ROW_SHARE_OF_L2 = 0.5
"""Part of a core's second-level cache that one row of a row block may take: the other half is for
the operands and results that stream through."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one kernel may need: buffers, live vector registers, ops, bytes of one row."""

    kernel_args: int
    registers: int
    block_ops: int
    row_bytes: int

    @staticmethod
    def of(device: DeviceSpec) -> Limits:
        """The limits of a device."""
        return Limits(
            kernel_args=device.kernel_args,
            registers=device.vector_registers,
            block_ops=MAX_BLOCK_OPS,
            row_bytes=int(device.l2_bytes * ROW_SHARE_OF_L2),
        )


def buffers(ops: Sequence[Op], graph: Graph) -> int:
    """Buffers that a kernel of these ops takes: operands from outside and results that leave it.

    Constants of one element become immediates and do not count.
    """
    inside = {op.name for op in ops}
    made = {t for op in ops for t in op.outputs}
    read = dict.fromkeys(t for op in ops for t in op.inputs if t not in made)
    immediate = sum(1 for t in read if t in graph.constants and graph.tensors[t].elements == 1)
    left = sum(1 for t in made if leaves(t, inside, graph))
    return len(read) - immediate + left


def leaves(tensor: str, inside: set[str], graph: Graph) -> bool:
    """Whether a tensor made inside is read outside or returned."""
    return graph.is_output(tensor) or any(c.name not in inside for c in graph.consumers[tensor])


def live_values(ops: Sequence[Op], graph: Graph) -> int:
    """The most values that are alive at once when the ops run one after the other on one vector.

    Each takes a vector register; more than the device has means spills.
    """
    inside = {op.name for op in ops}
    left = {
        t: sum(1 for c in graph.consumers[t] if c.name in inside) for op in ops for t in op.outputs
    }
    alive = peak = 0
    for op in ops:
        for t in dict.fromkeys(op.inputs):
            if t in left:
                left[t] -= 1
                alive -= left[t] == 0
        alive += sum(1 for t in op.outputs if left[t] > 0)
        peak = max(peak, alive)
    return peak


def mixed_widths(ops: Sequence[Op], facts: Facts) -> tuple[int, int] | None:
    """Two element widths in bits that a block around an anchor would have to mix, or None.

    The anchor's tile fixes the vector length; a value of another width between the ops would need
    another tile. Booleans are masks of any width.
    """
    anchor = next((op for op in ops if op.kind in ANCHORS), None)
    if anchor is None:
        return None
    tensors = facts.graph.tensors
    width = dtype_bits(tensors[anchor.outputs[0]].dtype)
    inside = {op.name for op in ops}
    for op in ops:
        for t in op.outputs:
            used = any(c.name in inside for c in facts.graph.consumers[t])
            if used and tensors[t].dtype != "bool" and dtype_bits(tensors[t].dtype) != width:
                return width, dtype_bits(tensors[t].dtype)
    return None
