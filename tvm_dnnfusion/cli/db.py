"""`dnnfusion db`: the profile database, its rows out and in, and the model trained from them."""

from __future__ import annotations

from pathlib import Path

import click

from tvm_dnnfusion import settings
from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.cli.tuning_exchange import (
    export_command,
    import_command,
    records_file,
    tuning_records,
)
from tvm_dnnfusion.cli.tuning_status import tuning_status
from tvm_dnnfusion.profile.database import FILE_NAME, ProfileDB, ProfileError
from tvm_dnnfusion.profile.trials import TuningDB
from tvm_dnnfusion.report.format import bytes_text, count_text
from tvm_dnnfusion.report.table import TableData, table


@click.group("db")
def command() -> None:
    """The profile database: latencies of blocks that were measured.

    Planning looks here first; rows of one machine serve every model on it.
    """


def _open(path: Path | None, *, read_only: bool = False) -> ProfileDB:
    default = settings.read().cache / FILE_NAME
    return ProfileDB(default if path is None else path, read_only=read_only)


@command.command("status")
@options.database
@tuning_records
@options.common
def status(database: Path | None, records: Path | None, as_json: bool) -> None:
    """How many measurements there are and how complete they are; tuning records."""
    with _open(database, read_only=True) as db:
        found = db.status()
    data = {
        "path": str(found.path),
        "rows": found.rows,
        "file_bytes": found.file_bytes,
        "devices": dict(found.devices),
        "schedules": dict(found.schedules),
        "newest": found.newest,
        "models": {name: {"measured": m, "asked": n} for name, m, n in found.models},
        "set_aside": [str(p) for p in found.set_aside],
    }
    rows = [
        ("file", str(found.path)),
        ("measurements", count_text(found.rows)),
        ("size", bytes_text(found.file_bytes)),
        ("newest", found.newest or "-"),
        *((f"device {name}", count_text(n)) for name, n in found.devices),
        *((f"schedules {name}", count_text(n)) for name, n in found.schedules),
        *((f"model {name}", f"{count_text(m)} of {count_text(n)}") for name, m, n in found.models),
        *(("damaged, set aside", str(p)) for p in found.set_aside),
    ]
    tuned: TableData | str
    try:
        data["tuning"], tuned = tuning_status(records)
    except ProfileError as error:  # the rest is shown all the same
        data["tuning"], tuned = {"error": str(error)}, str(error)
    Output(as_json).emit(data, table("Profile database", ("", ""), rows), tuned)


@command.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@options.database
@options.common
def export_rows(file: Path, database: Path | None, as_json: bool) -> None:
    """Write all measurements to FILE as JSON lines, to keep or to share."""
    from tvm_dnnfusion.profile.exchange import export

    with _open(database, read_only=True) as db:
        rows = export(db, file)
    data = {"file": str(file), "rows": rows}
    Output(as_json).emit(data, f"{count_text(rows)} measurements written to {file}")


@command.command("merge")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.database
@tuning_records
@options.common
def merge_rows(
    sources: tuple[Path, ...], database: Path | None, records: Path | None, as_json: bool
) -> None:
    """Add the measurements of SOURCES: exported files, other databases, or tuning records.

    Of two measurements of the same thing the newer is kept. A source with an invalid row changes
    nothing. Tuning records go to those of --tuning-records, or of the cache folder.
    """
    from tvm_dnnfusion.profile.exchange import MergeReport, merge
    from tvm_dnnfusion.profile.trials_merge import holds_trials, merge_trials

    reports: list[tuple[str, MergeReport]] = []
    for source in sources:
        if holds_trials(source):
            with TuningDB(records_file(records)) as trials:
                reports.append((str(source), merge_trials(trials, source)))
        else:
            with _open(database) as db:
                reports.append((str(source), merge(db, source)))
    data = [
        {"source": s, "added": r.added, "replaced": r.replaced, "kept": r.kept} for s, r in reports
    ]
    rows = [(s, *(count_text(n) for n in (r.added, r.replaced, r.kept))) for s, r in reports]
    columns = ("source", "added", "replaced", "kept as newer")
    Output(as_json).emit(data, table("Merged", columns, rows, right=(1, 2, 3)))


@command.command("train")
@options.target
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE.npz",
    help="Where the model goes. Default: the cache folder, where planning finds it.",
)
@options.database
@options.common
def train_model(
    target: dict[str, object], output: Path | None, database: Path | None, as_json: bool
) -> None:
    """Train the latency model of a device from what was measured on it.

    It answers for blocks that the database does not hold, with its uncertainty. Shown are rank
    correlation and error on each model when all of its blocks are left out of training. Needs the
    extra tune (XGBoost).
    """
    import tvm

    from tvm_dnnfusion.cli.output import check_file_place
    from tvm_dnnfusion.cli.progress import Phases
    from tvm_dnnfusion.cost.learned import train as training
    from tvm_dnnfusion.cost.learned.cost import file_name
    from tvm_dnnfusion.cost.learned.forest import save
    from tvm_dnnfusion.pipeline import device_for
    from tvm_dnnfusion.schedules.dispatch import VERSION

    training.require()
    out = Output(as_json)
    device = device_for(tvm.target.Target(target))
    path = output or settings.read().cache / file_name(device)
    if output is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    check_file_place(path)
    with Phases(out.notes, quiet=as_json) as phases:
        phases("rows")
        with _open(database, read_only=True) as db:
            rows = training.rows_of(db.entries(), db.asked(), device, str(VERSION))
        forest = training.train(rows, device, str(VERSION), phases)
        save(forest, path)
    facts = forest.facts
    cells = [
        (name, count_text(int(f["rows"])), *_score(f), *_score(facts["analytic"][name]))
        for name, f in facts["left_out"].items()
    ]
    columns = ("model left out", "rows", "rank", "median", "90 %", "rank", "median", "90 %")
    title = "Learned, and analytic estimate: rank correlation, factor by which latencies are missed"
    data = {"file": str(path), **{k: v for k, v in facts.items() if k != "features"}}
    shown = table(title, columns, cells, right=range(1, 8))
    versions = ", ".join(f"{v}: {count_text(n)}" for v, n in sorted(rows.versions.items()))
    count = count_text(facts["rows"])
    said = f"{count} rows of {device.name} (by version of the schedules: {versions})"
    out.emit(data, shown, f"{said}; model in {path}")


def _score(figures: dict[str, float]) -> tuple[str, str, str]:
    names = ("rank_correlation", "median_factor", "p90_factor")
    return tuple(f"{figures[n]:.2f}" for n in names)  # type: ignore[return-value]


command.add_command(export_command)
command.add_command(import_command)
