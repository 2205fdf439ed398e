"""What was found is taken only where it is faster in the model; nothing where that is slower."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.tuning.models import Counting, small, tasks
from tvm_dnnfusion.api import compile as compile_model
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.devices.sessions import Session
from tvm_dnnfusion.profile.trials import CONFIRMED, KEPT, OWN, SLOWER, Trial, TuningDB
from tvm_dnnfusion.runtime import random_inputs
from tvm_dnnfusion.runtime.module import Module
from tvm_dnnfusion.runtime.signature import signature_of
from tvm_dnnfusion.tuning import sides
from tvm_dnnfusion.tuning.factory import proposer
from tvm_dnnfusion.tuning.in_model import ROUNDS, Side, settle
from tvm_dnnfusion.tuning.tuner import Tuner

KERNEL_OF = {name: f"kernel_{i}" for i, task in enumerate(tasks()) for name in task.blocks}


@dataclass
class Model:
    """Kernels take 10 us with their own choice, with a record `cost` of task and parameters, or 9.

    The whole takes `whole` with finds, or the sum of the kernels.
    """

    tuner: Tuner
    cost: Callable[[int, str], float | None] = lambda index, params: None
    whole: float | None = None
    compiled: list[bool] = field(default_factory=list)

    @contextmanager
    def made(self, finds: bool) -> Generator[Side]:
        self.compiled.append(finds)
        with TuningDB(self.tuner.db.path, read_only=True, finds=finds) as db:
            costs = {f"kernel_{i}": self._cost(i, db) for i in range(len(tasks()))}
        total = self.whole if finds and self.whole is not None else sum(costs.values())
        yield Side(KERNEL_OF, lambda: costs, lambda: total)

    def _cost(self, index: int, db: TuningDB) -> float:
        taken = db.taken(tasks()[index].subject.key)
        if taken is None or taken.search == OWN:
            return 10.0
        return self.cost(index, taken.params) or 9.0


@pytest.fixture
def made(tmp_path: Path) -> Generator[Tuner]:
    with TuningDB(tmp_path / "t.sqlite") as db:
        tuner = Tuner(tasks(), db, Counting(), proposer("genetic"))
        tuner.run(40)
        yield tuner


def records(tuner: Tuner, finds: bool = False) -> list[int]:
    """Tasks for which a compile takes a record; with `finds` those for which there is a find."""
    ask = tuner.db.best if finds else tuner.db.taken
    found = [ask(state.task.subject.key) for state in tuner.states]
    return [i for i, trial in enumerate(found) if trial is not None and trial.search != OWN]


def names(tuner: Tuner, indices: Iterable[int]) -> set[str]:
    return {tuner.states[i].task.name for i in indices}


def best_of(tuner: Tuner, index: int) -> Trial:
    found = tuner.db.best(tuner.states[index].task.subject.key)
    assert found is not None
    return found


def test_nothing_is_taken_before_it_was_compared(made: Tuner) -> None:
    assert len(records(made, finds=True)) >= 2 and records(made) == []


def test_what_is_faster_in_the_model_is_kept(made: Tuner) -> None:
    finds, model = records(made, finds=True), Model(made)
    found = settle(made, model.made)
    assert found is not None
    assert records(made) == finds and found.slower == () and model.compiled == [False, True]
    assert found.before_us - found.after_us == len(finds) and set(found.kept) == names(made, finds)
    assert all(best_of(made, i).message == KEPT for i in finds)


def test_without_new_finds_nothing_is_compared(made: Tuner) -> None:
    settle(made, Model(made).made)
    kept, model = records(made), Model(made, whole=1000.0)
    assert settle(made, model.made) is None and model.compiled == []
    assert records(made) == kept != []


def test_a_find_is_compared_with_what_was_kept_before(made: Tuner) -> None:
    settle(made, Model(made).made)
    first = records(made)[0]
    kept = best_of(made, first)
    made.db.put(replace(kept, params='{"later":1}', cost=0.5, message=CONFIRMED))
    later = Model(made, lambda i, params: 9.5 if "later" in params else None)
    found = settle(made, later.made)
    assert found is not None and found.before_us == 40.0 - len(records(made))
    assert best_of(made, first) == kept, "9.5 is less than the template's 10, and more than 9"
    assert found.slower == (made.states[first].task.name,) and found.kept == ()


def test_a_block_that_is_slower_in_the_model_gives_way_to_the_next_best(made: Tuner) -> None:
    first, *rest = records(made, finds=True)
    lost = best_of(made, first)
    settle(made, Model(made, lambda i, params: 11.0 if params == lost.params else None).made)
    (row,) = (t for t in made.db.trials(lost.key) if t.params == lost.params)
    assert row.message == SLOWER and row.cost == lost.cost, "what was measured stays"
    now = best_of(made, first)
    assert now.params != lost.params and made.states[first].best == now.cost
    assert set(rest) <= set(records(made))


def test_a_block_that_loses_every_time_keeps_its_own_choice(made: Tuner) -> None:
    first, *rest = records(made, finds=True)
    model = Model(made, lambda i, params: 11.0 if i == first else None)
    found = settle(made, model.made)
    assert found is not None and set(found.slower) == names(made, [first])
    assert records(made) == rest and model.compiled.count(True) <= ROUNDS + 1
    assert made.states[first].best == made.states[first].own


def test_nothing_is_kept_where_the_whole_model_is_slower(made: Tuner) -> None:
    finds = records(made, finds=True)
    found = settle(made, Model(made, whole=41.0).made)
    assert found is not None and found.before_us == found.after_us == 40.0
    assert records(made) == [] and set(found.slower) == names(made, finds) and found.kept == ()


def test_noise_of_the_whole_decides_nothing(made: Tuner) -> None:
    finds = records(made, finds=True)
    settle(made, Model(made, whole=40.2).made)
    assert records(made) == finds


def test_what_was_slower_twice_is_named_once(made: Tuner) -> None:
    finds = records(made, finds=True)
    lost = best_of(made, finds[0]).params
    model = Model(made, lambda i, params: 11.0 if params == lost else None, whole=50.0)
    found = settle(made, model.made)
    assert found is not None and sorted(found.slower) == sorted(names(made, finds))


def test_a_device_without_times_of_kernels_decides_by_the_whole(made: Tuner) -> None:
    finds = records(made, finds=True)

    @contextmanager
    def side(new: bool) -> Generator[Side]:
        yield Side({}, dict, lambda: 1.0 if new else 2.0)

    found = settle(made, side)
    assert found is not None and (found.before_us, found.after_us) == (2.0, 1.0)
    assert records(made) == finds


def test_a_comparison_that_is_interrupted_is_made_up_for(made: Tuner) -> None:
    finds = records(made, finds=True)

    @contextmanager
    def broken(new: bool) -> Generator[Side]:
        if new:
            raise KeyboardInterrupt
        yield Side({}, dict, lambda: 1.0)

    with pytest.raises(KeyboardInterrupt):
        settle(made, broken)
    assert records(made) == [], "what was not compared is not taken"
    settle(made, Model(made).made)
    assert records(made) == finds


@pytest.mark.parametrize("session", [False, True])
def test_a_side_knows_the_kernels_of_all_blocks(session: bool) -> None:
    compiled = compile_model(small(), threads=1)
    module = Module(compiled.executable, signature_of(compiled.original), threads=1)
    kernel_of = compiled.fused.lowered.kernel_of
    inputs = random_inputs(module.signature, 0)
    with ExitStack() as stack:
        if session:
            place = stack.enter_context(Session("local", threads=1))
            opening = sides.there(module, kernel_of, inputs, target_dict(host()), place)
        else:
            opening = sides.here(module, kernel_of, inputs, 1)
        side = stack.enter_context(opening)
        times = side.profile()
        assert side.latency() > 0
    assert set(side.kernel_of) == {block.name for block in compiled.plan.blocks}
    assert all(times[kernel] > 0 for kernel in kernel_of.values())
