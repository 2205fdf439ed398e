"""What was found is kept only where it is faster in the model; nothing where the model is not."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.tuning.models import Counting, small, tasks
from tvm_dnnfusion.api import compile as compile_model
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.devices.sessions import Session
from tvm_dnnfusion.profile.trials import OWN, TuningDB
from tvm_dnnfusion.runtime import random_inputs
from tvm_dnnfusion.runtime.module import Module
from tvm_dnnfusion.runtime.signature import signature_of
from tvm_dnnfusion.tuning import sides
from tvm_dnnfusion.tuning.factory import proposer
from tvm_dnnfusion.tuning.in_model import ROUNDS, SLOWER, Side, settle
from tvm_dnnfusion.tuning.tuner import Tuner

KERNEL_OF = {name: f"kernel_{i}" for i, task in enumerate(tasks()) for name in task.blocks}


@dataclass
class Model:
    """Kernels cost 10 us with their own choice, otherwise `tuned` of their task, or 9."""

    db: TuningDB
    tuned: dict[int, float] = field(default_factory=dict)
    whole: float | None = None
    compiled: int = 0
    by_params: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def made(self, tuned: bool) -> Generator[Side]:
        self.compiled += tuned
        costs = {f"kernel_{i}": self._cost(i, tuned) for i in range(len(tasks()))}
        total = self.whole if tuned and self.whole is not None else sum(costs.values())
        yield Side(KERNEL_OF, lambda: costs, lambda: total)

    def _cost(self, index: int, tuned: bool) -> float:
        best = self.db.best(tasks()[index].subject.key)
        if not tuned or best is None or best.search == OWN:
            return 10.0
        return self.by_params.get(best.params, self.tuned.get(index, 9.0))


@pytest.fixture
def made(tmp_path: Path) -> Generator[Tuner]:
    with TuningDB(tmp_path / "t.sqlite") as db:
        tuner = Tuner(tasks(), db, Counting(), proposer("genetic"))
        tuner.run(40)
        yield tuner


def changed(tuner: Tuner) -> list[int]:
    """Tasks for which a compile takes a record."""
    bests = [tuner.db.best(state.task.subject.key) for state in tuner.states]
    return [i for i, best in enumerate(bests) if best is not None and best.search != OWN]


def test_what_is_faster_in_the_model_is_kept(made: Tuner) -> None:
    before = changed(made)
    assert len(before) >= 2
    model = Model(made.db)
    found = settle(made, model.made)
    assert changed(made) == before and found.rejected == () and model.compiled == 1
    assert found.untuned_us - found.tuned_us == len(before)


def test_a_block_that_is_slower_in_the_model_gives_way_to_the_next_best(made: Tuner) -> None:
    first, *rest = changed(made)
    state = made.states[first]
    best = made.db.best(state.task.subject.key)
    assert best is not None
    found = settle(made, Model(made.db, by_params={best.params: 11.0}).made)
    assert found.rejected == (state.task.name,)
    (lost,) = (t for t in made.db.trials(state.task.subject.key) if t.params == best.params)
    assert lost.message == SLOWER and lost.cost == state.own
    now = made.db.best(state.task.subject.key)
    assert now is not None and now.params != best.params and state.best == now.cost
    assert set(rest) <= set(changed(made))


def test_a_block_that_loses_every_time_keeps_its_own_choice(made: Tuner) -> None:
    first, *rest = changed(made)
    model = Model(made.db, {first: 11.0})
    settle(made, model.made)
    assert changed(made) == rest and model.compiled <= ROUNDS + 1
    assert made.states[first].best == made.states[first].own


def test_nothing_is_kept_where_the_whole_model_is_not_faster(made: Tuner) -> None:
    names = {made.states[i].task.name for i in changed(made)}
    found = settle(made, Model(made.db, whole=40.0).made)
    assert changed(made) == [] and set(found.rejected) == names
    assert found.tuned_us == found.untuned_us == 40.0


def test_what_was_slower_twice_is_named_once(made: Tuner) -> None:
    names = {made.states[i].task.name for i in changed(made)}
    first = changed(made)[0]
    best = made.db.best(made.states[first].task.subject.key)
    assert best is not None
    found = settle(made, Model(made.db, by_params={best.params: 11.0}, whole=40.0).made)
    assert sorted(found.rejected) == sorted(names)


def test_a_device_without_times_of_kernels_decides_by_the_whole(made: Tuner) -> None:
    before = changed(made)

    @contextmanager
    def side(tuned: bool) -> Generator[Side]:
        yield Side({}, dict, lambda: 1.0 if tuned else 2.0)

    found = settle(made, side)
    assert changed(made) == before and (found.untuned_us, found.tuned_us) == (2.0, 1.0)


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
