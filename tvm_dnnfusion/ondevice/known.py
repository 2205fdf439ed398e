"""What tuning and profiling found for the device of a bench: part of what decides its results."""

from __future__ import annotations

from pathlib import Path

from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ondevice.records import key_of
from tvm_dnnfusion.profile.database import ProfileDB
from tvm_dnnfusion.profile.store import ProfileFileError
from tvm_dnnfusion.profile.trials import TuningDB
from tvm_dnnfusion.schedules.dispatch import VERSION


def opened(records: TuningDB | Path | None) -> TuningDB | None:
    """Tuning records, open to be read. Raises ProfileFileError where there are none."""
    if records is None or isinstance(records, TuningDB):
        return records
    if not records.exists():
        raise ProfileFileError(f"there are no tuning records at {records}")
    return TuningDB(records, read_only=True)


def known(
    device: DeviceSpec, records: TuningDB | None, database: ProfileDB | None
) -> dict[str, str]:
    """Digests of what a compile for the device takes from them; nothing where that is nothing.

    Rows of other devices are never taken, so they may come and go between two runs of a bench.
    """
    tuned = [
        (subject.key, trial.params)
        for subject in (records.subjects() if records is not None else ())
        if (subject.device, subject.schedule) == (device.name, str(VERSION))
        and (trial := records.taken(subject.key)) is not None  # type: ignore[union-attr]
    ]
    measured = [
        (entry.key, entry.latency_us)
        for entry in (database.entries() if database is not None else ())
        if entry.device == device.name
    ]
    found = {"tuning records": tuned, "profile database": measured}
    return {name: key_of({name: rows}) for name, rows in found.items() if rows}
