"""`dnnfusion tune`: search for better parameters of a model's blocks, by measurement."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.build import Build, Shapes
from tvm_dnnfusion.cli.exits import Exit
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.cli.place import address_of, check_cpu
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.cli.tuning_exchange import records_file
from tvm_dnnfusion.cli.tuning_settled import settled
from tvm_dnnfusion.cli.tuning_table import Live, block_rows, blocks_table
from tvm_dnnfusion.devices.sessions.address import FORMS, LOCAL

if TYPE_CHECKING:
    from tvm_dnnfusion.tuning.in_model import Settled
    from tvm_dnnfusion.tuning.tuner import Tuner

SEARCHES = ("genetic", "bayesian", "metaschedule")
TRIALS = 500


@click.command("tune")
@options.model
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=TRIALS,
    show_default=True,
    help="Candidates in all, over all blocks; those of earlier runs count.",
)
@click.option(
    "--search",
    type=click.Choice(SEARCHES),
    default="genetic",
    show_default=True,
    help="Over the templates' parameters (genetic, bayesian), or over the TIR (metaschedule).",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Wall limit of one candidate; what crashes or hangs costs that.",
)
@click.option("--rpc-tracker", metavar="HOST:PORT", help="Measure on a device of this tracker.")
@click.option("--rpc-key", metavar="KEY", help="The key of the device at the tracker.")
@click.option(
    "--device",
    "address",
    metavar="ADDRESS",
    help=f"Measure on this device: {FORMS}.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@options.building
@options.common
def command(
    model: str,
    input_shapes: Shapes | None,
    trials: int,
    search: str,
    timeout_s: float,
    rpc_tracker: str | None,
    rpc_key: str | None,
    address: str | None,
    seed: int,
    build: Build,
    as_json: bool,
) -> int:
    """Tune the blocks of MODEL within a number of trials, and keep what was found.

    Each block starts with its template's own parameters, and what was found is taken only after the
    model was faster with it, so tuning never ends worse than it starts. Every trial is kept at
    once: interrupted at any moment, the same command goes on. `optimize`, `run`, `bench` and
    `verify` take the records by themselves (--tuning-records).
    """
    check_cpu(build.target, "tune", "those of a GPU have no search")
    place = str(address_of(address, rpc_tracker, rpc_key) or LOCAL)
    path = _path(build)
    output = Output(as_json)
    from tvm_dnnfusion.profile.trials import TuningDB
    from tvm_dnnfusion.tuning.factory import make_runner, proposer
    from tvm_dnnfusion.tuning.tasks import tasks_of
    from tvm_dnnfusion.tuning.tuner import Tuner

    make = proposer(search, seed)
    with TuningDB(path) as db:  # it and the device first: what is wrong with them is said at once
        runner = make_runner(place, build.target, build.threads, timeout_s)
        try:
            with Phases(output.notes) as phases:
                # Elsewhere --threads is the device's, and the plan is that of a compile without it.
                planned = build if place == LOCAL else replace(build, threads=None)
                fused = planned.fuse(model, input_shapes, phases)
            with Live(output, trials, fused.device) as live:
                tuner = Tuner(tasks_of(fused, runner.unit), db, runner, make, live)
                _run(tuner, trials, output, path)
            kept = settled(tuner, build, model, input_shapes, place, output)
            for state, why in tuner.unmeasured():
                name = state.task.name
                output.note(f"{name} is not tuned: its template's own choice failed: {why}")
        finally:
            runner.close()
    data, title = _result(tuner, path, kept)
    output.emit(data, blocks_table(title, tuner.states, fused.device))
    if tuner.states and all(state.own is None for state in tuner.states):
        output.warn("no block could be measured, so nothing was tuned")
        return Exit.ENVIRONMENT
    return Exit.OK


def _run(tuner: Any, trials: int, output: Output, path: Path) -> None:
    try:
        tuner.run(trials)
    except BaseException:
        with suppress(Exception):
            output.note(f"{tuner.trials} trials are kept in {path}; the same command goes on")
        raise


def _path(build: Build) -> Path:
    if build.tuning_records == "none":
        raise click.UsageError("--tuning-records none: tuning needs a file to keep its records")
    return records_file(Path(build.tuning_records) if build.tuning_records is not None else None)


def _result(tuner: Tuner, path: Path, kept: Settled | None) -> tuple[dict[str, Any], str]:
    own = sum((s.own or 0.0) * len(s.task.blocks) for s in tuner.states)
    best = sum((s.best or s.own or 0.0) * len(s.task.blocks) for s in tuner.states)
    unit = tuner.runner.unit
    data = {
        "records": str(path),
        "unit": unit,
        "trials": tuner.trials,
        "untuned": own,
        "tuned": best,
        "model": None if kept is None else asdict(kept),
        "blocks": block_rows(tuner.states),
    }
    what, against = "all blocks", "untuned"
    if kept is not None:
        what, against, own, best = "the model", "before", kept.before_us, kept.after_us
    gain = f", {own / best:.3f} times as fast as {against}" if best > 0 else ""
    return data, f"{tuner.trials} trials in {path}: {what} {best:,.0f} {unit}{gain}"
