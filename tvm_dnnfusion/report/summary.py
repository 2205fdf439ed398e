"""What a report needs of a graph: ops with their origins, sizes and mapping types, as plain data.

Stands beside the plan in plan.json (section "graph"), so that statistics, explanations and the HTML
report can be made from the saved plan alone, without the model and without a compiler.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tvm_dnnfusion.ecg.catalog import Barrier, barrier_of
from tvm_dnnfusion.ecg.graph import Attr, Dim, Graph, GraphError, Tensor
from tvm_dnnfusion.ecg.info import ECG
from tvm_dnnfusion.ecg.mapping import MappingType


class SummaryError(ValueError):
    """The "graph" section of a plan file is missing or malformed; the message says what."""


@dataclass(frozen=True, slots=True)
class TensorSummary:
    """A tensor: `nbytes` is 0 where the shape is symbolic or the value is not a tensor."""

    name: str
    shape: tuple[Dim, ...] | None
    dtype: str
    nbytes: int
    constant: bool = False

    @property
    def sized(self) -> bool:
        """Whether `nbytes` is known."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)

    @property
    def text(self) -> str:
        """Type as people write it: "float32 [1, 64, 56, 56]"."""
        if self.shape is None:
            return self.dtype or "not a tensor"
        return f"{self.dtype} [{', '.join(str(d) for d in self.shape)}]"


@dataclass(frozen=True, slots=True)
class OpSummary:
    """An op: fields as in `Op` and `OpInfo`; `mapping` is None for a barrier.

    `barrier` is the name of a `catalog.Barrier`, whoever found it: the frontend or the catalogue.
    """

    name: str
    kind: str
    origins: tuple[str, ...]
    rules: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    mapping: MappingType | None
    barrier: str | None
    flops: int
    irs_bytes: int
    bytes_read: int
    bytes_written: int

    @property
    def why_barrier(self) -> str:
        """The reason why the op is a barrier, as a sentence; "" for others."""
        return "" if self.barrier is None else Barrier[self.barrier].value

    @property
    def label(self) -> str:
        """Name and kind, and the source layers where there are some."""
        layers = f" from {', '.join(self.origins)}" if self.origins else ""
        return f"{self.name} ({self.kind}{layers})"


@dataclass(frozen=True)
class GraphSummary:
    """A graph as data: ops in topological order.

    `removed` are source layers that no op carries any more: folded, cancelled, or dead.
    """

    ops: tuple[OpSummary, ...]
    tensors: Mapping[str, TensorSummary]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    removed: tuple[str, ...] = field(default=())

    @cached_property
    def by_name(self) -> Mapping[str, OpSummary]:
        """Op name -> op."""
        return {op.name: op for op in self.ops}

    @cached_property
    def producers(self) -> Mapping[str, OpSummary]:
        """Tensor name -> the op that makes it."""
        return {t: op for op in self.ops for t in op.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[OpSummary, ...]]:
        """Tensor name -> the ops that read it, in order, each once."""
        out: dict[str, list[OpSummary]] = {}
        for op in self.ops:
            for t in dict.fromkeys(op.inputs):
                out.setdefault(t, []).append(op)
        return {t: tuple(v) for t, v in out.items()}

    @cached_property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """(producer, consumer) pairs of op names, in order of the consumers, each once."""
        found: dict[tuple[str, str], None] = {}
        for op in self.ops:
            for t in op.inputs:
                if t in self.producers:
                    found[self.producers[t].name, op.name] = None
        return tuple(found)

    @property
    def flops(self) -> int:
        """Floating-point operations of one run."""
        return sum(op.flops for op in self.ops)


def summarise(ecg: ECG, source: Graph | None = None) -> GraphSummary:
    """The summary of a graph; `source`, the graph before rewriting, tells which layers vanished."""
    graph = ecg.graph
    ops = tuple(_op(ecg, i) for i in range(len(graph.ops)))
    used = {*graph.inputs, *graph.outputs}
    for op in graph.ops:
        used.update(op.inputs, op.outputs)
    tensors = {
        name: _tensor(record, name in graph.constants)
        for name, record in graph.tensors.items()
        if name in used
    }
    kept = {layer for op in ops for layer in op.origins}
    before = () if source is None else (layer for op in source.ops for layer in op.origins)
    removed = tuple(layer for layer in dict.fromkeys(before) if layer not in kept)
    return GraphSummary(ops, tensors, graph.inputs, graph.outputs, removed)


def _op(ecg: ECG, index: int) -> OpSummary:
    op = ecg.graph.ops[index]
    info = ecg.info[op.name]
    barrier = barrier_of(op, ecg.graph)
    return OpSummary(
        name=op.name,
        kind=op.kind,
        origins=op.origins,
        rules=op.rules,
        inputs=op.inputs,
        outputs=op.outputs,
        mapping=info.mapping,
        barrier=None if barrier is None else barrier.name,
        flops=info.flops,
        irs_bytes=info.irs_bytes,
        bytes_read=info.bytes_read,
        bytes_written=info.bytes_written,
    )


def _tensor(record: Tensor, constant: bool) -> TensorSummary:
    try:
        size = record.nbytes if record.dtype else 0
    except GraphError:
        size = 0
    return TensorSummary(record.name, record.shape, record.dtype, size, constant)


def graph_summary(ecg: ECG, source: Graph | None = None) -> dict[str, Any]:
    """The "graph" section of plan.json: only what JSON has, the same for the same graph."""
    return to_dict(summarise(ecg, source))


def to_dict(summary: GraphSummary) -> dict[str, Any]:
    """A summary as JSON data; `from_dict` is its inverse."""
    return {
        "inputs": list(summary.inputs),
        "outputs": list(summary.outputs),
        "removed": list(summary.removed),
        "tensors": [
            {
                "name": t.name,
                "shape": None if t.shape is None else list(t.shape),
                "dtype": t.dtype,
                "bytes": t.nbytes,
                "constant": t.constant,
            }
            for t in summary.tensors.values()
        ],
        "ops": [
            {
                "name": op.name,
                "kind": op.kind,
                "origins": list(op.origins),
                "rules": list(op.rules),
                "inputs": list(op.inputs),
                "outputs": list(op.outputs),
                "mapping": None if op.mapping is None else op.mapping.name,
                "barrier": op.barrier,
                "flops": op.flops,
                "irs_bytes": op.irs_bytes,
                "bytes_read": op.bytes_read,
                "bytes_written": op.bytes_written,
            }
            for op in summary.ops
        ],
    }


def from_dict(data: Any) -> GraphSummary:
    """The summary in a plan file's "graph" section. Raises SummaryError when it is malformed."""
    try:
        ops = tuple(_read_op(entry) for entry in data["ops"])
        tensors = {entry["name"]: _read_tensor(entry) for entry in data["tensors"]}
        return GraphSummary(
            ops=ops,
            tensors=tensors,
            inputs=_names(data["inputs"]),
            outputs=_names(data["outputs"]),
            removed=_names(data.get("removed", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SummaryError(f"the graph section of the plan file is malformed: {error!r}") from error


def _read_op(entry: Mapping[str, Any]) -> OpSummary:
    mapping = entry["mapping"]
    return OpSummary(
        name=str(entry["name"]),
        kind=str(entry["kind"]),
        origins=_names(entry["origins"]),
        rules=_names(entry.get("rules", ())),
        inputs=_names(entry["inputs"]),
        outputs=_names(entry["outputs"]),
        mapping=None if mapping is None else MappingType[mapping],
        barrier=None if entry.get("barrier") is None else Barrier[entry["barrier"]].name,
        flops=int(entry["flops"]),
        irs_bytes=int(entry["irs_bytes"]),
        bytes_read=int(entry["bytes_read"]),
        bytes_written=int(entry["bytes_written"]),
    )


def _read_tensor(entry: Mapping[str, Any]) -> TensorSummary:
    shape = entry["shape"]
    dims = None if shape is None else tuple(d if isinstance(d, int) else str(d) for d in shape)
    size = int(entry["bytes"])
    return TensorSummary(entry["name"], dims, entry["dtype"], size, bool(entry.get("constant")))


def _names(values: Iterable[Attr]) -> tuple[str, ...]:
    return tuple(str(v) for v in values)
