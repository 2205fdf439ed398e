"""`dnnfusion bench`: median and p90 latency, and where the time goes."""

from __future__ import annotations

from pathlib import Path

import click

from tvm_dnnfusion.cli import ondevice, options, ranges
from tvm_dnnfusion.cli.build import Build, Shapes
from tvm_dnnfusion.cli.exits import Exit
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.cli.place import Place, check_here, on, on_device
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.cli.subject import Inputs, filling, is_saved, open_module
from tvm_dnnfusion.report.bundle import kernel_data, kernel_rows
from tvm_dnnfusion.report.format import time_text
from tvm_dnnfusion.report.table import TableData, table


@click.command("bench")
@options.model
@options.building
@filling
@click.option(
    "--repeat", type=ranges.SAMPLES, default=50, show_default=True, help="Samples to take."
)
@click.option(
    "--warmup",
    type=ranges.PAUSE_S,
    default=0.2,
    show_default=True,
    metavar="SECONDS",
    help="Run for so long before measuring.",
)
@click.option(
    "--max-time",
    type=ranges.MAX_TIME_S,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Take fewer samples rather than measure for longer.",
)
@click.option(
    "--profile/--no-profile",
    default=True,
    show_default=True,
    help="Time per kernel, with the source layers in it.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Kernels to list (JSON has all).",
)
@on_device
@ondevice.options
@options.common
def command(
    model: str,
    input_shapes: Shapes | None,
    build: Build,
    inputs_file: Path | None,
    fill_mode: str,
    seed: int,
    repeat: int,
    warmup: float,
    max_time: float,
    profile: bool,
    top: int,
    place: Place | None,
    extra: ondevice.Extra,
    as_json: bool,
) -> int:
    """Measure the latency of MODEL.

    MODEL is a folder or library that `optimize` wrote, or a model, which is compiled first. The
    profile by kernel is taken in runs of its own: it gives shares, not the latency.

    With --device or --rpc-tracker it is measured there: a library as it is, a model without
    fusion, with FuseOps' plan and with DNNFusion's, after its results were compared with this
    machine's.
    """
    from tvm_dnnfusion.devices.sessions import CoolDown
    from tvm_dnnfusion.runtime import BenchOptions, BenchReport, bench

    output = Output(as_json)
    given = Inputs(inputs_file, fill_mode, seed)
    settings = BenchOptions(runs=repeat, warmup_s=warmup, wall_s=max_time, profile=profile)
    if place is not None and not is_saved(model):
        return ondevice.run(model, input_shapes, build, place, extra, given, settings, top, output)
    with Phases(output.notes) as phases:
        if place is not None:
            cool = CoolDown(extra.pause, extra.cool_below)
            with on(place, model, input_shapes, build, phases) as loaded:
                inputs = given.make(loaded.signature)
                phases("measure")
                found: BenchReport = loaded.bench(inputs, options=settings, cool=cool)
        else:
            if not is_saved(model):
                check_here(build.target)
            module = open_module(model, input_shapes, build, phases)
            inputs = given.make(module.signature)
            phases("measure")
            found = bench(module, inputs, threads=build.threads, options=settings)
    output.note(f"threads: {found.threads.count} ({found.threads.why})")
    names = ("median_us", "p90_us", "min_us", "spread", "samples", "runs_per_sample", "warmup_runs")
    data = {
        "model": model,
        "threads": found.threads.count,
        **{name: getattr(found, name) for name in names},
        "kernels": kernel_data(found.kernels),
    }
    latency = table(
        "Latency of one run",
        ("median", "p90", "fastest", "spread", "samples", "threads"),
        [
            (
                time_text(found.median_us),
                time_text(found.p90_us),
                time_text(found.min_us),
                f"{100 * found.spread:.1f} %",
                str(found.samples),
                str(found.threads.count),
            )
        ],
        right=range(6),
    )
    parts: list[TableData | str] = [latency]
    if profile:
        rows = kernel_rows(found.kernels, top)
        rest = len(found.kernels) - len(rows)
        title = "Kernels by time" + (f" (the first {top}; {rest} more)" if rest > 0 else "")
        columns = ("kernel", "calls", "time", "share", "source layers")
        parts.append(table(title, columns, rows, right=(1, 2, 3)))
    output.emit(data, *parts)
    return Exit.OK
