"""The end of `dnnfusion tune`: finds are compared in the model with what was taken before."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tvm_dnnfusion.cli.build import Build, Shapes, module_of
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.devices.sessions.address import LOCAL

if TYPE_CHECKING:
    from tvm_dnnfusion.api import Compiled
    from tvm_dnnfusion.tuning.in_model import Settled, Side
    from tvm_dnnfusion.tuning.tuner import Tuner


def settled(
    tuner: Tuner, build: Build, model: str, shapes: Shapes | None, place: str, output: Output
) -> Settled | None:
    """Keep what is faster in the model, and say what was not.

    None where nothing new was found, and where instructions are counted, which add up.
    """
    from tvm_dnnfusion.profile.trials import TIME
    from tvm_dnnfusion.tuning.in_model import settle

    if tuner.runner.unit != TIME:
        return None
    tuner.runner.close()  # a server serves one session at a time, and models take longer
    with Phases(output.notes) as phases:

        @contextmanager
        def made(finds: bool) -> Generator[Side]:
            chosen = replace(build, tuning_records=str(tuner.db.path), finds=finds)
            threads = build.threads if place == LOCAL else None
            compiled = replace(chosen, threads=threads).compile(model, shapes, phases)
            phases("compare in the model")
            with _side(compiled, build, place) as side:
                yield side

        try:
            found = settle(tuner, made)
        except BaseException:
            with suppress(Exception):
                output.note(
                    f"what was found is in {tuner.db.path}, but was not compared in the model, and "
                    "is not taken before that; the same command does it"
                )
            raise
    if found is not None and found.slower:
        output.note(f"not kept, since slower in the model: {', '.join(found.slower)}")
    return found


@contextmanager
def _side(compiled: Compiled, build: Build, place: str) -> Generator[Side]:
    """The compiled model where it is timed, with random inputs."""
    from tvm_dnnfusion.devices.sessions import Session
    from tvm_dnnfusion.runtime import random_inputs
    from tvm_dnnfusion.tuning import sides

    module, kernel_of = module_of(compiled, build.threads), compiled.fused.lowered.kernel_of
    inputs = random_inputs(module.signature, 0)
    if place == LOCAL:
        with sides.here(module, kernel_of, inputs, build.threads) as side:
            yield side
        return
    with (
        Session(place, threads=build.threads) as session,
        sides.there(module, kernel_of, inputs, build.target, session) as side,
    ):
        yield side
