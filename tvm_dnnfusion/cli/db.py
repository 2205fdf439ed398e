"""`dnnfusion db`: the profile database, its rows out and in."""

from __future__ import annotations

from pathlib import Path

import click

from tvm_dnnfusion import settings
from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.cli.tuning_exchange import export_command, import_command
from tvm_dnnfusion.cli.tuning_status import tuning_status
from tvm_dnnfusion.profile.database import FILE_NAME, ProfileDB
from tvm_dnnfusion.report.format import bytes_text, count_text
from tvm_dnnfusion.report.table import table


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
@options.common
def status(database: Path | None, as_json: bool) -> None:
    """How many measurements there are, of which devices and schedule versions; tuning records."""
    with _open(database, read_only=True) as db:
        found = db.status()
    data = {
        "path": str(found.path),
        "rows": found.rows,
        "file_bytes": found.file_bytes,
        "devices": dict(found.devices),
        "schedules": dict(found.schedules),
        "newest": found.newest,
        "set_aside": [str(p) for p in found.set_aside],
    }
    rows = [
        ("file", str(found.path)),
        ("measurements", count_text(found.rows)),
        ("size", bytes_text(found.file_bytes)),
        ("newest", found.newest or "-"),
        *((f"device {name}", count_text(n)) for name, n in found.devices),
        *((f"schedules {name}", count_text(n)) for name, n in found.schedules),
        *(("damaged, set aside", str(p)) for p in found.set_aside),
    ]
    data["tuning"], tuned = tuning_status()
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
@options.common
def merge_rows(sources: tuple[Path, ...], database: Path | None, as_json: bool) -> None:
    """Add the measurements of SOURCES: exported files, or other databases.

    Of two measurements of the same thing the newer is kept. A source with an invalid row changes
    nothing.
    """
    from tvm_dnnfusion.profile.exchange import merge

    with _open(database) as db:
        reports = [(str(source), merge(db, source)) for source in sources]
    data = [
        {"source": s, "added": r.added, "replaced": r.replaced, "kept": r.kept} for s, r in reports
    ]
    rows = [(s, *(count_text(n) for n in (r.added, r.replaced, r.kept))) for s, r in reports]
    columns = ("source", "added", "replaced", "kept as newer")
    Output(as_json).emit(data, table("Merged", columns, rows, right=(1, 2, 3)))


command.add_command(export_command)
command.add_command(import_command)
