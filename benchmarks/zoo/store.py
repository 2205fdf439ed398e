"""Where the zoo's files are, and how they come there: whole or not at all."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import onnx

from benchmarks.models import save
from benchmarks.zoo.catalog import ZOO, Entry, inputs

NEEDS = "the zoo's models are built with torch and transformers: pip install '.[bench]'"

SAMPLES = 6
"""Random inputs whose statistics batch normalisation gets: those of one do not suit another."""


class MissingLibrary(RuntimeError):
    """A library that building needs is not installed."""


def folder() -> Path:
    """$DNNFUSION_ZOO, or a folder in the user's cache."""
    given = os.environ.get("DNNFUSION_ZOO")
    return Path(given) if given else Path.home() / ".cache" / "tvm-dnnfusion" / "zoo"


def path(name: str) -> Path:
    """The file of a model, whether it is there or not.

    Raises
    ------
    KeyError
        Where there is no such model.
    """
    if name not in ZOO:
        raise KeyError(f"no model {name!r} in the zoo; there are {', '.join(ZOO)}")
    return folder() / f"{name}.onnx"


def load(name: str) -> onnx.ModelProto:
    """The model, built first where its file is missing."""
    file = path(name)
    if not file.is_file():
        build(name)
    return onnx.load(file)


def build(name: str) -> Path:
    """Build a model with random weights and write its file.

    Raises
    ------
    MissingLibrary
        Where torch or another library is missing.
    """
    file = path(name)
    model = make(ZOO[name])
    file.parent.mkdir(parents=True, exist_ok=True)
    save(model, file)
    return file


def make(entry: Entry) -> onnx.ModelProto:
    """Build a model in memory."""
    try:
        import torch

        from benchmarks.zoo.export import export
        from benchmarks.zoo.settle import settle

        module = torch_module(entry)
    except ImportError as error:
        raise MissingLibrary(f"{entry.name}: {error}; {NEEDS}") from error
    samples = [inputs(entry.name, seed) for seed in range(SAMPLES)]
    names = [item.name for item in entry.inputs]
    settle(module, [torch.cat([torch.from_numpy(s[name]) for s in samples]) for name in names])
    feed = [torch.from_numpy(array) for array in samples[0].values()]
    return export(module, feed, names, entry.outputs)


def torch_module(entry: Entry):
    """The torch module of a row, with torch's own weights."""
    file, function = entry.maker.split(":")
    return getattr(importlib.import_module(f"benchmarks.zoo.{file}"), function)()
