"""`dnnfusion inspect`: a model's operators by mapping type, with FLOPs and intermediate bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click

from tvm_dnnfusion import settings
from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.report.format import bytes_text, count_text, flops_text, names_text
from tvm_dnnfusion.report.stats import count
from tvm_dnnfusion.report.summary import GraphSummary, OpSummary, to_dict
from tvm_dnnfusion.report.table import TableData, table

BARRIER = "Barrier"


@click.command("inspect")
@options.model
@options.params
@click.option("--ops", "list_ops", is_flag=True, help="List every operator, not only the sums.")
@click.option("--rewritten", is_flag=True, help="Look at the graph after rewriting.")
@options.common
def command(
    model: str,
    input_shapes: dict[str, tuple[int, ...]] | None,
    params: Path | None,
    list_ops: bool,
    rewritten: bool,
    as_json: bool,
) -> None:
    """Show what MODEL is made of.

    MODEL is an ONNX file, a program saved with torch.export.save (.pt2), or a Relay module (JSON).
    """
    from tvm_dnnfusion.cli.build import read_graph

    settings.read()  # a bad variable is said here as by the commands that need it
    graph = read_graph(model, input_shapes, rewritten, params)
    parts = [_by_type(graph), _by_kind(graph), *_barriers(graph)]
    if list_ops:
        parts.append(_ops(graph))
    Output(as_json).emit({"model": model, **_data(graph)}, *parts)


def _type(op: OpSummary) -> str:
    return BARRIER if op.mapping is None else op.mapping.value


def _groups(graph: GraphSummary) -> list[tuple[str, list[OpSummary]]]:
    """Mapping types in the order of the paper's table 2, barriers last, with their ops."""
    order = [*(t.value for t in MappingType), BARRIER]
    groups = [(name, [op for op in graph.ops if _type(op) == name]) for name in order]
    return [(name, ops) for name, ops in groups if ops]


def _by_type(graph: GraphSummary) -> TableData:
    rows = [(name, *_sums(ops)) for name, ops in _groups(graph)]
    rows.append(("all", *_sums(graph.ops)))
    columns = ("mapping type", "operators", "FLOPs", "IRS")
    return table("Operators by mapping type", columns, rows, right=(1, 2, 3))


def _sums(ops: Iterable[OpSummary]) -> tuple[str, str, str]:
    listed = list(ops)
    flops = flops_text(sum(op.flops for op in listed))
    return count_text(len(listed)), flops, bytes_text(sum(op.irs_bytes for op in listed))


def _by_kind(graph: GraphSummary) -> TableData:
    kinds = Counter((op.kind, _type(op)) for op in graph.ops)
    rows = [
        (kind, name, *_sums(op for op in graph.ops if (op.kind, _type(op)) == (kind, name)))
        for (kind, name), _ in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    ]
    columns = ("operator", "mapping type", "count", "FLOPs", "IRS")
    return table("Operators by kind", columns, rows, right=(2, 3, 4))


def _barriers(graph: GraphSummary) -> list[TableData]:
    rows = [
        (op.name, op.kind, op.why_barrier, names_text(op.origins))
        for op in graph.ops
        if op.mapping is None
    ]
    columns = ("op", "kind", "why", "layers")
    return [table("Barriers: nothing is fused across them", columns, rows)] if rows else []


def _ops(graph: GraphSummary) -> TableData:
    rows = [
        (
            op.name,
            op.kind,
            _type(op),
            ", ".join(graph.tensors[t].text for t in op.outputs),
            flops_text(op.flops),
            bytes_text(op.irs_bytes),
            names_text(op.origins),
        )
        for op in graph.ops
    ]
    columns = ("op", "kind", "mapping type", "result", "FLOPs", "IRS", "layers")
    return table("Operators", columns, rows, right=(4, 5))


def _data(graph: GraphSummary) -> dict[str, object]:
    counts = count(graph)
    types = {
        name: {
            "operators": len(ops),
            "flops": sum(op.flops for op in ops),
            "irs_bytes": sum(op.irs_bytes for op in ops),
        }
        for name, ops in _groups(graph)
    }
    return {
        "operators": counts.operators,
        "kernels_unfused": counts.kernels,
        "flops": counts.flops,
        "intermediate_bytes": counts.intermediate_bytes,
        "mapping_types": types,
        "graph": to_dict(graph),
    }
