"""The last word on what tuning found: the model itself, untuned and tuned, in turns.

A candidate that is timed alone finds its weights and its inputs where its last run left them; in
the model other kernels have been there meanwhile. So each block whose parameters changed is timed
again inside the model, beside its template's own choice, and one that is slower there gives way to
the next best, or to the template. Then the whole models are timed: where the tuned one is not
faster, nothing that was found is kept. That is why tuning does not end worse than it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeVar

from tvm_dnnfusion.profile.trials import OWN
from tvm_dnnfusion.tuning.tuner import State, Tuner

T = TypeVar("T")

SLOWER = "slower in the model"
"""The message of trials that lost there; their cost is then that of the template's own choice."""
ROUNDS = 3
"""How many bests of a block are looked at in the model."""
TURNS = 5
"""How often each side is profiled and timed; the fastest profile and the median latency count."""


@dataclass(frozen=True)
class Side:
    """A compiled model on the device that tunes.

    `kernel_of` names the kernel of each block; `profile` gives microseconds per kernel and run,
    nothing where the device cannot tell; `latency` gives those of the whole model.
    """

    kernel_of: Mapping[str, str]
    profile: Callable[[], Mapping[str, float]]
    latency: Callable[[], float]


Compile = Callable[[bool], AbstractContextManager[Side]]
"""Compiles the model, with the records (True) or without, and loads it."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Latency of the model in microseconds, untuned and as a compile makes it now; the blocks
    whose finds were slower in the model."""

    untuned_us: float
    tuned_us: float
    rejected: tuple[str, ...]


def settle(tuner: Tuner, made: Compile) -> Settled:
    """Keep of what was found only what is faster in the model."""
    rejected: dict[str, None] = {}
    with made(False) as plain:
        for left in reversed(range(ROUNDS)):
            with made(True) as tuned:
                slow = _slower(_changed(tuner), plain, tuned)
                if not slow:
                    return _whole(tuner, plain, tuned, tuple(rejected))
            for state in slow:
                _reject(tuner, state, whole=left == 0)
                rejected[state.task.name] = None
        with made(True) as tuned:
            return _whole(tuner, plain, tuned, tuple(rejected))


def _changed(tuner: Tuner) -> list[State]:
    """The blocks for which a compile takes something else than the template's own choice."""
    found = ((state, tuner.db.best(state.task.subject.key)) for state in tuner.states)
    return [state for state, best in found if best is not None and best.search != OWN]


def _reject(tuner: Tuner, state: State, whole: bool) -> None:
    """Put the best of a block, or all that looked better, behind the template's own choice."""
    key, own = state.task.subject.key, state.own
    better = (
        t for t in tuner.db.trials(key)
        if own is not None and t.cost is not None and t.cost <= own and t.search != OWN
    )  # fmt: skip
    ranked = sorted(better, key=lambda t: t.cost or 0.0)
    for trial in ranked if whole else ranked[:1]:
        tuner.db.put(replace(trial, cost=own, message=SLOWER))
    best = tuner.db.best(key)
    state.best = best.cost if best is not None else None


def _slower(changed: Sequence[State], plain: Side, tuned: Side) -> list[State]:
    """The blocks that their template's own choice is faster for, in the model."""
    if not changed:
        return []
    mine, theirs = _in_turns(plain.profile, tuned.profile)
    before, after = (
        {name: min(one[name] for one in passes if name in one) for name in set().union(*passes)}
        for passes in (mine, theirs)
    )
    return [
        state
        for state in changed
        if _time(state, tuned.kernel_of, after) > _time(state, plain.kernel_of, before)
    ]


def _time(state: State, kernel_of: Mapping[str, str], times: Mapping[str, float]) -> float:
    """All blocks of a state together; 0 where the profile does not show them."""
    kernels = {kernel_of[block] for block in state.task.blocks if block in kernel_of}
    return sum(times.get(kernel, 0.0) for kernel in kernels)


def _whole(tuner: Tuner, plain: Side, tuned: Side, rejected: tuple[str, ...]) -> Settled:
    changed = _changed(tuner)
    before, after = (median(times) for times in _in_turns(plain.latency, tuned.latency))
    if changed and after < before:
        return Settled(before, after, rejected)
    for state in changed:
        _reject(tuner, state, whole=True)
    names = (state.task.name for state in changed)
    return Settled(before, before, tuple(dict.fromkeys((*rejected, *names))))


def _in_turns(one: Callable[[], T], other: Callable[[], T]) -> tuple[list[T], list[T]]:
    pairs = [(one(), other()) for _ in range(TURNS)]
    return [a for a, _ in pairs], [b for _, b in pairs]
