"""The part of `dnnfusion db status` about tuning: how complete the records are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tvm_dnnfusion import settings
from tvm_dnnfusion.profile.trials import FILE_NAME, Progress, TuningDB
from tvm_dnnfusion.report.format import count_text
from tvm_dnnfusion.report.table import TableData, table

FULL = 32
"""Trials after which a block counts as searched: what the genetic search takes to settle."""


def tuning_status(path: Path | None = None) -> tuple[dict[str, Any], TableData]:
    """Figures of the tuning records (default: the cache's), and their table by device."""
    file = path or settings.read().cache / FILE_NAME
    with TuningDB(file, read_only=True) as db:
        found = db.progress()
    groups: dict[tuple[str, int, str, str], list[Progress]] = {}
    for p in found:
        s = p.subject
        groups.setdefault((s.device, s.threads, s.schedule, s.unit), []).append(p)
    data = {
        "path": str(file),
        "blocks": len(found),
        "trials": sum(p.trials for p in found),
        "groups": [_group(key, rows) for key, rows in groups.items()],
    }
    rows = [_row(key, rows) for key, rows in groups.items()]
    columns = ("device", "threads", "schedules", "unit", "blocks", "searched", "better", "trials",
               "failed")  # fmt: skip
    return data, table(f"Tuning records in {file}", columns, rows, right=(1, 4, 5, 6, 7, 8))


def _group(key: tuple[str, int, str, str], rows: list[Progress]) -> dict[str, Any]:
    device, threads, schedule, unit = key
    return {
        "device": device,
        "threads": threads,
        "schedule": schedule,
        "unit": unit,
        "blocks": len(rows),
        "searched": sum(p.trials >= FULL for p in rows),
        "better": sum(_is_better(p) for p in rows),
        "trials": sum(p.trials for p in rows),
        "failed": sum(p.failed for p in rows),
    }


def _is_better(p: Progress) -> bool:
    """Whether some trial beats the template's own choice."""
    return p.own is not None and p.best is not None and p.best < p.own


def _row(key: tuple[str, int, str, str], rows: list[Progress]) -> tuple[str, ...]:
    data = _group(key, rows)
    text = (str(data[name]) for name in ("device", "threads", "schedule", "unit"))
    counts = (count_text(data[n]) for n in ("blocks", "searched", "better", "trials", "failed"))
    return (*text, *counts)
