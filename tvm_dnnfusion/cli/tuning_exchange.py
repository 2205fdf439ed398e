"""`dnnfusion db export-metaschedule` and `import-metaschedule`: tuning records out and in."""

from __future__ import annotations

from pathlib import Path

import click

from tvm_dnnfusion import settings
from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.profile.trials import FILE_NAME, TuningDB
from tvm_dnnfusion.report.format import count_text

tuning_records = click.option(
    "--tuning-records",
    "records",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Tuning records. Default: tuning.sqlite in the cache folder.",
)


def records_file(records: Path | None) -> Path:
    """The file that an option names, else that of the cache folder."""
    return records or settings.read().cache / FILE_NAME


@click.command("export-metaschedule")
@click.argument("folder", type=click.Path(path_type=Path))
@tuning_records
@options.common
def export_command(folder: Path, records: Path | None, as_json: bool) -> None:
    """Write the traces among the tuning records to FOLDER as MetaSchedule's JSON database."""
    from tvm_dnnfusion.tuning.exchange import export_metaschedule

    with TuningDB(records_file(records), read_only=True) as db:
        count = export_metaschedule(db, folder)
    text = f"{count_text(count)} traces written to {folder}"
    Output(as_json).emit({"folder": str(folder), "trials": count}, text)


@click.command("import-metaschedule")
@click.argument("folder", type=click.Path(path_type=Path))
@tuning_records
@options.common
def import_command(folder: Path, records: Path | None, as_json: bool) -> None:
    """Add the records of MetaSchedule's JSON database in FOLDER to the tuning records."""
    from tvm_dnnfusion.tuning.exchange import import_metaschedule

    with TuningDB(records_file(records)) as db:
        found = import_metaschedule(db, folder)
    data = {"trials": found.trials, "functions": found.workloads, "known": found.known}
    text = (
        f"{count_text(found.trials)} records of {count_text(found.workloads)} functions, "
        f"{count_text(found.known)} of which are blocks that were tuned here"
    )
    Output(as_json).emit(data, text)
