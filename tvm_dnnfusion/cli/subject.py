"""What `run`, `bench` and `verify` work on: a saved library, or a model that is compiled first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_dnnfusion.cli.build import Build, Shapes, module_of
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.cli.quiet import without_chatter

if TYPE_CHECKING:
    from tvm_dnnfusion.runtime.module import Module
    from tvm_dnnfusion.runtime.signature import Signature

FILL_MODES = ("random", "zeros", "ones")


def is_saved(path: str) -> bool:
    """Whether the path is a saved library rather than a model."""
    return Path(path).is_dir() or Path(path).suffix == ".so"


def open_module(path: str, shapes: Shapes | None, build: Build, phases: Phases) -> Module:
    """The library at the path, or the model there compiled."""
    if not is_saved(path):
        return module_of(build.compile(path, shapes, phases), build.threads)
    check_saved(path, shapes, build)
    from tvm_dnnfusion.runtime import load

    phases("load")
    with without_chatter():
        return load(path)


def check_saved(path: str, shapes: Shapes | None, build: Build) -> None:
    """Refuse options on how to compile for what is compiled already. Raises click.UsageError."""
    given = [name for name, value in (("--input-shapes", shapes), ("--params", build.params),
                                      ("--target", build.target_given),
                                      ("--float16", build.float16),
                                      ("--float16-sums", build.float16_sums),
                                      ("--db", build.database)) if value]  # fmt: skip
    if given or build.planned:
        named = ", ".join(given) or "options on how to compile"
        verb = "does" if len(given) == 1 else "do"
        raise click.UsageError(
            f"{path} is a saved library: {named} {verb} not apply to it; compile the model anew, "
            "or leave them out"
        )


def check_library(path: Path) -> None:
    """Raise click.BadParameter where something else than a saved library is at the path."""
    if not (is_saved(str(path)) or path.name == "artefact.json" or path.name.endswith(".so.json")):
        what = "is not a saved library" if path.exists() else "does not exist"
        raise click.BadParameter(
            f"{path} {what}; give a folder or a .so that `dnnfusion optimize` wrote",
            param_hint="--library",
        )


def open_library(path: Path, phases: Phases) -> Module:
    """The saved library at the path. Raises click.BadParameter where something else is there."""
    from tvm_dnnfusion.runtime import load

    check_library(path)
    phases("load")
    with without_chatter():
        return load(path)


def filling(command: Callable[..., Any]) -> Callable[..., Any]:
    """--inputs, --fill-mode and --seed."""
    command = click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Seed of random inputs.",
    )(command)
    command = click.option(
        "--fill-mode",
        type=click.Choice(FILL_MODES),
        default="random",
        show_default=True,
        help="How inputs are made without --inputs.",
    )(command)
    return click.option(
        "--inputs",
        "inputs_file",
        type=click.Path(path_type=Path),
        metavar="FILE.npz",
        help="Inputs by name.",
    )(command)


class Inputs:
    """Where inputs come from; a file is read at once, so that a bad one costs no compiling.

    Raises InputsError where the file cannot be read.
    """

    def __init__(self, file: Path | None, fill_mode: str, seed: int) -> None:
        from tvm_dnnfusion.runtime import read_arrays

        self._file, self._fill_mode, self._seed = file, fill_mode, seed
        self._given = None if file is None else read_arrays(file)

    def make(self, signature: Signature) -> dict[str, Any]:
        """Inputs of a model, from the file or made. Raises InputsError where they do not fit."""
        import numpy as np

        from tvm_dnnfusion.runtime import fit_inputs, random_inputs

        if self._given is not None and self._file is not None:
            return fit_inputs(self._given, signature, self._file)
        made = random_inputs(signature, self._seed)
        if self._fill_mode == "random":
            return made
        fill = np.zeros_like if self._fill_mode == "zeros" else np.ones_like
        return {name: fill(array) for name, array in made.items()}
