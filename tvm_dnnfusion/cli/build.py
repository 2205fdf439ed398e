"""From a command's options to a compiled model: loading, planning and building in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_dnnfusion import settings
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.report.summary import GraphSummary, summarise

if TYPE_CHECKING:
    from tvm_dnnfusion.api import Compiled
    from tvm_dnnfusion.pipeline import Fused
    from tvm_dnnfusion.profile.trials import TuningDB
    from tvm_dnnfusion.runtime.module import Module

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Build:
    """What decides how a model is compiled: the options of `cli.options.building`."""

    target: dict[str, object]
    planner: str | None = None
    plan_file: Path | None = None
    no_rewrite: bool = False
    no_reassociate: bool = False
    float16: bool = False
    float16_sums: str | None = None  # None where the option was not given
    params: Path | None = None
    database: Path | None = None
    measure: bool = False
    threads: int | None = None
    winograd: int = 6
    winograd_memory: float = 2.0
    tuning_records: str | None = None
    finds: bool = False  # whether records are taken that were not compared in a model yet
    winograd_given: bool = False  # whether an option says something about Winograd's
    target_given: bool = False

    @property
    def planned(self) -> bool:
        """Whether an option asks for something that only compiling can give."""
        return any(
            (self.planner, self.plan_file, self.no_rewrite, self.no_reassociate, self.measure,
             self.winograd_given, self.tuning_records)
        )  # fmt: skip

    def check(self) -> None:
        """Refuse options that contradict each other."""
        if self.planner is not None and self.plan_file is not None:
            raise click.UsageError("--planner and --plan exclude each other: a plan is planned")
        if self.measure and self.plan_file is not None:
            raise click.UsageError("--measure and --plan exclude each other: nothing is planned")
        if self.measure:
            from tvm_dnnfusion.cli.place import check_cpu

            check_cpu(self.target, "--measure", "`dnnfusion profile` measures its blocks")
        if self.no_rewrite and self.no_reassociate:
            raise click.UsageError("--no-rewrite leaves --no-reassociate nothing to do")
        from tvm_dnnfusion.codegen.winograd_budget import check_growth

        try:
            check_growth(self.winograd_memory)  # which "nan" reaches: it is not below 1
        except ValueError as error:
            raise click.UsageError(str(error)) from error

    def check_sums(self, module: Any, model: str) -> None:
        """Refuse --float16-sums for a module without sums of float16. Raises click.UsageError."""
        if self.float16_sums is None or self.float16:
            return
        from tvm_dnnfusion.passes.half import holds_float16

        if not holds_float16(module):
            raise click.UsageError(
                f"--float16-sums {self.float16_sums}: {model} has nothing in float16; add --float16"
                ", or leave it out"
            )

    def compile(self, model: str, shapes: Shapes | None, phases: Phases) -> Compiled:
        """Compile a model file; `phases` is told where the work stands.

        Raises InputError for a model that cannot be used, PlanFileError for a plan that does not
        fit it, click.UsageError for options that contradict each other.
        """
        import tvm

        from tvm_dnnfusion.api import compile as compile_model
        from tvm_dnnfusion.planners.plan_io import PlanError
        from tvm_dnnfusion.report.plan_file import PlanFileError, read_plan

        self.check()
        plan = None if self.plan_file is None else read_plan(self.plan_file)
        source, params = self._source(model, shapes, phases)
        try:
            return compile_model(
                source,
                tvm.target.Target(self.target),
                shapes=shapes,
                params=params,
                planner=self.planner or "dnnfusion",
                rewrite=self._rewrite(),
                profile=self.profile(),
                measure=self.measure,
                plan=plan,
                threads=self.threads,
                winograd=self.winograd,
                winograd_memory=self.winograd_memory,
                tuning_records=self.records(),
                float16=self.float16,
                float16_sums=self.float16_sums or "float16",
                progress=phases,
            )
        except PlanError as error:
            if self.plan_file is None:
                raise
            raise PlanFileError(
                f"{self.plan_file} does not fit {model}: {error}. Is it the plan of another model, "
                f"or was it made with other rewriting options?"
            ) from error

    def fuse(self, model: str, shapes: Shapes | None, phases: Phases) -> Fused:
        """Import, rewrite, plan, lower and schedule a model file, without records and without
        building it. Raises as `compile` does."""
        import tvm

        from tvm_dnnfusion.codegen.variants import Variants
        from tvm_dnnfusion.devices.spec import with_sums
        from tvm_dnnfusion.passes.dnnfusion import rewrite_options
        from tvm_dnnfusion.passes.half import HalfPass, holds_float16
        from tvm_dnnfusion.pipeline import Options, cost_for, device_for, fuse
        from tvm_dnnfusion.report.plan_file import read_plan

        self.check()
        plan = None if self.plan_file is None else read_plan(self.plan_file)
        device = device_for(tvm.target.Target(self.target))
        half = HalfPass(device, rewrite_options(self._rewrite())) if self.float16 else None
        phases("import")
        original = load_model(model, shapes, self.params)
        self.check_sums(original, model)
        if self.float16 or holds_float16(original):
            device = with_sums(device, self.float16_sums or "float16")
        variants = Variants(device, self.winograd, self.winograd_memory)
        cost = cost_for(self.profile(), device, threads=self.threads, variants=variants)
        options = Options(
            self.planner or "dnnfusion", rewrite_options(self._rewrite()), device, cost, plan,
            "main", self.winograd, self.winograd_memory,
        )  # fmt: skip
        return fuse(half(original) if half is not None else original, options, phases)

    def limits(self, rtol: float | None, atol: float | None) -> tuple[float | None, float | None]:
        """Tolerances to compare with: those given, else float16's where it was asked for, else
        None, which takes those of each output's dtype."""
        if not self.float16:
            return rtol, atol
        from tvm_dnnfusion.runtime.tolerance import tolerance_of

        found = tolerance_of("float16", rtol, atol)
        return found.rtol, found.atol

    def _source(self, model: str, shapes: Shapes | None, phases: Phases) -> tuple[Any, Any]:
        """The model to compile and its parameters: the file, or what was read of it to be checked.

        Raises as `check_sums` and `load_model` do.
        """
        if self.float16_sums is None or self.float16:
            return model, self.params
        phases("import")
        module = load_model(model, shapes, self.params)
        self.check_sums(module, model)
        return module, None

    def _rewrite(self) -> Any:
        if self.no_rewrite or not self.no_reassociate:
            return not self.no_rewrite
        from tvm_dnnfusion.rewrite import RewriteOptions

        return RewriteOptions(reassociate=False)

    def records(self) -> TuningDB | Path | None:
        """The tuning records: those named, else the cache's where there are any."""
        from tvm_dnnfusion.profile.trials import FILE_NAME, TuningDB

        if self.tuning_records == "none":
            return None
        if self.tuning_records is not None:
            path = Path(self.tuning_records)
            return TuningDB(path, read_only=True, finds=True) if self.finds else path
        path = settings.read().cache / FILE_NAME
        return path if path.exists() else None

    def profile(self) -> Any:
        """The profile database: the one named, else the cache's where it is or will be needed."""
        from tvm_dnnfusion.profile.database import FILE_NAME, ProfileDB

        path = self.database or settings.read().cache / FILE_NAME
        wanted = self.database is not None or self.measure or path.exists()
        return ProfileDB(path) if wanted else None


def load_model(
    path: str,
    shapes: Shapes | None,
    params: Path | None = None,
    *,
    allow_symbolic: bool = False,
) -> Any:
    """The Relax module of a model file. Raises InputError, which says what is wrong with it."""
    from tvm_dnnfusion.frontend import load

    return load(path, shapes, params=params, allow_symbolic=allow_symbolic)


def read_graph(
    path: str, shapes: Shapes | None, rewritten: bool, params: Path | None = None
) -> GraphSummary:
    """The graph of a model file, as imported or after rewriting; nothing is built."""
    from tvm_dnnfusion.ecg.metrics import extend
    from tvm_dnnfusion.frontend.relax import from_relax

    graph = from_relax(load_model(path, shapes, params, allow_symbolic=True)).graph
    if not rewritten:
        return summarise(extend(graph))
    from tvm_dnnfusion.rewrite import RewriteOptions, rewrite

    return summarise(extend(rewrite(graph, RewriteOptions()).graph), graph)


def summary_of(compiled: Compiled) -> GraphSummary:
    """The summary of the graph that was planned, with the layers that rewriting removed."""
    from tvm_dnnfusion.ecg.metrics import extend

    return summarise(extend(compiled.graph), compiled.source_graph)


def module_of(compiled: Compiled, threads: int | None) -> Module:
    """The compiled model as what is run, saved and measured."""
    from tvm_dnnfusion.report.bundle import kernel_origins
    from tvm_dnnfusion.runtime import Module, signature_of

    origins = kernel_origins(summary_of(compiled), compiled.plan)
    return Module(compiled.executable, signature_of(compiled.original), "main", origins, threads)
