"""Models for tests: those of `benchmarks.models`, the smaller ones built once per test run."""

from __future__ import annotations

import onnx

from benchmarks import models as _models
from benchmarks.built import BUILT
from benchmarks.light import LIGHT, light_path
from benchmarks.models import inputs, model_names

__all__ = ["BUILT", "LIGHT", "inputs", "light_path", "load", "model_names"]

_KEPT_BYTES = 128 << 20
"""Larger models (VGG-19 has 575 MB of weights) are built anew each time rather than held."""

_kept: dict[str, bytes] = {}


def load(name: str) -> onnx.ModelProto:
    """The model `name`, which the caller may change."""
    if name in _kept:
        return onnx.load_from_string(_kept[name])
    model = _models.load(name)
    if model.ByteSize() < _KEPT_BYTES:
        _kept[name] = model.SerializeToString()
    return model
