"""Latency from a device's peak and bandwidth: the roofline, and what fusing badly costs on top.

    us = max(work / peak, bytes / bandwidth) + launch + staging

Work counts what the kernel really computes: elements that an expansion inside it makes it compute
again are counted again. Bytes are those that enter and leave the kernel; what stays inside is free
while it can live in registers, tiles or rows. It ranks; it does not predict: planners ask it where
table 3 is yellow and nothing was measured. Cost: linear in the ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm_dnnfusion.cost.protocol import Estimate
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.catalog import barrier_of, edge_mapping, mapping_type
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.ecg.metrics import bytes_read, flops

LAUNCH_US = 2.0
"""Start of a kernel with its parallel region, in microseconds: TVM's thread pool measured 1.4 to
2.7 with two threads that still spin, on a 2-core x86 guest (up to 25 when they sleep)."""

DEFAULT_GHZ = 2.5
"""Clock assumed where a spec gives no peak; a common base clock of server and phone cores."""

DEFAULT_BANDWIDTH_GBS = 15.0
"""Bandwidth assumed where a spec gives none: one channel of DDR4-2133, or LPDDR4 at 32 bits."""

FLOPS_PER_LANE = 4
"""Two fused multiply-adds per lane and cycle, as on current x86 and big ARM cores (manuals)."""

CACHE_SPEEDUP = 4.0
"""Bandwidth of the last private cache over that of memory; the low end of published x86 figures."""

POINTWISE_SHARE = 0.25
"""Part of the FMA peak that non-anchor loops reach: one operation per lane, no multiply-add."""

TRANSCENDENTAL_FLOPS = 16
"""Operations of one vectorised exponential, logarithm or the like: range reduction, polynomial of
degree 5 to 7, reconstruction (Cephes' float32 forms)."""

STRIDED_BYTES = 4.0
"""Traffic factor of a transposition that moves the innermost axis: one float used per 16-byte
quarter of a line before it is evicted; blocking recovers the rest."""

STAGED_SLOWDOWN = 1.1
"""What a kernel loses when a heavy op runs as an inner stage of it, with the loop order and the
parallel split of the rest. Own estimate, not measured."""

TRANSCENDENTAL = frozenset(
    "exp log power erf sigmoid tanh sin cos tan sinh cosh asin acos atan asinh acosh atanh atan2"
    " log_add_exp nn.gelu nn.gelu_tanh nn.silu nn.selu nn.softplus nn.softmax"
    " nn.log_softmax".split()
)
_VIEWS = frozenset("reshape flatten squeeze expand_dims nn.batch_flatten".split())
"""Alone, these are views of their operand (Relax's RewriteDataflowReshape): no kernel runs."""

_ANCHORS = ("nn.conv", "matmul", "einsum", "nn.attention")


@dataclass(frozen=True, slots=True)
class Parts:
    """One estimate in its parts, in microseconds; `again` is how often the op that is computed most
    often is, `stages` counts values that are computed in full before the rest."""

    work_us: float = 0.0
    traffic_bytes: float = 0.0
    moved_us: float = 0.0
    launch_us: float = 0.0
    stage_us: float = 0.0
    stages: int = 0
    again: float = 1.0

    @property
    def us(self) -> float:
        """The roofline with what staging costs."""
        slow = STAGED_SLOWDOWN if self.stages else 1.0
        return max(self.work_us, self.moved_us) * slow + self.launch_us + self.stage_us


def is_view(ops: Sequence[Op]) -> bool:
    """Whether the ops only give a tensor another shape: no kernel runs."""
    return all(op.kind in _VIEWS for op in ops)


class AnalyticCost:
    """A `Cost` from a `DeviceSpec`; estimates carry the source "analytic"."""

    def __init__(self, device: DeviceSpec) -> None:
        self.device = device
        lanes = device.lanes("float32")
        assumed = device.cores * lanes * FLOPS_PER_LANE * DEFAULT_GHZ
        self._flops_per_us = (device.peak_gflops or assumed) * 1e3
        self._bytes_per_us = (device.bandwidth_gbs or DEFAULT_BANDWIDTH_GBS) * 1e3

    def latency_us(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        """Estimate for `ops` as one kernel. A barrier costs its launch alone, a view nothing."""
        found = self.parts(ops, graph)
        return Estimate(0.0 if found is None else found.us, "analytic")

    def parts(self, ops: tuple[Op, ...], graph: Graph) -> Parts | None:
        """What the estimate is made of; None for views alone, which take no kernel."""
        if is_view(ops):
            return None
        live = tuple(op for op in ops if barrier_of(op, graph) is None)
        if not live:
            return Parts(launch_us=LAUNCH_US * len(ops))
        kernel = _Kernel(live, graph)
        times = [kernel.times(op) for op in live]
        traffic = kernel.traffic()
        staged = kernel.staged()
        return Parts(
            work_us=sum(n * self._work_us(op, graph) for n, op in zip(times, live)),
            traffic_bytes=traffic,
            moved_us=traffic / self._bandwidth(traffic),
            launch_us=LAUNCH_US,
            stage_us=sum(
                LAUNCH_US + 2 * graph.tensors[t].nbytes / self._bandwidth(0) for t in staged
            ),
            stages=len(staged),
            again=max(times),
        )

    def _bandwidth(self, nbytes: float) -> float:
        """Bytes per microsecond: from the caches where the kernel's data fits in them."""
        fits = nbytes <= self.device.l2_bytes * self.device.cores
        return self._bytes_per_us * (CACHE_SPEEDUP if fits else 1.0)

    def _work_us(self, op: Op, graph: Graph) -> float:
        work = float(flops(op, graph))
        if op.kind in TRANSCENDENTAL:
            work += TRANSCENDENTAL_FLOPS * graph.tensors[op.outputs[0]].elements
        share = 1.0 if op.kind.startswith(_ANCHORS) else POINTWISE_SHARE
        return work / (self._flops_per_us * share)


class _Kernel:
    """A group of ops as one kernel: what enters, leaves, is computed again or is staged."""

    def __init__(self, ops: Sequence[Op], graph: Graph) -> None:
        self.ops, self.graph = ops, graph
        self.inside = {op.name: op for op in ops}
        self.made = {t: op for op in ops for t in op.outputs}
        self._times: dict[str, float] = {}
        self._staged: dict[str, None] = {}
        self._expand()

    def times(self, op: Op) -> float:
        """How often the kernel computes each element of the op's result."""
        return self._times[op.name]

    def staged(self) -> tuple[str, ...]:
        """Values that are computed in full before the rest, being dear and read often."""
        return tuple(self._staged)

    def traffic(self) -> float:
        """Bytes that enter and leave, transpositions of the innermost axis counted as they cost."""
        total = 0.0
        read: dict[str, None] = {}
        for op in self.ops:
            factor = STRIDED_BYTES if _moves_innermost(op, self.graph) else 1.0
            total += (factor - 1.0) * self.graph.tensors[op.outputs[0]].nbytes
            outside = [t for t in dict.fromkeys(op.inputs) if t not in self.made]
            if outside and outside[0] == op.inputs[0] and outside[0] not in read:
                all_bytes = sum(self.graph.tensors[t].nbytes for t in dict.fromkeys(op.inputs))
                total -= all_bytes - bytes_read(op, self.graph)  # a gather reads what it takes
            read.update(dict.fromkeys(outside))
        total += sum(self.graph.tensors[t].nbytes for t in read)
        left = sum(self.graph.tensors[t].nbytes for t in self.made if self._out(t))
        return max(0.0, total) + left

    def _out(self, tensor: str) -> bool:
        readers = self.graph.consumers[tensor]
        return self.graph.is_output(tensor) or any(c.name not in self.inside for c in readers)

    def _expand(self) -> None:
        """Backwards from the results: how many times each op's elements are asked for."""
        for op in reversed(self.ops):
            times = 1.0
            for t in op.outputs:
                for reader in self.graph.consumers[t]:
                    if reader.name in self.inside:
                        times = max(times, self._asked(t, reader))
            self._times[op.name] = times

    def _asked(self, tensor: str, reader: Op) -> float:
        below = self._times[reader.name]
        if edge_mapping(reader, tensor, self.graph) is not MappingType.ONE_TO_MANY:
            return below
        if self._is_row_value(tensor):
            return 1.0
        if self._has_heavy_behind(tensor):
            self._staged[tensor] = None
            return 1.0
        most = max(self.graph.tensors[t].elements for t in reader.outputs)
        return below * max(1.0, most / max(1, self.graph.tensors[tensor].elements))

    def _is_row_value(self, tensor: str) -> bool:
        """One number per row, made in the kernel or kept in a register while the row passes."""
        dims = self.graph.tensors[tensor].dims
        return bool(dims) and dims[-1] == 1 and self._row_reduced(tensor)

    def _row_reduced(self, tensor: str) -> bool:
        """Whether the heavy ops behind are reductions, and there is one."""
        heavy = [op for op in self._behind(tensor) if _is_heavy(op, self.graph)]
        return bool(heavy) and all(op.kind in _ROW_REDUCTIONS for op in heavy)

    def _has_heavy_behind(self, tensor: str) -> bool:
        return any(_is_heavy(op, self.graph) for op in self._behind(tensor))

    def _behind(self, tensor: str) -> list[Op]:
        found: dict[str, Op] = {}
        pending = [tensor]
        while pending:
            op = self.made.get(pending.pop())
            if op is not None and op.name not in found:
                found[op.name] = op
                pending.extend(op.inputs)
        return list(found.values())


_ROW_REDUCTIONS = frozenset("sum mean max min prod variance std argmax argmin".split())


def _is_heavy(op: Op, graph: Graph) -> bool:
    return mapping_type(op, graph) is MappingType.MANY_TO_MANY


def _moves_innermost(op: Op, graph: Graph) -> bool:
    if op.kind != "permute_dims":
        return op.kind == "nn.pixel_shuffle"
    rank = len(graph.tensors[op.inputs[0]].dims)
    axes = op.ints("axes") or tuple(reversed(range(rank)))
    return bool(axes) and axes[-1] % rank != rank - 1
