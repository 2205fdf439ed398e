"""Who proposes the next candidate of a block: searches over its template, or MetaSchedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tvm_dnnfusion.codegen.form import TRACE, recorded
from tvm_dnnfusion.codegen.params import ParamsError
from tvm_dnnfusion.codegen.stages import NotLowerable
from tvm_dnnfusion.schedules.dispatch import schedule_kernel
from tvm_dnnfusion.tuning.genetic import Search
from tvm_dnnfusion.tuning.space import Genes, Space, explore
from tvm_dnnfusion.tuning.tasks import Task

REPEATS = 64
"""Points in a row that are no new kernel, after which a block's space counts as searched."""


@dataclass(frozen=True)
class Proposal:
    """A candidate: `text` is what its record will hold, `digest` is the same for equal code."""

    text: str
    func: Any
    digest: int


class Proposer(Protocol):
    """Proposes candidates of one block."""

    name: str

    def propose(self) -> Proposal | None:
        """The next candidate, which may be one that was measured; None where there are no more."""
        ...

    def tell(self, proposal: Proposal, cost: float | None) -> None:
        """What the candidate proposed last cost; None where it failed."""
        ...


Make = Callable[[Task, "dict[str, float | None]"], Proposer]
"""Makes the proposer of a block from what was tried: costs (None: failed) by record."""


class TemplateProposer:
    """A search over the parameters of a block's template."""

    def __init__(
        self,
        task: Task,
        tried: dict[str, float | None],
        make: Callable[[Space, int], Search],
        seed: int = 0,
    ) -> None:
        self._task, self._space = task, explore(task)
        self._search = make(self._space, seed)
        self._asked: Genes = self._space.origin
        self.name = self._search.name
        for text, cost in tried.items():
            params, trace = recorded(text)
            genes = self._space.genes(params) if trace is None else None
            if genes is not None:
                self._search.tell(genes, cost)

    def propose(self) -> Proposal | None:
        """The next point that fits the block."""
        for _ in range(REPEATS):
            self._asked = self._search.ask()
            try:
                made = self._task.candidate(self._space.params(self._asked))
            except (ParamsError, NotLowerable):
                self._search.tell(self._asked, None)
                continue
            return Proposal(made.params.text(), made.func, made.digest)
        return None

    def tell(self, proposal: Proposal, cost: float | None) -> None:
        """Hand the cost to the search."""
        self._search.tell(self._asked, cost)


def function_of(task: Task, text: str) -> Any:
    """The scheduled function of a block under a record: parameters, or a trace.

    Raises ParamsError or TraceError for a record that does not fit.
    """
    params, trace = recorded(text)
    if trace is None:
        return task.candidate(params).func
    return schedule_kernel(task.kernel.with_attr(TRACE, trace), task.device)
