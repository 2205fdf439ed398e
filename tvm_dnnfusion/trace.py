"""What the library says while it works, by DNNFUSION_DEBUG (see `settings.py`).

1: each step with its time and size; 2: also every rewriting step and every edge that was not fused,
with its reason; 3: also the modules after rewriting, lowering and scheduling. On stderr.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tvm_dnnfusion.planners.plan import Plan
from tvm_dnnfusion.rewrite import RewriteResult
from tvm_dnnfusion.settings import Debug, read


@dataclass
class Trace:
    """Prints what the level asks for; costs nothing below it."""

    level: Debug = field(default_factory=lambda: read().debug)
    since: float = field(default_factory=time.perf_counter)

    def say(self, level: Debug, text: Callable[[], str]) -> None:
        """Print a line; the text is only made when it is shown."""
        if self.level >= level:
            print(f"dnnfusion: {text()}", file=sys.stderr)

    def step(self, name: str, text: Callable[[], str]) -> None:
        """A step that has just ended."""
        now = time.perf_counter()
        took, self.since = now - self.since, now
        self.say(Debug.STEPS, lambda: f"{name} ({took * 1e3:.1f} ms): {text()}")

    def rewriting(self, result: RewriteResult) -> None:
        """Every rewriting step, in order."""
        for s in result.report.steps:
            self._decision(f"{s.rule}: {s.flops_before} -> {s.flops_after} FLOPs")

    def plan(self, plan: Plan) -> None:
        """Every edge that was not fused, and why."""
        for d in plan.decisions:
            if not d.fused:
                numbers = "".join(f", {k} = {v:g}" for k, v in d.numbers)
                self._decision(
                    f"{d.producer} | {d.consumer}: {d.reason.name}{numbers} ({d.source})"
                )

    def module(self, after: str, module: Any) -> None:
        """The IR after a step."""
        self.say(Debug.IR, lambda: f"after {after}:\n{module.script(show_meta=False)}")

    def _decision(self, text: str) -> None:
        self.say(Debug.DECISIONS, lambda: f"  {text}")
