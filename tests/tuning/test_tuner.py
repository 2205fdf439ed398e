"""The tuner: own choices first, the budget by shares, no trial twice, never worse than untuned."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tvm
import tvm_ffi

from tests.helpers import DEVICE
from tests.tuning.models import Counting, small, tasks
from tvm_dnnfusion.api import compile as compile_model
from tvm_dnnfusion.codegen.form import workload_of
from tvm_dnnfusion.codegen.params import ATTR, ParamsError
from tvm_dnnfusion.devices.spec import with_sums
from tvm_dnnfusion.frontend import load
from tvm_dnnfusion.pipeline import Options, fuse, tuned_by
from tvm_dnnfusion.profile.store import ProfileFileError
from tvm_dnnfusion.profile.trials import CONFIRMED, KEPT, LOST, OWN, Trial, TuningDB
from tvm_dnnfusion.tuning.factory import proposer
from tvm_dnnfusion.tuning.runner import Outcome
from tvm_dnnfusion.tuning.tasks import tasks_of
from tvm_dnnfusion.tuning.tuner import Tuner


@pytest.fixture
def db(tmp_path):
    with TuningDB(tmp_path / "t.sqlite") as made:
        yield made


def tuner(db, runner, watch=lambda states, state: None):
    return Tuner(tasks(), db, runner, proposer("genetic"), watch)


def test_own_choices_first_and_the_budget_by_shares(db):
    order = []
    made = tuner(db, Counting(), lambda states, s: order.append(s.task.name))
    made.run(24)
    assert made.trials == 24 and sum(len(db.trials(t.subject.key)) for t in tasks()) == 24
    assert len(set(order[:4])) == 4, "each block's own choice before anything else"
    costs = {s.task.name: s.cost for s in made.states if not s.done}
    most = max(made.states, key=lambda s: s.trials)
    assert most.trials >= 24 / 4 and costs[most.task.name] >= 0.5 * max(costs.values())
    for state in made.states:
        (own,) = (t for t in db.trials(state.task.subject.key) if t.search == OWN)
        assert own.params == "{}" and db.best(state.task.subject.key).cost <= own.cost


def test_a_second_run_goes_on_and_repeats_nothing(db):
    first, second = Counting(), Counting()
    tuner(db, first).run(10)
    again = tuner(db, second)
    assert again.trials == 10
    again.run(16)
    assert again.trials == 16
    rows = [t.params for s in again.states for t in db.trials(s.task.subject.key)]
    assert len(rows) == 16
    third = Counting()
    tuner(db, third).run(16)
    assert third.measured == [], "what was confirmed is not timed again"


def test_failures_count_and_never_win(db):
    runner = Counting(fails=lambda text: ATTR in text)
    made = tuner(db, runner)
    made.run(20)
    failed = [t for s in made.states for t in db.trials(s.task.subject.key) if t.cost is None]
    assert failed and all(t.message == "it was told to fail" for t in failed)
    assert made.trials == 20


class Lucky(Counting):
    """Everything but a block's own choice is fast when timed for the first time only."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def measure(self, func):
        code = workload_of(func).script(show_meta=False)
        again, outcome = code in self.seen, super().measure(func)
        self.seen.add(code)
        lucky = ATTR in (func.attrs or {}) and not again
        return Outcome(1.0 if lucky else 100.0, 0.0, 7) if outcome.cost else outcome


def test_a_lucky_timing_does_not_win(db):
    made = tuner(db, Lucky())
    made.run(6)
    for state in made.states:
        best = db.best(state.task.subject.key)
        assert best.search == OWN or best.message == CONFIRMED
        assert best.cost == 100.0


def test_a_loser_does_not_come_back_when_the_own_choice_gets_slower(db):
    made = tuner(db, Lucky())
    made.run(6)
    lost = [t for s in made.states for t in db.trials(s.task.subject.key) if t.message == LOST]
    assert lost
    for trial in lost:
        (own,) = (t for t in db.trials(trial.key) if t.search == OWN)
        db.put(replace(own, cost=1000.0))
        assert db.best(trial.key).params != trial.params


def test_an_own_choice_that_failed_once_is_tried_again(db):
    made = tuner(db, Counting(fails=lambda text: True))
    made.run(10)
    assert made.trials == 4 and [why for _, why in made.unmeasured()] == ["it was told to fail"] * 4
    again = tuner(db, Counting())
    again.run(10)
    assert again.trials == 10 and again.unmeasured() == []


class Busy(Counting):
    """A template's own choice takes 100, anything else 150; every timing but some is disturbed.

    A candidate's first timing is short (that is how it came to be the best), and the first look at
    a template's own beside it is disturbed most.
    """

    def __init__(self):
        super().__init__()
        self.seen = {}

    def measure(self, func):
        super().measure(func)
        code = workload_of(func).script(show_meta=False)
        times = self.seen[code] = self.seen.get(code, 0) + 1
        if ATTR in (func.attrs or {}):
            return Outcome(50.0 if times == 1 else 150.0, 0.0, 7)
        return Outcome(400.0 if times == 2 else 100.0, 0.0, 7)


def test_what_disturbs_one_look_decides_nothing(db):
    made = tuner(db, Busy())
    made.run(6)
    bests = [db.best(state.task.subject.key) for state in made.states]
    assert any(s.trials > 1 for s in made.states)
    assert all(b.search == OWN and b.cost == 100.0 for b in bests)


def test_a_compile_takes_the_best_by_itself(db, tmp_path):
    subject = next(t for t in tasks() if len(t.blocks) == 2).subject
    db.begin(subject)
    mod = load(small(), None)
    options = partial(Options, device=DEVICE)
    plain = fuse(mod, options())
    nothing = fuse(mod, options(tuned=tuned_by(db, DEVICE)))
    assert tvm_ffi.structural_equal(plain.lowered.module, nothing.lowered.module)
    db.put(Trial(subject.key, '{"tile":[1,7,1]}', "genetic", 1.0, 0.0, 7, KEPT, "1", "0"))
    tuned = fuse(mod, options(tuned=tuned_by(tmp_path / "t.sqlite", DEVICE)))
    given = {
        gv.name_hint: str(f.attrs[ATTR])
        for gv, f in tuned.module.functions.items()
        if isinstance(f, tvm.tirx.PrimFunc) and ATTR in f.attrs
    }
    assert given == {"b001_conv2d_relu": '{"tile":[1,7,1]}'}, "one kernel serves both blocks"


def test_records_of_wide_sums_are_of_another_block(db):
    wide = with_sums(DEVICE, "float32")
    mod = load(small(), None)
    both = [tasks_of(fuse(mod, Options(device=device))) for device in (DEVICE, wide)]
    keys = [{task.subject.key for task in made} for made in both]
    assert not keys[0] & keys[1] and all("sums" not in task.signature for task in both[0])
    assert {task.subject.device for made in both for task in made} == {DEVICE.name}
    for task, tile in ((both[0][0], "[1,2,1]"), (both[1][0], "[1,1,1]")):
        db.put(Trial(task.subject.key, f'{{"tile":{tile}}}', OWN, 1.0, 0.0, 7, "", "1", "0"))
        found = tuned_by(db, task.device)(task.form, task.graph)
        assert found == f'{{"tile":{tile}}}'


def test_records_that_are_not_the_blocks_own_are_refused(db):
    subject = next(t for t in tasks() if len(t.blocks) == 2).subject
    db.put(Trial(subject.key, '{"tile":[1,5,9]}', "genetic", 1.0, 0.0, 7, KEPT, "1", "0"))
    with pytest.raises(ParamsError, match="tuning record of b001"):
        fuse(load(small(), None), Options(device=DEVICE, tuned=tuned_by(db, DEVICE)))
    with pytest.raises(ProfileFileError, match="there are no tuning records at"):
        compile_model(small(), tuning_records="/nowhere/t.sqlite")


def test_a_tuned_model_computes_the_same(db, tmp_path):
    runner = Counting()
    Tuner(tasks(), db, runner, proposer("genetic")).run(16)
    mod = load(small(), None)
    x = np.random.default_rng(1).normal(size=(1, 16, 14, 14)).astype("float32")
    found = []
    for tuned in (None, tuned_by(db, DEVICE)):
        module = fuse(mod, Options(device=DEVICE, tuned=tuned)).module
        target = tvm.target.Target({"kind": "llvm", "num-cores": 2})
        machine = tvm.relax.VirtualMachine(tvm.compile(module, target), tvm.cpu())
        found.append(machine["main"](tvm.runtime.tensor(x)).numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)
