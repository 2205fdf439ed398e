"""MetaSchedule's JSON database, out and in.

Out go the trials that are traces, with the TIR that they are of; parameters of templates have no
form there. In come records of any TIR: those of a block that is known are trials of it, others wait
under the hash of their TIR, by which a compile finds them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import s_tir
from tvm.s_tir import meta_schedule as ms

from tvm_dnnfusion import __version__
from tvm_dnnfusion.codegen.form import BY_WORKLOAD, module_hash, recorded, trace_text
from tvm_dnnfusion.devices.registry import spec_for_target
from tvm_dnnfusion.pipeline import target_fields
from tvm_dnnfusion.profile.database import utc_now
from tvm_dnnfusion.profile.store import ProfileFileError
from tvm_dnnfusion.profile.trials import IMPORTED, TIME, Subject, Trial, TuningDB, subject_key
from tvm_dnnfusion.runtime.files import whole_names
from tvm_dnnfusion.schedules.dispatch import VERSION

WORKLOADS, RECORDS = "database_workload.json", "database_tuning_record.json"
"""The two files of a JSON database in its folder, as TVM's tuning names them."""

FAILED_S = 1e9
"""MetaSchedule writes 1e10 seconds for a candidate that failed."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came in: trials, on how many TIR functions, and how many of these are known blocks."""

    trials: int
    workloads: int
    known: int


def export_metaschedule(db: TuningDB, folder: Path) -> int:
    """Write the trials that are traces as a JSON database into a folder; their number.

    Raises ArtefactError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    kept = db.workloads()
    with whole_names(folder / WORKLOADS, folder / RECORDS) as (workloads, records):
        for path in (workloads, records):
            path.touch()
        out = ms.database.JSONDatabase(
            path_workload=str(workloads), path_tuning_record=str(records)
        )
        for subject in db.subjects():
            if subject.workload in kept:
                count += _export(out, db, subject, *kept[subject.workload])
    return count


def _export(out: Any, db: TuningDB, subject: Subject, module: str, target: str) -> int:
    """Commit the traces of one subject."""
    mod, count = tvm.ir.load_json(module), 0
    info = ms.arg_info.ArgInfo.from_prim_func(mod["main"])
    made = tvm.target.Target(json.loads(target))
    workload = out.commit_workload(mod)
    for trial in db.trials(subject.key):
        _, found = recorded(trial.params)
        if found is None or trial.cost is None or subject.unit != TIME:
            continue
        sch = s_tir.Schedule(mod)
        s_tir.schedule.Trace.apply_json_to_schedule(json.loads(found), sch)
        record = ms.database.TuningRecord(sch.trace, workload, [trial.cost * 1e-6], made, info)
        out.commit_tuning_record(record)
        count += 1
    return count


def import_metaschedule(db: TuningDB, folder: Path) -> Imported:
    """Take the records of a JSON database in: all of them or, where one is no record, none.

    Raises ProfileFileError where the folder holds no such database.
    """
    subjects, trials = {}, []
    known = {(s.workload, s.device, s.threads, s.schedule): s for s in db.subjects()}
    workloads: dict[str, tuple[str, str]] = {}
    for record in _records(folder):
        digest = module_hash(record.workload.mod)
        fields = target_fields(record.target)
        device = spec_for_target(fields)
        place = (digest, device.name, device.cores, str(VERSION))
        subject = known.get(place) or _unknown(*place)
        subjects[subject.key] = subject
        trials.append(_trial(subject, record))
        workloads[digest] = (tvm.ir.save_json(record.workload.mod), json.dumps(fields))
    db.put_all(subjects.values(), trials)
    for digest, (module, target) in workloads.items():
        db.keep_workload(digest, module, target)
    found = sum(not s.form.startswith(BY_WORKLOAD) for s in subjects.values())
    return Imported(len(trials), len(subjects), found)


def _json(workloads: Path, records: Path) -> Any:
    return ms.database.JSONDatabase(path_workload=str(workloads), path_tuning_record=str(records))


def _records(folder: Path) -> list[Any]:
    files = folder / WORKLOADS, folder / RECORDS
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise ProfileFileError(f"{folder} is no JSON database of MetaSchedule: no {missing[0]}")
    try:
        return list(_json(*files).get_all_tuning_records())
    except Exception as error:  # TVM raises whatever its parser meets
        line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ProfileFileError(f"{folder} is no JSON database of MetaSchedule: {line}") from error


def _unknown(digest: str, device: str, threads: int, schedule: str) -> Subject:
    form = BY_WORKLOAD + digest
    key = subject_key(form, device, threads, schedule, TIME)
    return Subject(key, form, device, threads, schedule, TIME, "imported", digest, 0)


def _trial(subject: Subject, record: Any) -> Trial:
    seconds = [float(s) for s in record.run_secs or ()]
    mean = sum(seconds) / len(seconds) if seconds else FAILED_S
    cost = mean * 1e6 if mean < FAILED_S else None
    text = trace_text(record.trace)
    message = "" if cost is not None else "it failed where it was measured"
    return Trial(
        subject.key, text, IMPORTED, cost, 0.0, len(seconds), message, utc_now(), __version__
    )
