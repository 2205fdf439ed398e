"""MetaSchedule's builder and runner, on the process that measures our own candidates.

TVM's own ones start processes anew for every round, each of which first parses the tensor
intrinsics of all GPUs (half a minute); here both sides are built, timed and limited alike: by
`tvm_dnnfusion.tuning.runner`. The builder only prepares the code as TVM's does; the runner builds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

from tvm_dnnfusion.tuning.runner import Runner


@derived_object
class Prepare(ms.builder.PyBuilder):
    """Writes the code of each candidate to a folder of its own, which MetaSchedule removes."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def build(self, build_inputs: Sequence[Any]) -> list[Any]:
        """A file for each candidate."""
        return [ms.builder.BuilderResult(self._written(i.mod), None) for i in build_inputs]

    def _written(self, mod: tvm.IRModule) -> str:
        made = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(mod)
        path = Path(tempfile.mkdtemp(dir=self._folder)) / "candidate.json"
        path.write_text(tvm.ir.save_json(made["main"]), encoding="utf-8")
        return str(path)


@derived_object
class Done(ms.runner.PyRunnerFuture):
    """A result that is there already."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self._result = result

    def done(self) -> bool:
        """Always."""
        return True

    def result(self) -> Any:
        """The result."""
        return self._result


@derived_object
class Measure(ms.runner.PyRunner):
    """Builds and times candidates by a runner of ours."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._runner = runner

    def run(self, runner_inputs: Sequence[Any]) -> list[Any]:
        """One after the other; a candidate that fails is a result with a message."""
        return [Done(self._measured(Path(str(i.artifact_path)))) for i in runner_inputs]

    def _measured(self, path: Path) -> Any:
        outcome = self._runner.measure(tvm.ir.load_json(path.read_text(encoding="utf-8")))
        if outcome.cost is None:
            return ms.runner.RunnerResult(None, outcome.message)
        return ms.runner.RunnerResult([outcome.cost * 1e-6], None)
