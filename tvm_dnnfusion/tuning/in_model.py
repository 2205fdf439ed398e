"""The last word on what tuning found: the model itself, as before and with the finds, in turns.

A candidate that is timed alone finds its weights and its inputs where its last run left them; in
the model other kernels have been there meanwhile. So each block with a find is timed again inside
the model, beside what a compile took for it before, and one that is slower there gives way to the
next best, or to what was taken before. Then the whole models are timed: where the one with the
finds is slower, none of them is kept. A compile takes only what was kept, so that tuning does not
end worse than it starts, however it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeVar

from tvm_dnnfusion.profile.trials import IMPORTED, KEPT, OWN, SLOWER, Trial
from tvm_dnnfusion.tuning.tuner import State, Tuner

T = TypeVar("T")

ROUNDS = 3
"""How many finds of a block are looked at in the model."""
TURNS = 5
"""How often each side is profiled and timed; the fastest profile and the median latency count."""
NOISE = 0.01
"""By how much the whole model must be slower to be called so: two runs of one model differ by as
much, and each find was faster by itself and not slower in the model."""


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
"""Compiles the model and loads it: with finds that were not compared yet (True), or without."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Latency of the model in microseconds as a compile made it before, and as it does now; the
    blocks whose finds are taken from now on, and those whose finds were slower in the model."""

    before_us: float
    after_us: float
    kept: tuple[str, ...]
    slower: tuple[str, ...]


def settle(tuner: Tuner, made: Compile) -> Settled | None:
    """Keep of what was found only what is faster in the model; None where nothing new was found.

    Interrupted, it leaves what was found as it was: not compared, and not taken.
    """
    if not _finds(tuner):
        return None
    slower: dict[str, None] = {}
    with made(False) as before:
        for left in reversed(range(ROUNDS)):
            with made(True) as after:
                slow = _slower(_finds(tuner), before, after)
                if not slow:
                    return _whole(tuner, before, after, slower)
            slower |= dict.fromkeys(_reject(tuner, state, whole=left == 0) for state in slow)
        with made(True) as after:
            return _whole(tuner, before, after, slower)


def _finds(tuner: Tuner) -> list[tuple[State, Trial]]:
    """The blocks with a find, and the best of each."""
    found = ((state, _find(tuner, state)) for state in tuner.states)
    return [(state, best) for state, best in found if best is not None]


def _find(tuner: Tuner, state: State) -> Trial | None:
    """What a compile would take instead of what it takes now, were it compared."""
    best = tuner.db.best(state.task.subject.key)
    if best is None or best.search in (OWN, IMPORTED) or best.message == KEPT:
        return None
    return best


def _reject(tuner: Tuner, state: State, whole: bool) -> str:
    """Note that the best find of a block was slower, or all of its finds; the block's name."""
    while (find := _find(tuner, state)) is not None:
        tuner.db.put(replace(find, message=SLOWER))
        if not whole:
            break
    taken = tuner.db.taken(state.task.subject.key)
    state.best = taken.cost if taken is not None else None
    return state.task.name


def _slower(finds: Sequence[tuple[State, Trial]], before: Side, after: Side) -> list[State]:
    """The blocks that are slower in the model with their finds."""
    if not finds:
        return []
    old, new = (_fastest(passes) for passes in _in_turns(before.profile, after.profile))
    return [
        state
        for state, _ in finds
        if _time(state, after.kernel_of, new) > _time(state, before.kernel_of, old)
    ]


def _fastest(passes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {name for one in passes for name in one}
    return {name: min(one[name] for one in passes if name in one) for name in names}


def _time(state: State, kernel_of: Mapping[str, str], times: Mapping[str, float]) -> float:
    """All blocks of a state together; 0 where the profile does not show them."""
    kernels = {kernel_of[block] for block in state.task.blocks if block in kernel_of}
    return sum(times.get(kernel, 0.0) for kernel in kernels)


def _whole(tuner: Tuner, before: Side, after: Side, slower: dict[str, None]) -> Settled:
    """Keep the finds that are left, unless the whole model is slower with them."""
    finds = _finds(tuner)
    old, new = (median(times) for times in _in_turns(before.latency, after.latency))
    if not finds or new > (1 + NOISE) * old:
        lost = [_reject(tuner, state, whole=True) for state, _ in finds]
        return Settled(old, old, (), tuple(dict.fromkeys((*slower, *lost))))
    for state, best in finds:
        tuner.db.put(replace(best, message=KEPT))
        state.best = best.cost
    names = tuple(state.task.name for state, _ in finds)
    return Settled(old, new, names, tuple(name for name in slower if name not in names))


def _in_turns(one: Callable[[], T], other: Callable[[], T]) -> tuple[list[T], list[T]]:
    pairs = [(one(), other()) for _ in range(TURNS)]
    return [a for a, _ in pairs], [b for _, b in pairs]
