"""Runs cases in worker processes: a case that crashes or hangs ends its worker, not the run.

The parent must not have loaded TVM, since workers are forked from it with the collected cases.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from tests.nodes.cases import PIPELINES, Outcome, Result, run_case

CASE_SECONDS = 60.0
"""A case that takes longer hangs: the slowest that passes takes a few seconds."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    name: str = ""
    deadline: float = 0.0


def run_all(
    cases: dict[str, Any], names: list[str], pipeline: str, jobs: int = 2, machine: str = "cpu"
) -> Iterator[tuple[str, Result]]:
    """Results in the order in which they come, one for each name."""
    if "tvm" in sys.modules:
        raise RuntimeError("TVM's threads do not survive a fork: run this in a fresh process")
    waiting = list(reversed(names))
    busy: list[_Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                busy.append(_start(cases, pipeline, machine))
                _give(busy[-1], waiting.pop())
            wait([w.pipe for w in busy], timeout=1.0)
            for worker in list(busy):
                result = _result(worker)
                if result is None:
                    continue
                yield worker.name, result
                if waiting and result.outcome not in (Outcome.CRASH, Outcome.TIMEOUT):
                    _give(worker, waiting.pop())
                else:
                    _stop(worker)
                    busy.remove(worker)
    finally:
        for worker in busy:
            _stop(worker)


def _start(cases: dict[str, Any], pipeline: str, machine: str) -> _Worker:
    context = mp.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(cases, pipeline, machine, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _give(worker: _Worker, name: str) -> None:
    worker.name, worker.deadline = name, time.monotonic() + CASE_SECONDS
    worker.pipe.send(name)


def _result(worker: _Worker) -> Result | None:
    """What the worker has to say, None while it is at it."""
    if worker.pipe.poll():
        try:
            return worker.pipe.recv()
        except EOFError:
            worker.process.join()
            return Result(Outcome.CRASH, f"the process ended with {worker.process.exitcode}")
    if time.monotonic() > worker.deadline:
        return Result(Outcome.TIMEOUT, f"no result in {CASE_SECONDS:.0f} s")
    return None


def _stop(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.kill()
    worker.process.join()


def _work(cases: dict[str, Any], pipeline: str, machine: str, pipe: Connection) -> None:
    """Body of a worker: names in, results out, until the pipe closes."""
    os.environ["TVM_NUM_THREADS"] = "1"
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        pipe.send(run_case(cases[name], PIPELINES[pipeline], machine))
