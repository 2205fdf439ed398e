"""`dnnfusion verify`: outputs against the unfused module and ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.build import Build, Shapes, load_model, module_of
from tvm_dnnfusion.cli.exits import Exit
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.cli.subject import Inputs, filling, open_library
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
    Exits with 1 where an output differs by more than the tolerance.
    """
    from tvm_dnnfusion.frontend.relax import from_relax
    from tvm_dnnfusion.runtime import reduction_length

    if library is not None and (bisect or build.planned):
        raise click.UsageError("--library verifies a library as it is: no --bisect, no planning")
    output = Output(as_json)
    given = Inputs(inputs_file, fill_mode, seed)
    found: Bisection | None = None
    with Phases(output.notes) as phases:
        compiled: Compiled | None = None
        if library is None:
            compiled = build.compile(model, input_shapes, phases)
            original, module = compiled.original, module_of(compiled, build.threads)
        else:
            module = open_library(library, phases)
            phases("import")
            original = load_model(model, input_shapes, build.params)
        phases("verify")
        inputs = given.make(module.signature)
        request = Request(model, inputs, against, rtol, atol, build.threads)
        length = reduction_length(from_relax(original).graph)
        results = verify_all(module, original, build.target, length, request, output)
        if bisect and compiled is not None:
            phases("bisect")
            found = bisect_compiled(compiled, request)
    passed = bool(results) and all(v.ok for v in results)
    parts: list[TableData | str] = [verification_table(results)]
    if found is not None:
        parts += _bisection(found)
    output.emit(
        {
            "model": model,
            "passed": passed,
            "verification": verification_data(results),
            "bisection": None if found is None else _bisection_data(found),
        },
        *parts,
    )
    return Exit.OK if passed else Exit.VERIFICATION_FAILED


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
