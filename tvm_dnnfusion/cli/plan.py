"""`dnnfusion plan`: fusion groups that keep to a buffer, from several planners side by side."""

from __future__ import annotations

import re
from functools import partial
from math import isinf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_dnnfusion import settings
from tvm_dnnfusion.cli import get as get_cli
from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.build import Shapes
from tvm_dnnfusion.cli.output import Output, check_file_place
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.report.format import bytes_text, count_text
from tvm_dnnfusion.report.table import TableData, table

if TYPE_CHECKING:
    from tvm_dnnfusion.ecg.graph import Graph
    from tvm_dnnfusion.planners.memory import Assessment

_UNITS = {"": 1, "B": 1, "K": 1024, "KB": 1024, "KIB": 1024, "M": 1024**2, "MB": 1024**2,
          "MIB": 1024**2}  # fmt: skip
SHOWN_LAYERS = 6
"""Layers of a group that a row of the table names."""


def parse_size(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """ "128KB" as bytes, in binary units as papers on buffers use them."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
    if found is None or found[2].upper() not in _UNITS:
        raise click.BadParameter(f"{value!r} is no size; write 128KB, 1MB or a number of bytes")
    size = int(float(found[1]) * _UNITS[found[2].upper()])
    if size < 1:
        raise click.BadParameter("a buffer has at least one byte")
    return size


@click.command("plan")
@options.model
@options.params
@click.option("--planner", "planners", multiple=True, default=("memory",), show_default=True,
              metavar="NAME", help="memory, optimus, optimus-online, get, efficient-s, dnnvm, "
              "exact, or a planner whose plan is held to the buffer: dnnfusion, tvm, none. "
              "Repeat it to compare.")  # fmt: skip
@click.option("--buffer", default="128KB", show_default=True, callback=parse_size,
              metavar="SIZE", help="On-chip buffer; KB and MB are binary.")  # fmt: skip
@click.option("--word", type=click.IntRange(min=1), default=2, show_default=True,
              help="Bytes of one element.")  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True,
              help="Runs of the model's own batch that are planned together.")  # fmt: skip
@click.option("--accounting", type=click.Choice(("full", "paper")), default="full",
              show_default=True, help="Charge everything, or what the papers charge.")  # fmt: skip
@click.option("--memory-model", default="brr", show_default=True, metavar="NAME",
              help="brr (Optimus: row tiles), lbdf (line buffers, weights stay), tiles (Cocco)."
              )  # fmt: skip
@click.option("--accelerator", default="optimus", show_default=True, metavar="NAME",
              help="PE array and energies.")  # fmt: skip
@get_cli.get_options
@click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="Of each planner's search; the best plan so far counts.")  # fmt: skip
@click.option("--no-merge", is_flag=True, help="Plan single ops; merge no simple ones first.")
@click.option("--no-rewrite", is_flag=True, help="Leave the graph as it was imported.")
@click.option("--output", "-o", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Write NAME.json and NAME.html for each planner.")  # fmt: skip
@options.common
def command(
    model: str,
    input_shapes: Shapes | None,
    params: Path | None,
    planners: tuple[str, ...],
    buffer: int,
    word: int,
    batch: int,
    accounting: str,
    memory_model: str,
    accelerator: str,
    get: dict[str, Any],
    time_limit: float | None,
    no_merge: bool,
    no_rewrite: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Plan MODEL's fusion groups for a buffer.

    MODEL is an ONNX file, a program saved with torch.export.save (.pt2), or a Relay module (JSON).
    Nothing is compiled. Ctrl-C ends the search of a planner and keeps its best plan; planners after
    it are left out. Of several planners one that refuses the network leaves the others' plans.
    """
    from tvm_dnnfusion.cost.memory import Accounting
    from tvm_dnnfusion.devices import registry
    from tvm_dnnfusion.devices.accelerators import accelerator as find
    from tvm_dnnfusion.ecg.metrics import extend
    from tvm_dnnfusion.planners.memory import Budget, MemoryPlanner

    settings.read()
    output = Output(as_json)
    spec = find(accelerator)
    _check(planners, memory_model, folder)
    get_cli.check(planners, get)
    found: list[Assessment] = []
    refused: dict[str, Exception] = {}
    with Phases(output.notes) as phases:
        phases("load")
        source, graph = _graphs(model, input_shapes, params, not no_rewrite)
        ecg = extend(graph)
        for name in dict.fromkeys(planners):
            phases(name)
            budget = Budget(time_limit, report=partial(_tell, phases, name))
            planner = MemoryPlanner(
                name, buffer, word, batch, Accounting(accounting), memory_model, spec, not no_merge,
                options=get if name == "get" else {},
            )  # fmt: skip
            try:
                found.append(planner.assess(ecg, registry.get("host"), budget))
            except Exception as error:
                if len(set(planners)) == 1 or not hasattr(error, "exit_code"):
                    raise
                refused[name] = error
                continue
            if found[-1].result.interrupted:
                output.warn(f"{name} was interrupted; its best plan so far is kept")
                break
    for name, error in refused.items():
        output.warn(f"no plan by {name}: {error}")
    if not found:
        raise next(iter(refused.values()))
    if lacking := _too_large(found[0], graph):
        output.warn(lacking)
    written = _write(folder, found, Path(model).stem, source, graph) if folder else []
    parts: list[TableData | str] = [_summary(found)]
    parts += [_groups(found[0], graph)] if len(found) == 1 else []
    parts += [f"Written to {folder}: {', '.join(written)}"] if written else []
    data = {"model": model, "buffer_bytes": buffer, "word_bytes": word, "batch": batch,
            "accounting": accounting, "memory_model": memory_model, "files": written,
            "planners": [_data(a) for a in found],
            "refused": {name: str(error) for name, error in refused.items()}}  # fmt: skip
    output.emit(data, *parts)
    for error in refused.values():
        click.get_current_context().exit(error.exit_code)  # type: ignore[attr-defined]


def _tell(phases: Phases, name: str, _: str, done: int, total: int | None) -> None:
    phases(name, done, total)


def _check(planners: tuple[str, ...], memory_model: str, folder: Path | None) -> None:
    """Refuse unknown names and a folder that cannot be written before the model is read."""
    from tvm_dnnfusion.cost.memory import memory_model_names
    from tvm_dnnfusion.planners import planner_names
    from tvm_dnnfusion.planners.memory import partitioner_names

    known = sorted({*planner_names(), *partitioner_names()})
    for name in planners:
        if name not in known:
            raise click.BadParameter(
                f"no planner named {name!r}; known: {', '.join(known)}", param_hint="--planner"
            )
    if memory_model not in memory_model_names():
        raise click.BadParameter(
            f"no memory model named {memory_model!r}; known: {', '.join(memory_model_names())}",
            param_hint="--memory-model",
        )
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        check_file_place(folder / f"{planners[0]}.json")


def _graphs(model: str, shapes: Shapes | None, params: Path | None, rewritten: bool
            ) -> tuple[Graph, Graph]:  # fmt: skip
    from tvm_dnnfusion.cli.build import load_model
    from tvm_dnnfusion.frontend.relax import from_relax

    source = from_relax(load_model(model, shapes, params)).graph
    if not rewritten:
        return source, source
    from tvm_dnnfusion.rewrite import RewriteOptions, rewrite

    return source, rewrite(source, RewriteOptions()).graph


def _summary(found: list[Assessment]) -> TableData:
    rows = [
        (a.planner, count_text(len(a.result.groups)), bytes_text(a.result.dram_bytes),
         *(bytes_text(s) for s in _parts(a)), bytes_text(a.result.buffer_bytes),
         f"{a.result.energy:.3g}", f"{a.result.seconds:.2f} s",
         "" if a.result.complete else "stopped")
        for a in found
    ]  # fmt: skip
    columns = ("planner", "groups", "DRAM", "weights", "in", "out", "buffer", "energy (MACs)",
               "search", "")  # fmt: skip
    return table("Plans", columns, rows, right=range(1, 9))


def _parts(a: Assessment) -> tuple[float, float, float]:
    costs = a.result.costs
    return (sum(c.weight_bytes for c in costs), sum(c.input_bytes for c in costs),
            sum(c.output_bytes for c in costs))  # fmt: skip


def _too_large(a: Assessment, graph: Graph) -> str:
    """What to say of layers that the memory model runs in no way in this buffer; else empty."""
    blocks = [b.memory for b in a.plan.blocks if b.memory and isinf(b.memory.dram_bytes)]
    if not blocks:
        return ""
    worst = max(blocks, key=lambda m: m.buffer_bytes)
    op = graph.by_name[worst.layers[0]]
    name = op.origins[0] if op.origins else op.name
    return (
        f"no schedule for {len(blocks)} layer(s) in this buffer, DRAM counts as infinite: most is"
        f" wanted by {name} ({op.kind}), {bytes_text(worst.buffer_bytes)}; give a larger --buffer"
    )


def _groups(a: Assessment, graph: Graph) -> TableData:
    rows: list[tuple[str, ...]] = []
    for block in a.plan.blocks:
        m = block.memory
        if m is None:
            continue
        first = (graph.by_name[name] for name in m.layers[:SHOWN_LAYERS])
        names = ", ".join(op.origins[0] if op.origins else op.name for op in first)
        more = len(m.layers) - SHOWN_LAYERS
        rows.append((
            block.name.partition("_")[0], str(len(m.layers)), bytes_text(m.dram_bytes),
            bytes_text(m.buffer_bytes), f"{m.tiles} x {m.tile_rows}",
            "stay" if m.resident else "stream", names + (f" and {more} more" if more > 0 else ""),
        ))  # fmt: skip
    columns = ("group", "layers", "DRAM", "buffer", "steps x rows", "weights", "names")
    return table(f"Groups of {a.planner}", columns, rows, right=(1, 2, 3, 4))


def _data(a: Assessment) -> dict[str, Any]:
    weights, read, written = _parts(a)
    return {
        "planner": a.planner,
        "groups": [
            {"ops": list(b.ops), "layers": list(b.memory.layers),
             "dram_bytes": b.memory.dram_bytes, "buffer_bytes": b.memory.buffer_bytes,
             "energy": b.memory.energy, "tile_rows": b.memory.tile_rows, "tiles": b.memory.tiles}
            for b in a.plan.blocks if b.memory is not None
        ],
        "dram_bytes": a.result.dram_bytes, "weight_bytes": weights, "input_bytes": read,
        "output_bytes": written, "buffer_bytes": a.result.buffer_bytes,
        "energy": a.result.energy, "seconds": round(a.result.seconds, 4),
        "evaluations": a.result.evaluations, "complete": a.result.complete,
        "interrupted": a.result.interrupted,
    }  # fmt: skip


def _write(folder: Path, found: list[Assessment], title: str, source: Graph, graph: Graph
           ) -> list[str]:  # fmt: skip
    """A plan file, which `explain` and `optimize --plan` read, and a report of each plan."""
    from tvm_dnnfusion.ecg.metrics import extend
    from tvm_dnnfusion.report.data import ReportData
    from tvm_dnnfusion.report.html import render
    from tvm_dnnfusion.report.plan_file import plan_file_text
    from tvm_dnnfusion.report.stats import statistics
    from tvm_dnnfusion.report.summary import summarise
    from tvm_dnnfusion.runtime.files import whole_file

    before, after = summarise(extend(source)), summarise(extend(graph), source)
    out: list[str] = []
    for a in found:
        stats = statistics(before, after, a.plan, None)
        facts = (("Planner", a.planner), ("DRAM", bytes_text(a.result.dram_bytes)),
                 ("Buffer used", bytes_text(a.result.buffer_bytes)))  # fmt: skip
        page = render(ReportData(f"{title}: {a.planner}", a.plan, after, stats, facts))
        for name, text in ((f"{a.planner}.json", plan_file_text(a.plan, after)),
                           (f"{a.planner}.html", page)):  # fmt: skip
            with whole_file(folder / name) as draft:
                draft.write_text(text, encoding="utf-8")
            out.append(name)
    return out
