"""Where the zoo's files are, and how they come there: whole or not at all."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
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


def is_complete(name: str) -> bool:
    """Whether a model's file and its outputs in double precision are there."""
    return path(name).is_file() and path(name).with_suffix(".npz").is_file()


def load(name: str) -> onnx.ModelProto:
    """The model, built first where its file is missing."""
    file = path(name)
    if not file.is_file():
        build(name)
    model = onnx.load(file)
    model.graph.name = f"zoo/{name}"
    return model


def reference(name: str) -> tuple[np.ndarray, ...]:
    """Outputs in double precision for the catalog's inputs; empty where they were not kept."""
    file = path(name).with_suffix(".npz")
    if not file.is_file():
        return ()
    with np.load(file) as found:
        return tuple(found[output] for output in ZOO[name].outputs)


def build(name: str) -> Path:
    """Build a model with random weights and write its file.

    Raises
    ------
    MissingLibrary
        Where torch or another library is missing.
    """
    file = path(name)
    model, exact = make(ZOO[name])
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{name}.{os.getpid()}.npz")
    try:
        np.savez(part, **dict(zip(ZOO[name].outputs, exact)))
        save(model, file)
        part.replace(file.with_suffix(".npz"))
    finally:
        part.unlink(missing_ok=True)
    return file


def make(entry: Entry) -> tuple[onnx.ModelProto, list[np.ndarray]]:
    """Build a model in memory; with it its outputs in double precision."""
    try:
        import torch

        from benchmarks.zoo.export import export

        module = settled(entry)
    except ImportError as error:
        raise MissingLibrary(f"{entry.name}: {error}; {NEEDS}") from error
    feed = [torch.from_numpy(array) for array in inputs(entry.name).values()]
    model = export(module, feed, [item.name for item in entry.inputs], entry.outputs)
    with torch.no_grad():
        found = module.double()(*(x.double() if x.is_floating_point() else x for x in feed))
    parts = found if isinstance(found, tuple) else (found,)
    return model, [part.numpy() for part in parts]


def settled(entry: Entry) -> Any:
    """The torch module of a row with its random weights."""
    import torch

    from benchmarks.zoo.settle import settle

    file, function = entry.maker.split(":")
    module = getattr(importlib.import_module(f"benchmarks.zoo.{file}"), function)()
    samples = [inputs(entry.name, seed) for seed in range(SAMPLES)]
    names = [item.name for item in entry.inputs]
    return settle(
        module, [torch.cat([torch.from_numpy(s[name]) for s in samples]) for name in names]
    )
