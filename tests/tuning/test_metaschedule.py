"""MetaSchedule proposes traces of a block; records replay them, its database exchanges them."""

from __future__ import annotations

import json

import pytest

from tests.helpers import DEVICE
from tests.tuning.models import Counting, tasks
from tvm_dnnfusion.codegen.form import BY_WORKLOAD, TRACE
from tvm_dnnfusion.pipeline import tuned_by
from tvm_dnnfusion.profile.store import ProfileFileError
from tvm_dnnfusion.profile.trials import OWN, TuningDB
from tvm_dnnfusion.schedules.dispatch import TraceError, schedule_kernel
from tvm_dnnfusion.tuning.exchange import RECORDS, export_metaschedule, import_metaschedule
from tvm_dnnfusion.tuning.factory import proposer
from tvm_dnnfusion.tuning.proposals import function_of
from tvm_dnnfusion.tuning.tuner import Tuner


@pytest.fixture(scope="module")
def task():
    """The mean and reshape: the smallest block."""
    return next(t for t in tasks() if t.subject.kind == "rows")


@pytest.fixture(scope="module")
def tuned(task, tmp_path_factory):
    """Records of a tuning of one block: its own choice and three traces."""
    pytest.importorskip("xgboost")
    path = tmp_path_factory.mktemp("tuned") / "t.sqlite"
    with TuningDB(path) as db:
        tuner = Tuner([task], db, Counting(), proposer("metaschedule"))
        tuner.run(4)
        assert tuner.trials == 4
    return path


def test_a_search_keeps_traces_that_replay(task, tuned):
    with TuningDB(tuned, read_only=True) as db:
        rows = db.trials(task.subject.key)
        assert {t.search for t in rows} == {OWN, "metaschedule"}
        for trial in rows:
            func = function_of(task, trial.params)
            kind = str(func.attrs["dnnfusion.schedule"])
            assert kind == ("rows" if trial.search == OWN else "trace")
        assert set(db.workloads()) == {task.subject.workload}


def test_a_trace_of_another_block_is_refused(task, tuned):
    other = next(t for t in tasks() if t.subject.kind == "matmul")
    with TuningDB(tuned, read_only=True) as db:
        trial = next(t for t in db.trials(task.subject.key) if t.search != OWN)
    trace = json.dumps(json.loads(trial.params)["trace"])
    with pytest.raises(TraceError, match="is not its own"):
        schedule_kernel(other.kernel.with_attr(TRACE, trace), DEVICE)


def test_the_json_database_out_and_in(task, tuned, tmp_path):
    with TuningDB(tuned, read_only=True) as db:
        assert export_metaschedule(db, tmp_path / "out") == 3
    with TuningDB(tmp_path / "new.sqlite") as db:
        found = import_metaschedule(db, tmp_path / "out")
        assert (found.trials, found.workloads) == (3, 1)
        (subject,) = db.subjects()
        assert subject.form == BY_WORKLOAD + task.subject.workload
        if (subject.device, subject.threads) == (DEVICE.name, DEVICE.cores):
            assert tuned_by(db, DEVICE)(task.form, task.graph) == db.best(subject.key).params
    (tmp_path / "out" / RECORDS).write_text("nonsense\n")
    with TuningDB(tmp_path / "again.sqlite") as db:
        for folder in ("out", "nothing"):
            with pytest.raises(ProfileFileError, match="no JSON database"):
                import_metaschedule(db, tmp_path / folder)
        assert db.subjects() == ()
