"""Reference results: ONNX Runtime, and TVM without fusion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.runtime.errors import EnvironmentLackError, InputsError
from tvm_dnnfusion.runtime.module import build, run

ONNX_RUNTIME = "ONNX Runtime"
UNFUSED = "the unfused module"


def run_onnx(
    model: Any, inputs: Mapping[str, Array], threads: int | None = None
) -> dict[str, Array]:
    """Outputs of an ONNX model by name, computed by ONNX Runtime.

    Its graph optimisations are off: the reference is what the model says, not another optimiser's
    reading of it. `model` is a path, the bytes of a model, or an `onnx.ModelProto`.

    Raises
    ------
    EnvironmentLackError
        Where onnxruntime is not installed.
    InputsError
        Where it refuses the model or the inputs.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise EnvironmentLackError(
            "verifying against ONNX Runtime needs it: pip install onnxruntime"
        ) from error
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    source = _source(model)
    try:
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        results = session.run(names, {n: np.asarray(a) for n, a in inputs.items()})
    except Exception as error:  # its errors share no public base class
        raise InputsError(f"ONNX Runtime cannot run the model: {error}") from error
    return dict(zip(names, (np.asarray(r) for r in results), strict=True))


def run_unfused(
    mod: Any,
    target: Mapping[str, object],
    inputs: Mapping[str, Array],
    *,
    entry: str = "main",
    threads: int | None = None,
) -> dict[str, Array]:
    """Outputs of a Relax module by name, compiled by TVM's default pipeline: one kernel per op."""
    return run(build(mod, target, entry), inputs, threads).outputs


def _source(model: Any) -> str | bytes:
    if isinstance(model, (str, Path)):
        return str(model)
    return model if isinstance(model, bytes) else model.SerializeToString()
