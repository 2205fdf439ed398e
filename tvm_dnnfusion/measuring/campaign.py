"""Filling the database: everything that the planning of some models asks for, on some devices.

Jobs go to the devices from one queue, a thread each; each row is committed when it is measured. A
run that is stopped at any moment, even by SIGKILL, is resumed by running it again: what is in the
database is not measured again. Blocks that many models ask for are measured once.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tvm_dnnfusion import __version__
from tvm_dnnfusion.devices.sessions import UnreachableError
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.measuring.asked import Asked, ask
from tvm_dnnfusion.measuring.meter import Job
from tvm_dnnfusion.profile.database import ProfileDB, utc_now
from tvm_dnnfusion.profile.records import Entry, Measurement

MAX_ROUNDS = 12
"""Plannings of a model, each with the answers to the one before; models settle in two or three."""
POLL_S = 0.2

Measure = Callable[[Job], Measurement]
Told = Callable[["Status"], None]


@dataclass(frozen=True, slots=True)
class Status:
    """Where a run stands: jobs done of those known so far, seconds left for these (None: unknown),
    failed ones, and which planning of the models this is, from 1."""

    done: int
    total: int
    left_s: float | None
    failed: int
    round: int


@dataclass
class Report:
    """What a run did. `failed` holds the jobs that could not be measured, with the reason."""

    measured: int = 0
    known: int = 0
    rounds: int = 0
    seconds: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)


class Campaign:
    """Measures what models ask for.

    Parameters
    ----------
    db : where rows are looked up and kept.
    graphs : the rewritten graph of each model, by name.
    new_cost : makes a cost that notes what it is asked (see `asked.Asked`).
    meters : one per device: functions that measure a job.
    tell : called after each job, and when a round begins.
    every : see `asked.ask`.
    """

    def __init__(
        self,
        db: ProfileDB,
        graphs: Mapping[str, Graph],
        new_cost: Callable[[], Asked],
        meters: Sequence[Measure],
        tell: Told | None = None,
        every: bool = False,
    ) -> None:
        self.db, self.graphs, self.new_cost = db, graphs, new_cost
        self.meters, self.every = tuple(meters), every
        self.tell = tell or (lambda status: None)
        self.report = Report()
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._done = self._total = 0

    def run(self) -> Report:
        """Plan and measure until no planning asks for more.

        Raises UnreachableError where all devices are lost; what was measured is kept.
        """
        self._began = time.monotonic()
        for number in range(1, MAX_ROUNDS + 1):
            self.report.rounds = number
            jobs = [j for j in self._missing() if j.key not in self.report.failed]
            if not jobs:
                break
            self._total += len(jobs)
            self._say(number)
            self._measure_all(jobs, number)
        self.report.seconds = time.monotonic() - self._began
        return self.report

    def _missing(self) -> list[Job]:
        """What the models ask for and the database lacks, each once, in the order of asking."""
        found: dict[str, Job] = {}
        known: dict[str, None] = {}
        for name, graph in self.graphs.items():
            cost = self.new_cost()
            ask(graph, cost, self.every)
            self.db.ask(name, cost.keys)
            found.update(cost.missing)
            known.update((key, None) for key in cost.keys if key not in cost.missing)
        if self.report.rounds == 1:
            self.report.known = len(known)
        return list(found.values())

    def _measure_all(self, jobs: Sequence[Job], number: int) -> None:
        """Every job on whichever device is free; returns when all are done or no device is left."""
        waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(job)
        stop = threading.Event()
        lost: list[BaseException] = []
        threads = [
            threading.Thread(target=self._work, args=(m, waiting, stop, lost, number), daemon=True)
            for m in self.meters
        ]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(POLL_S)
        except BaseException:
            stop.set()
            raise
        if not waiting.empty() and lost:
            raise lost[0]

    def _work(
        self, measure: Measure, waiting: queue.SimpleQueue[Job], stop: threading.Event,
        lost: list[BaseException], number: int,
    ) -> None:  # fmt: skip
        while not stop.is_set():
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._keep(job, measure(job))
            except UnreachableError as error:  # this device is gone; the others take over
                waiting.put(job)
                lost.append(error)
                return
            except Exception as error:  # one block that cannot be built or run must not end all
                self._fail(job, error)
            with self._lock:
                self._done += 1
                self._say(number)

    def _keep(self, job: Job, found: Measurement) -> None:
        self.db.put(
            Entry(
                key=job.key,
                block=job.block,
                device=job.device,
                threads=job.threads,
                schedule=job.schedule,
                latency_us=found.median_us,
                spread=found.spread,
                samples=found.samples,
                when=utc_now(),
                library=__version__,
            )
        )
        with self._lock:
            self.report.measured += 1

    def _fail(self, job: Job, error: Exception) -> None:
        lines = str(error).strip().splitlines()
        with self._lock:
            self.report.failed[job.key] = lines[-1][:200] if lines else type(error).__name__

    def _say(self, number: int) -> None:
        spent = time.monotonic() - self._began
        left = spent / self._done * (self._total - self._done) if self._done else None
        status = Status(self._done, self._total, left, len(self.report.failed), number)
        self.tell(status)
