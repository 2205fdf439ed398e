"""Interleaved measurement: in every round each peer has a turn, so that drift hits all alike.

Each round has an order of its own: no one always follows the same one, whose threads may still be
spinning, or whose threads it shares.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.machine import ProcessorTime, share_of_others

if TYPE_CHECKING:
    from benchmarks.peers import Session

MIN_ROUNDS = 3
SLOW_SECONDS = 3.0
"""A peer whose inference takes longer gets a single turn."""

TURN_SECONDS = 0.1
"""A turn repeats the inference for this long: short models need more than one to be read well."""

MAX_PER_TURN = 20
SETTLE_SECONDS = 0.02
"""Pause before a turn: idle workers of the peer before it spin for some milliseconds."""

WARM_SECONDS = 0.05
"""Untimed inferences at the start of a turn, one at the least: for 10 to 20 ms after another peer's
turn the system may still have two workers on one processor (seen as one inference of 15 ms among
others of 0.4)."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Latency of one peer on one model, in milliseconds, over `rounds` turns.

    `median_ms` and `p90_ms` are over the turns, each of which counts with its own median. `others`
    is the share of the machine's processor time that other processes, or other guests of its
    hypervisor, took in these turns; None where the system does not tell.
    """

    median_ms: float
    p90_ms: float
    min_ms: float
    rounds: int
    runs: int
    others: float | None = None


def measure(
    sessions: Mapping[str, Session], rounds: int, seconds: float = 20.0
) -> dict[str, Timing]:
    """Time the sessions in `rounds` interleaved rounds.

    A peer of which `rounds` turns would take longer than `seconds` gets fewer, though never fewer
    than three, spread evenly over the rounds; one of seconds per inference gets one turn.
    """
    first = {name: _warm(session) for name, session in sessions.items()}
    turns = {
        name: min(rounds, max(_least(once), int(seconds / _turn_seconds(once))))
        for name, once in first.items()
    }
    samples: dict[str, list[list[float]]] = {name: [] for name in sessions}
    spent: dict[str, list[ProcessorTime]] = {name: [] for name in sessions}
    order = random.Random(0)
    for index in range(rounds):
        for name in order.sample(list(sessions), len(sessions)):
            if (index + 1) * turns[name] // rounds > index * turns[name] // rounds:
                before = ProcessorTime.now()
                samples[name].append(_turn(sessions[name], first[name]))
                spent[name].append(ProcessorTime.now().since(before))
    return {name: summarize(found, spent[name]) for name, found in samples.items()}


def summarize(samples: list[list[float]], spent: Sequence[ProcessorTime] = ()) -> Timing:
    """Timing of turns, each a list of seconds; `spent`: the processor time of each."""
    medians = [statistics.median(turn) * 1e3 for turn in samples]
    return Timing(
        median_ms=statistics.median(medians),
        p90_ms=float(np.percentile(medians, 90)),
        min_ms=min(min(turn) for turn in samples) * 1e3,
        rounds=len(samples),
        runs=sum(len(turn) for turn in samples),
        others=share_of_others(spent),
    )


def _least(once: float) -> int:
    return 1 if once > SLOW_SECONDS else MIN_ROUNDS


def _warm(session: Session) -> float:
    """Seconds of the second inference, as the first one touches memory for the first time; of the
    first where it takes seconds anyway."""
    first = session.seconds()
    return first if first > SLOW_SECONDS else session.seconds()


def _turn_seconds(once: float) -> float:
    warm = SETTLE_SECONDS + (max(WARM_SECONDS, once) if once <= SLOW_SECONDS else 0.0)
    return warm + once * _repeats(once)


def _repeats(once: float) -> int:
    return max(1, min(MAX_PER_TURN, int(TURN_SECONDS / once)))


def _turn(session: Session, once: float) -> list[float]:
    """Untimed inferences, one at the least, to bring caches and threads back; then the timed ones.

    A peer whose inference takes seconds has its single turn without.
    """
    time.sleep(SETTLE_SECONDS)
    end = time.perf_counter() + WARM_SECONDS
    while once <= SLOW_SECONDS:
        session.run()
        if time.perf_counter() >= end:
            break
    return [session.seconds() for _ in range(_repeats(once))]
