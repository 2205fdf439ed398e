"""The end of `dnnfusion tune`: what was found is compared with the templates' own in the model."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_dnnfusion.cli.build import Build, Shapes, module_of
from tvm_dnnfusion.cli.progress import Phases

if TYPE_CHECKING:
    from tvm_dnnfusion.api import Compiled
    from tvm_dnnfusion.devices.sessions import Session
    from tvm_dnnfusion.tuning.in_model import Settled, Side
    from tvm_dnnfusion.tuning.tuner import Tuner


def settled(
    tuner: Tuner, build: Build, model: str, shapes: Shapes | None, records: Path, phases: Phases
) -> Settled | None:
    """Keep what is faster in the model; None where instructions are counted, which add up."""
    from tvm_dnnfusion.profile.trials import TIME
    from tvm_dnnfusion.tuning.in_model import settle

    if tuner.runner.unit != TIME:
        return None

    @contextmanager
    def made(tuned: bool) -> Generator[Side]:
        chosen = replace(build, tuning_records=str(records) if tuned else "none")
        session = getattr(tuner.runner, "session", None)
        threads = build.threads if session is None else None
        compiled = replace(chosen, threads=threads).compile(model, shapes, phases)
        phases("compare in the model")
        with _side(compiled, build, session) as side:
            yield side

    return settle(tuner, made)


def _side(compiled: Compiled, build: Build, session: Session | None) -> Any:
    """The compiled model where it is timed, with random inputs."""
    from tvm_dnnfusion.runtime import random_inputs
    from tvm_dnnfusion.tuning import sides

    module, kernel_of = module_of(compiled, build.threads), compiled.fused.lowered.kernel_of
    inputs = random_inputs(module.signature, 0)
    if session is None:
        return sides.here(module, kernel_of, inputs, build.threads)
    return sides.there(module, kernel_of, inputs, build.target, session)
