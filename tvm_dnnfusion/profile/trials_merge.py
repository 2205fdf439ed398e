"""Tuning records of another machine, or of another file, added to these."""

from __future__ import annotations

from pathlib import Path

from tvm_dnnfusion.profile.exchange import MergeReport
from tvm_dnnfusion.profile.store import ProfileError, ProfileFileError
from tvm_dnnfusion.profile.trials import Trial, TuningDB


def holds_trials(path: Path) -> bool:
    """Whether a file is one of tuning records."""
    try:
        TuningDB(path, read_only=True).close()
    except ProfileError:
        return False
    return path.is_file()


def merge_trials(db: TuningDB, source: Path) -> MergeReport:
    """Add the trials of another file, all of them or none; of two of the same candidate the newer
    is kept.

    What a model decided there counts here too: records are of one kind of device and of one
    version of the schedules, which their keys tell.

    Raises ProfileFileError for a file that cannot be read, or is this one.
    """
    if source.resolve() == db.path.resolve():
        raise ProfileFileError(f"{source} cannot be merged with itself")
    with TuningDB(source, read_only=True) as other:
        subjects, workloads = other.subjects(), other.workloads()
        incoming = [t for s in subjects for t in other.trials(s.key)]
    known = {(t.key, t.params): t for s in subjects for t in db.trials(s.key)}
    fresh: list[Trial] = []
    added = kept = 0
    for trial in incoming:
        there = known.get((trial.key, trial.params))
        added += there is None
        if there is None or there.when < trial.when:
            fresh.append(trial)
        else:
            kept += 1
    for digest, (module, target) in workloads.items():
        db.keep_workload(digest, module, target)
    db.put_all(subjects, fresh)
    return MergeReport(added, len(fresh) - added, kept)
