"""The models that tests, the demo and the benchmarks run on: nine light ones, five built ones.

python -m benchmarks.models squeezenet --output squeezenet.onnx
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from benchmarks.built import BUILT
from benchmarks.light import LIGHT, image, light_path, load_light
from benchmarks.weights import rng

MASKED_TAIL = 8
"""Positions at the end of a sequence that a mask input switches off."""


ZOO_PREFIX = "zoo/"
"""Before the name of a model of the zoo: "zoo/unet" is not the small "unet" of `built.py`."""


def model_names(light: bool = True, built: bool = True, zoo: bool = False) -> tuple[str, ...]:
    """Names of the models, the light ones first."""
    from benchmarks.zoo.catalog import ZOO

    named = tuple(f"{ZOO_PREFIX}{name}" for name in ZOO) if zoo else ()
    return (LIGHT if light else ()) + (tuple(BUILT) if built else ()) + named


def load(name: str) -> onnx.ModelProto:
    """The model `name`, the same on every call.

    Raises
    ------
    KeyError
        Where there is no such model.
    """
    if name in BUILT:
        return BUILT[name]()
    if name.startswith(ZOO_PREFIX):
        from benchmarks.zoo import store

        return store.load(name.removeprefix(ZOO_PREFIX))
    if name in LIGHT:
        return load_light(name)
    raise KeyError(f"no model {name!r}; there are {', '.join(model_names())}")


def inputs(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Random values for each input of the model `name`; its weights are not built for that."""
    if name.startswith(ZOO_PREFIX):
        from benchmarks.zoo.catalog import inputs as zoo_inputs

        return zoo_inputs(name.removeprefix(ZOO_PREFIX), seed)
    return feed_for(onnx.load(light_path(name)) if name in LIGHT else load(name), name, seed)


def feed_for(model: onnx.ModelProto, name: str = "", seed: int = 0) -> dict[str, np.ndarray]:
    """Random values for each input of a model of static shapes, seeded by `name` and `seed`."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: _input(value, rng(f"{name}/{value.name}", seed))
        for value in model.graph.input
        if value.name not in constants
    }


def _input(value: onnx.ValueInfoProto, gen: np.random.Generator) -> np.ndarray:
    kind = value.type.tensor_type
    shape = tuple(dim.dim_value for dim in kind.shape.dim)
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if np.issubdtype(dtype, np.integer):
        mask = np.ones(shape, dtype)
        mask[..., shape[-1] - int(gen.integers(1, MASKED_TAIL + 1)) :] = 0
        return mask
    return image(shape, gen)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write the model whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        onnx.save(model, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Write one model, or list their names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("name", nargs="?", choices=model_names(), help="which model")
    parser.add_argument("--output", type=Path, help="ONNX file to write; default: NAME.onnx")
    options = parser.parse_args(arguments)
    if options.name is None:
        print("\n".join(model_names()))
        return 0
    path = options.output or Path(f"{options.name}.onnx")
    save(load(options.name), path)
    print(f"{path}: {options.name} with random weights, {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
