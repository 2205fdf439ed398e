"""By name: who proposes, and what measures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tvm_dnnfusion.tuning.bayesian import Bayesian
from tvm_dnnfusion.tuning.genetic import Genetic
from tvm_dnnfusion.tuning.proposals import Make, Proposer, TemplateProposer
from tvm_dnnfusion.tuning.runner import LocalRunner, Runner
from tvm_dnnfusion.tuning.space import Space
from tvm_dnnfusion.tuning.tasks import Task


def proposer(search: str, seed: int = 0) -> Make:
    """Makes proposers: "genetic" or "bayesian" over templates, "metaschedule" over the TIR.

    Raises MissingExtra where the search's library is not installed, ValueError for another name.
    """
    if search == "metaschedule":
        return partial(_metaschedule, seed=seed)
    if search not in _SEARCHES:
        raise ValueError(f"no search {search!r}; there are {', '.join(_SEARCHES)}, metaschedule")
    make = _SEARCHES[search]
    make(Space({}), seed)  # says now what is not installed
    return partial(_template, make=make, seed=seed)


def make_runner(
    address: str, target: Mapping[str, object], threads: int | None, timeout_s: float
) -> Runner:
    """What measures at an address: "local", or one of `devices.sessions`."""
    if address == "local":
        return LocalRunner(target, threads, timeout_s)
    from tvm_dnnfusion.tuning.remote import SessionRunner

    return SessionRunner(address, target, threads, timeout_s)


_SEARCHES = {"genetic": Genetic, "bayesian": Bayesian}


def _template(
    task: Task, tried: dict[str, float | None], *, make: type[Genetic] | type[Bayesian], seed: int
) -> Proposer:
    return TemplateProposer(task, tried, make, seed)


def _metaschedule(task: Task, tried: dict[str, float | None], *, seed: int) -> Proposer:
    from tvm_dnnfusion.tuning.metaschedule import MetaScheduleProposer

    return MetaScheduleProposer(task, tried, seed)
