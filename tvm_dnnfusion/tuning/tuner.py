"""The tuning of a model: a budget of trials over its different blocks, one committed row each.

First every block's own template is measured, which says each block's share of the model's time; the
rest of the budget follows these shares. Trials that the records hold already count and are not
repeated, so an interrupted tuning goes on where it was. In the end a block's best is timed again,
beside the template's own, so that what only looked faster is not kept (`confirm`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import tvm

from tvm_dnnfusion import __version__
from tvm_dnnfusion.codegen.form import recorded, workload_of
from tvm_dnnfusion.codegen.params import DEFAULT
from tvm_dnnfusion.devices.registry import target_dict
from tvm_dnnfusion.profile.database import utc_now
from tvm_dnnfusion.profile.trials import CONFIRMED, INSTRUCTIONS, LOST, OWN, Trial, TuningDB
from tvm_dnnfusion.tuning.proposals import REPEATS, Make, Proposer, function_of
from tvm_dnnfusion.tuning.runner import Outcome, Runner
from tvm_dnnfusion.tuning.tasks import Task

ROUNDS = 3
"""How many bests of a block are timed again, each where the one before it was not confirmed."""
LOOKS = 3
"""How often both are timed then, in turns; the fastest counts: other programs only add time."""
GAIN = 0.01
"""A best that is not this much faster than the template's own when timed again is noise."""


@dataclass
class State:
    """How far one block is."""

    task: Task
    trials: int = 0
    failed: int = 0
    own: float | None = None
    best: float | None = None
    tried: dict[str, float | None] = field(default_factory=dict)
    digests: dict[int, float | None] = field(default_factory=dict)
    proposer: Proposer | None = None
    done: bool = False

    @property
    def cost(self) -> float:
        """What the block costs the model untuned: all its equal blocks together."""
        return (self.own or 0.0) * len(self.task.blocks)

    def take(self, params: str, search: str, cost: float | None) -> None:
        """Count a trial."""
        self.trials += 1
        self.failed += cost is None
        self.tried[params] = cost
        if search == OWN:
            self.own = cost
        if cost is not None and (self.best is None or cost < self.best):
            self.best = cost


Watch = Callable[[Sequence[State], "State | None"], None]
"""Told of all blocks, and of the one that has just had a trial."""


class Tuner:
    """Tunes blocks, each by a proposer of its own.

    Parameters
    ----------
    tasks : the different blocks.
    db : where trials are kept, and found again.
    runner : what measures.
    make : makes who proposes candidates of a block.
    watch : told after every trial.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        db: TuningDB,
        runner: Runner,
        make: Make,
        watch: Watch = lambda states, state: None,
    ) -> None:
        self.db, self.runner, self._make, self._watch = db, runner, make, watch
        self.states = [self._known(task) for task in tasks]

    def _known(self, task: Task) -> State:
        """The state of a block from its records."""
        state = State(task)
        self.db.begin(task.subject)
        for trial in self.db.trials(task.subject.key):
            if trial.search != OWN or trial.cost is not None:  # what failed then may work now
                state.take(trial.params, trial.search, trial.cost)
        return state

    @property
    def trials(self) -> int:
        """Trials of all blocks, those of earlier runs among them."""
        return sum(state.trials for state in self.states)

    def unmeasured(self) -> list[tuple[State, str]]:
        """Blocks whose template's own choice failed, with the reason: they get no more trials."""
        own = [
            (state, trial)
            for state in self.states
            for trial in self.db.trials(state.task.subject.key)
            if trial.search == OWN
        ]
        return [(state, trial.message) for state, trial in own if trial.cost is None]

    def run(self, budget: int) -> None:
        """Make trials until there are so many, then confirm the best ones."""
        self.measure_own(budget)
        while self.trials < budget:
            state = self._next(budget)
            if state is None:
                break
            self.step(state)
        self.confirm()

    def measure_own(self, budget: int) -> None:
        """Measure what the templates choose by themselves, the heaviest blocks first."""
        heavy = sorted(self.states, key=lambda s: -s.task.subject.flops * len(s.task.blocks))
        for state in heavy:
            if DEFAULT.text() not in state.tried and self.trials < budget:
                self._record(state, DEFAULT.text(), OWN, self._run(state, DEFAULT.text()))

    def _next(self, budget: int) -> State | None:
        """The block that is furthest behind its share of the budget."""
        still = [s for s in self.states if not s.done and s.cost > 0]
        total = sum(s.cost for s in still)
        return max(still, key=lambda s: s.cost / total * budget - s.trials, default=None)

    def step(self, state: State) -> bool:
        """One more trial of a block; False where its space has nothing new."""
        if state.proposer is None:
            state.digests[_digest_of_own(state.task)] = state.own
            state.proposer = self._make(state.task, state.tried)
        for _ in range(REPEATS):
            found = state.proposer.propose()
            if found is None:
                break
            if found.text in state.tried or found.digest in state.digests:
                known = state.tried.get(found.text, state.digests.get(found.digest))
                state.proposer.tell(found, known)
                continue
            outcome = self.runner.measure(found.func)
            state.digests[found.digest] = outcome.cost
            self._record(state, found.text, state.proposer.name, outcome)
            state.proposer.tell(found, outcome.cost)
            return True
        state.done = True
        return False

    def _run(self, state: State, text: str) -> Outcome:
        return self.runner.measure(function_of(state.task, text))

    def _record(
        self, state: State, text: str, search: str, outcome: Outcome, again: str = ""
    ) -> None:
        """Keep a trial; `again` says what came of a second look, which is no trial more."""
        message = outcome.message or again
        trial = Trial(
            state.task.subject.key, text, search, outcome.cost, outcome.spread, outcome.samples,
            message, utc_now(), __version__,
        )  # fmt: skip
        if recorded(text)[1] is not None:  # its TIR goes with it, for MetaSchedule's database
            module = tvm.ir.save_json(workload_of(state.task.kernel))
            target = json.dumps(target_dict(state.task.device))
            self.db.keep_workload(state.task.subject.workload, module, target)
        self.db.put(trial)
        if not again:
            state.take(text, search, outcome.cost)
        self._watch(self.states, state)

    def confirm(self) -> None:
        """Time the best of each block again beside the template's own; counts need no second look.

        Where it is not faster then, the next one is looked at, so that a lucky timing does not win.
        """
        if self.runner.unit == INSTRUCTIONS:
            return
        for state in self.states:
            for _ in range(ROUNDS):
                if not self._confirm(state):
                    break
            best = self.db.best(state.task.subject.key)
            state.best = best.cost if best is not None else None

    def _confirm(self, state: State) -> bool:
        """One look at the best of a block; whether another one may be the best now."""
        best = self.db.best(state.task.subject.key)
        if best is None or state.own is None or best.search == OWN or best.message:
            return False
        own = DEFAULT.text()
        looks = [(self._run(state, best.params), self._run(state, own)) for _ in range(LOOKS)]
        again, mine = (_fastest(side) for side in zip(*looks))
        if mine.cost is None:  # the device is at fault, not the candidate
            return False
        self._record(state, own, OWN, mine, CONFIRMED)
        state.own = mine.cost
        faster = again.cost is not None and again.cost < (1 - GAIN) * mine.cost
        self._record(state, best.params, best.search, again, CONFIRMED if faster else LOST)
        return not faster


def _fastest(outcomes: Sequence[Outcome]) -> Outcome:
    """The fastest of several timings of one function, or the first failure among them."""
    failed = next((o for o in outcomes if o.cost is None), None)
    return failed or min(outcomes, key=lambda o: o.cost or 0.0)


def _digest_of_own(task: Task) -> int:
    return task.candidate().digest
