"""`dnnfusion verify`: outputs against the unfused module and ONNX Runtime."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli import place as places
from tvm_dnnfusion.cli.build import Build, Shapes, load_model, module_of
from tvm_dnnfusion.cli.exits import Exit
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.cli.subject import Inputs, check_library, filling, open_library
from tvm_dnnfusion.cli.verification import (
    REFERENCES,
    Request,
    bisect_compiled,
    verification_table,
    verify_all,
)  # fmt: skip
from tvm_dnnfusion.report.bundle import check_text, verification_data
from tvm_dnnfusion.report.table import TableData, table

if TYPE_CHECKING:
    from tvm_dnnfusion.api import Compiled
    from tvm_dnnfusion.runtime.bisect import Bisection


@click.command("verify")
@options.model
@options.building
@places.on_device
@filling
@click.option(
    "--library",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Verify this saved library instead of compiling MODEL anew.",
)
@click.option(
    "--against",
    type=click.Choice(REFERENCES),
    multiple=True,
    help="Reference; may be given twice. Default: all that are installed.",
)
@click.option("--rtol", type=click.FloatRange(min=0), help="Relative tolerance.")
@click.option(
    "--atol",
    type=click.FloatRange(min=0),
    help="Absolute tolerance for values of order one; scaled by the length of sums.",
)
@click.option("--bisect", is_flag=True, help="Find the first block whose results are wrong.")
@options.common
def command(
    model: str,
    input_shapes: Shapes | None,
    build: Build,
    place: places.Place | None,
    inputs_file: Path | None,
    fill_mode: str,
    seed: int,
    library: Path | None,
    against: tuple[str, ...],
    rtol: float | None,
    atol: float | None,
    bisect: bool,
    as_json: bool,
) -> int:
    """Compare what MODEL computes after fusion with what it should.

    MODEL is an ONNX file, a program saved with torch.export.save (.pt2), or a Relay module (JSON).
    Its outputs come from this machine, or from the device that --device, or --rpc-tracker and
    --rpc-key, name; the references run on this machine. Exits with 1 where an output differs by
    more than the tolerance.
    """
    from tvm_dnnfusion.frontend.relax import from_relax
    from tvm_dnnfusion.runtime import reduction_length

    _check(library, place, build, bisect)
    output = Output(as_json)
    given = Inputs(inputs_file, fill_mode, seed)
    found: Bisection | None = None
    with Phases(output.notes) as phases:
        ran = (_here if place is None else _there)(
            model, input_shapes, build, place, library, given, phases
        )
        phases("verify")
        # On another machine's device --threads is the device's.
        threads = build.threads if place is None else None
        request = Request(model, ran.inputs, against, *build.limits(rtol, atol), threads)
        length = reduction_length(from_relax(ran.original).graph)
        results = verify_all(ran.outputs, ran.original, ran.target, length, request, output)
        if bisect and ran.compiled is not None:
            phases("bisect")
            found = bisect_compiled(ran.compiled, request)
    passed = bool(results) and all(v.ok for v in results)
    parts: list[TableData | str] = [verification_table(results)]
    if found is not None:
        parts += _bisection(found)
    output.emit(
        {
            "model": model,
            "device": "local" if place is None else str(place.address),
            "passed": passed,
            "verification": verification_data(results),
            "bisection": None if found is None else _bisection_data(found),
        },
        *parts,
    )
    return Exit.OK if passed else Exit.VERIFICATION_FAILED


@dataclass(frozen=True)
class _Ran:
    """A run of the module in question: the model as imported, what was compiled (None for a saved
    library), inputs, outputs, and the target of the reference."""

    original: Any
    compiled: Compiled | None
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    target: dict[str, object]


def _check(library: Path | None, place: places.Place | None, build: Build, bisect: bool) -> None:
    """Refuse options that have nothing to say. Raises click.UsageError."""
    if library is not None and (bisect or build.planned):
        raise click.UsageError("--library verifies a library as it is: no --bisect, no planning")
    half = "--float16" if build.float16 else "--float16-sums" if build.float16_sums else ""
    if library is not None and half:
        raise click.UsageError(f"--library is compiled: give --rtol and --atol, not {half}")
    if bisect and build.float16:
        raise click.UsageError("--bisect looks for faults, not for roundings: leave out --float16")
    if library is not None and build.database:
        raise click.UsageError("--library verifies a library as it is: --db does not apply")
    if library is not None and place is not None and build.target_given:
        raise click.UsageError("--library is compiled: --target does not apply on a device")
    if bisect and place is not None:
        raise click.UsageError("--bisect works on this machine: leave out the device")


def _here(
    model: str,
    shapes: Shapes | None,
    build: Build,
    _: places.Place | None,
    library: Path | None,
    given: Inputs,
    phases: Phases,
) -> _Ran:
    from tvm_dnnfusion.runtime import run

    compiled: Compiled | None = None
    if library is None:
        places.check_here(build.target)
        compiled = build.compile(model, shapes, phases)
        original, module = compiled.original, module_of(compiled, build.threads)
    else:
        module = open_library(library, phases)
        phases("import")
        original = load_model(model, shapes, build.params)
    phases("run")
    inputs = given.make(module.signature)
    outputs = run(module, inputs, build.threads).outputs
    return _Ran(original, compiled, inputs, outputs, build.target)


def _there(
    model: str,
    shapes: Shapes | None,
    build: Build,
    place: places.Place | None,
    library: Path | None,
    given: Inputs,
    phases: Phases,
) -> _Ran:
    from tvm_dnnfusion.devices import registry

    assert place is not None
    if library is not None:
        check_library(library)
    reference = registry.target_dict(registry.host())
    with place.session(build.threads, phases) as session, ExitStack() as stack:
        if library is None:
            places.check_machine(build, session)
            compiled = places.compile_for(build, model, shapes, phases)
            original = compiled.original
            opening = places.deployed_model(compiled, build, session, phases)
        else:
            phases("import")
            compiled, original = None, load_model(model, shapes, build.params)
            opening = places.deployed_saved(library, session, phases)
        deployed = stack.enter_context(opening)
        phases("run")
        inputs = given.make(deployed.signature)
        outputs = deployed.run(inputs).outputs
    return _Ran(original, compiled, inputs, outputs, reference)


def _bisection(found: Bisection) -> list[TableData | str]:
    if found.wrong is None:
        text = f"Bisection: all {len(found.checked)} blocks agree with single ops."
        return [text + _missing(found)]
    block = found.wrong.block
    rows = [(c.name, "agrees" if c.ok else "WRONG", check_text(c)) for c in found.wrong.tensors]
    text = (
        f"First wrong block: {block.name}, number {len(found.checked)} of the plan; ops "
        f"{', '.join(block.ops)}; layers {', '.join(found.origins) or 'unknown'}."
    )
    title = f"Tensors that leave {block.name}"
    return [text + _missing(found), table(title, ("tensor", "", "difference"), rows)]


def _missing(found: Bisection) -> str:
    return f" Not compared: {', '.join(found.missing)}." if found.missing else ""


def _bisection_data(found: Bisection) -> dict[str, Any]:
    wrong = found.wrong
    return {
        "blocks_checked": len(found.checked),
        "wrong_block": None if wrong is None else wrong.block.name,
        "ops": [] if wrong is None else list(wrong.block.ops),
        "origins": list(found.origins),
        "tensors": []
        if wrong is None
        else [
            {
                "name": c.name,
                "ok": c.ok,
                "max_abs": c.max_abs,
                "max_rel": c.max_rel,
                "reason": c.reason,
            }
            for c in wrong.tensors
        ],
        "missing": list(found.missing),
    }
