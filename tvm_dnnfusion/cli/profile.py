"""`dnnfusion profile`: measure the blocks that planning asks for, into the profile database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_dnnfusion import settings
from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.build import Shapes
from tvm_dnnfusion.cli.exits import Exit
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.cli.place import check_here
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.devices.sessions.address import LOCAL
from tvm_dnnfusion.profile.database import FILE_NAME, ProfileDB
from tvm_dnnfusion.report.format import count_text
from tvm_dnnfusion.report.table import table

if TYPE_CHECKING:
    from tvm_dnnfusion.devices.spec import DeviceSpec
    from tvm_dnnfusion.measuring.campaign import Report, Status
    from tvm_dnnfusion.measuring.meter import Meter

SAY_EVERY_S = 15.0


@click.command("profile")
@click.argument("models", nargs=-1, required=True)
@options.input_shapes
@options.params
@options.target
@click.option(
    "--device",
    "address",
    default="local",
    show_default=True,
    metavar="ADDRESS",
    help="Where kernels run: local, rpc://host:port, tracker://host:port/key, virtual.",
)
@click.option(
    "--rpc-tracker",
    default=None,
    metavar="HOST:PORT",
    help="With --rpc-key: the same as --device tracker://HOST:PORT/KEY.",
)
@click.option("--rpc-key", default=None, metavar="KEY", help="Of the tracker's devices.")
@click.option(
    "--devices",
    "count",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Devices of a tracker's key to use at once. Default: all that are free.",
)
@click.option(
    "--every",
    is_flag=True,
    help="Also each block of the plans and each operator alone: for `db train`.",
)
@click.option(
    "--spread",
    type=click.FloatRange(min=0, min_open=True),
    default=0.05,
    show_default=True,
    help="Repeat until samples agree within this part of them.",
)
@click.option(
    "--max-time",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="Time no kernel for longer.",
)
@click.option(
    "--machine",
    is_flag=True,
    help="Measure this machine's peak and bandwidth anew, though they are known.",
)
@options.database
@options.threads
@options.winograd
@options.common
def command(
    models: tuple[str, ...],
    input_shapes: Shapes | None,
    params: Path | None,
    target: dict[str, object],
    address: str,
    rpc_tracker: str | None,
    rpc_key: str | None,
    count: int | None,
    every: bool,
    spread: float,
    max_time: float,
    machine: bool,
    database: Path | None,
    threads: int | None,
    winograd: int,
    winograd_memory: float,
    as_json: bool,
) -> int:
    """Measure the blocks that planning MODELS asks for, and keep the figures.

    A model is planned, what the database lacks is measured, and it is planned again, until its plan
    rests on measurements. Stop it at any moment: the same command goes on from there. Blocks that
    several models have are measured once. Exits with 3 where none could be measured.
    """
    from tvm_dnnfusion.measuring.meter import Limits, Meter

    output = Output(as_json)
    place = _place(address, rpc_tracker, rpc_key)
    if place.kind == LOCAL:
        check_here(target)
    with Phases(output.notes, quiet=as_json) as phases:
        device = _device(target, place, machine, phases)
        used = threads or device.cores
        graphs = {}
        for model in models:
            phases(f"load {Path(model).stem}")
            graphs[_name(model, graphs)] = _graph(model, input_shapes, params)
    limits = Limits(spread=spread, wall_s=max_time)
    places = _places(place, count)
    meters = [Meter(place, device, used, limits) for _ in range(places)]
    with ProfileDB(database or settings.read().cache / FILE_NAME) as db:
        report = _run(db, graphs, device, used, (winograd, winograd_memory), meters, every, output)
        status = db.status()
    _emit(output, report, status.path, [m for m in status.models if m[0] in graphs], places)
    return Exit.ENVIRONMENT if report.failed and not report.measured + report.known else Exit.OK


def _run(
    db: ProfileDB, graphs: dict[str, Any], device: DeviceSpec, threads: int,
    winograd: tuple[int, float], meters: Sequence[Meter], every: bool, output: Output,
) -> Report:  # fmt: skip
    from tvm_dnnfusion.codegen.variants import Variants
    from tvm_dnnfusion.cost.learned import learned_cost, with_threads
    from tvm_dnnfusion.measuring.asked import Asked
    from tvm_dnnfusion.measuring.campaign import Campaign
    from tvm_dnnfusion.schedules.dispatch import VERSION

    fallback = learned_cost(with_threads(device, threads))

    def new_cost() -> Asked:
        variants = Variants(device, *winograd)
        return Asked(db, device, threads, str(VERSION), variants, fallback)

    try:
        with Progress(output) as progress:
            measure = [m.measure for m in meters]
            return Campaign(db, graphs, new_cost, measure, progress, every).run()
    finally:
        for meter in meters:
            meter.close()


class Progress:
    """Blocks done of those known so far with the time left: a line now and then, or in place."""

    def __init__(self, output: Output) -> None:
        self._output, self._said = output, 0.0
        self._live = output.notes.is_terminal and not output.as_json

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live and self._said:
            self._output.notes.print()

    def __call__(self, status: Status) -> None:
        """Say where the run stands, unless it was said a moment ago."""
        last = status.done == status.total
        every = 0.2 if self._live else SAY_EVERY_S
        if self._output.as_json or (time.monotonic() - self._said < every and not last):
            return
        self._said = time.monotonic()
        left = "" if status.left_s is None or last else f", {_duration(status.left_s)} left"
        failed = f", {status.failed} failed" if status.failed else ""
        text = f"planning {status.round}: {status.done} of {status.total} blocks{failed}{left}"
        self._output.notes.print(
            text.ljust(70) if self._live else text, end="\r" if self._live else "\n"
        )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _place(address: str, tracker: str | None, key: str | None) -> Any:
    """The address of the device. Raises AddressError, or UsageError for half an address."""
    from tvm_dnnfusion.devices.sessions import parse

    if (tracker is None) != (key is None):
        raise click.UsageError("--rpc-tracker and --rpc-key go together")
    if tracker is None:
        return parse(address)
    if address != "local":
        raise click.UsageError("--device and --rpc-tracker exclude each other")
    return parse(f"tracker://{tracker}/{key}")


def _places(place: Any, count: int | None) -> int:
    """How many devices to use. Raises UnreachableError where the tracker has none free."""
    from tvm_dnnfusion.devices.sessions import UnreachableError, tracker

    if place.kind != "tracker":
        if count not in (None, 1):
            raise click.UsageError(
                f"--devices {count}: {place} is one device; give a tracker's key"
            )
        return 1
    found = {s.key: s for s in tracker.summary(place.host, place.port)}.get(place.key)
    if found is None or not found.devices:
        raise UnreachableError(f"{place}: the tracker has no device under that key")
    return min(count or found.free or 1, found.devices)


def _device(target: dict[str, object], place: Any, anew: bool, phases: Phases) -> DeviceSpec:
    """The device to compile for; this machine's figures are measured first where they are not."""
    import tvm

    from tvm_dnnfusion.devices import figures, registry
    from tvm_dnnfusion.pipeline import device_for

    device = device_for(tvm.target.Target(target))
    here = registry.host()
    if place.kind != "local" or device.name != here.name:
        return device
    if anew or figures.load(here.name, here.cores) is None:
        from tvm_dnnfusion.measuring.machine import machine_figures

        phases("machine")
        figures.save(here.name, machine_figures())
        registry.host.cache_clear()
    return device_for(tvm.target.Target(target))


def _name(model: str, taken: dict[str, Any]) -> str:
    """A model's name in the database: its file's, or its path where another one has that name."""
    stem = Path(model).stem
    return model if stem in taken else stem


def _graph(model: str, shapes: Shapes | None, params: Path | None) -> Any:
    from tvm_dnnfusion.cli.build import load_model
    from tvm_dnnfusion.frontend.relax import from_relax
    from tvm_dnnfusion.measuring.asked import without_weights
    from tvm_dnnfusion.rewrite import RewriteOptions, rewrite

    graph = from_relax(load_model(model, shapes, params)).graph
    return without_weights(rewrite(graph, RewriteOptions()).graph)


def _emit(
    output: Output, report: Report, path: Path, models: Sequence[tuple[str, int, int]], places: int
) -> None:
    data = {
        "database": str(path), "measured": report.measured, "known": report.known,
        "failed": dict(report.failed), "rounds": report.rounds, "seconds": report.seconds,
        "devices": places, "models": {m: {"measured": a, "asked": b} for m, a, b in models},
    }  # fmt: skip
    rows = [(m, count_text(a), count_text(b)) for m, a, b in models]
    text = (
        f"{count_text(report.measured)} blocks measured in {_duration(report.seconds)}, "
        f"{count_text(report.known)} were known; they are in {path}"
    )
    failed = [f"not measured ({reason})" for reason in dict.fromkeys(report.failed.values())]
    shown = table("Blocks that planning asks for", ("model", "measured", "of"), rows, right=(1, 2))
    output.emit(data, shown, text, *failed)
