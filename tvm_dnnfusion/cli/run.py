"""`dnnfusion run`: outputs of one run, from files or made inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli import place as places
from tvm_dnnfusion.cli.build import Build, Shapes
from tvm_dnnfusion.cli.output import Output, check_file_place
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.cli.subject import Inputs, filling, is_saved, open_module
from tvm_dnnfusion.report.table import table

if TYPE_CHECKING:
    from tvm_dnnfusion.runtime.module import RunResult

SHOWN_VALUES = 4
"""First values of an output that the table shows."""


@click.command("run")
@options.model
@options.building
@places.on_device
@filling
@click.option(
    "--outputs",
    "outputs_file",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Write the outputs to this file, by name.",
)
@click.option(
    "--print-top",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show the N largest values of each output and where they are.",
)
@options.common
def command(
    model: str,
    input_shapes: Shapes | None,
    build: Build,
    place: places.Place | None,
    inputs_file: Path | None,
    fill_mode: str,
    seed: int,
    outputs_file: Path | None,
    print_top: int | None,
    as_json: bool,
) -> None:
    """Run MODEL once.

    MODEL is a folder or library that `optimize` wrote, or a model, which is compiled first. It runs
    on this machine, or on the device that --device, or --rpc-tracker and --rpc-key, name; then
    --target is the device's.
    """
    output = Output(as_json)
    given = Inputs(inputs_file, fill_mode, seed)
    if outputs_file is not None:
        check_file_place(outputs_file)
    with Phases(output.notes) as phases:
        result = _result(model, input_shapes, build, place, given, phases)
        if outputs_file is not None:
            _save(outputs_file, result.outputs)
    tops = {n: _top(a, print_top) for n, a in result.outputs.items()} if print_top else {}
    output.note(f"threads: {result.threads.count} ({result.threads.why})")
    output.emit(
        {
            "model": model,
            "device": "local" if place is None else str(place.address),
            "threads": result.threads.count,
            "outputs": [_data(n, a, tops.get(n)) for n, a in result.outputs.items()],
            "outputs_file": None if outputs_file is None else str(outputs_file),
        },
        table(
            "Outputs",
            ("name", "type", "min", "mean", "max", "first values"),
            [_row(n, a) for n, a in result.outputs.items()],
            right=(2, 3, 4),
        ),
        *(
            table(
                f"Largest values of {n}",
                ("index", "value"),
                [(str(at), f"{v:.6g}") for at, v in top],
                right=(1,),
            )
            for n, top in tops.items()
        ),
    )


def _result(
    model: str,
    shapes: Shapes | None,
    build: Build,
    place: places.Place | None,
    given: Inputs,
    phases: Phases,
) -> RunResult:
    """One run, here or on a device."""
    from tvm_dnnfusion.runtime import run

    if place is not None:
        with places.on(place, model, shapes, build, phases) as deployed:
            inputs = given.make(deployed.signature)
            phases("run")
            return deployed.run(inputs)
    if not is_saved(model):
        places.check_here(build.target)
    module = open_module(model, shapes, build, phases)
    inputs = given.make(module.signature)
    phases("run")
    return run(module, inputs, build.threads)


def _save(path: Path, outputs: dict[str, Any]) -> None:
    import numpy as np

    from tvm_dnnfusion.runtime.files import whole_file

    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **outputs)


def _numbers(array: Any) -> dict[str, float]:
    if not array.size:
        return {}
    wide = array.astype("float64")
    return {"min": float(wide.min()), "mean": float(wide.mean()), "max": float(wide.max())}


def _type(array: Any) -> str:
    return f"{array.dtype} [{', '.join(str(d) for d in array.shape)}]"


def _row(name: str, array: Any) -> tuple[str, ...]:
    numbers = _numbers(array)
    cells = (f"{numbers[key]:.6g}" if numbers else "-" for key in ("min", "mean", "max"))
    first = ", ".join(f"{float(v):.5g}" for v in array.ravel()[:SHOWN_VALUES])
    return name, _type(array), *cells, first


def _top(array: Any, count: int) -> list[tuple[tuple[int, ...], float]]:
    import numpy as np

    order = np.argsort(array, axis=None, kind="stable")[::-1][:count]
    places = zip(*(axis.tolist() for axis in np.unravel_index(order, array.shape)))
    return [(at, float(array[at])) for at in places]


def _data(name: str, array: Any, top: list[tuple[tuple[int, ...], float]] | None) -> dict[str, Any]:
    data = {"name": name, "dtype": str(array.dtype), "shape": list(array.shape), **_numbers(array)}
    if top is not None:
        data["top"] = [{"index": list(at), "value": value} for at, value in top]
    return data
