"""A small network for GPU tests, and its values in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax

Arrays = tuple[np.ndarray[Any, Any], ...]


def target(device: str = "mali") -> Any:
    """OpenCL for a device class, with this machine as its host."""
    return tvm.target.Target(
        {"kind": "opencl", "device": device}, host=tvm.target.Target({"kind": "llvm"})
    )


def module() -> tvm.IRModule:
    """softmax(relu(x @ w) + b): x [16, 64], w [64, 32], b [32]."""
    build = relax.BlockBuilder()
    x, w, b = (
        relax.Var(name, relax.TensorType(shape, "float32"))
        for name, shape in (("x", (16, 64)), ("w", (64, 32)), ("b", (32,)))
    )
    with build.function("main", [x, w, b]):
        with build.dataflow():
            product = build.emit(relax.op.nn.relu(relax.op.matmul(x, w)))
            out = build.emit_output(relax.op.nn.softmax(relax.op.add(product, b), axis=-1))
        build.emit_func_output(out)
    return build.get()


def arrays() -> Arrays:
    rng = np.random.default_rng(7)
    return tuple(rng.standard_normal(s).astype("float32") for s in ((16, 64), (64, 32), (32,)))


def expected(x: Any, w: Any, b: Any) -> Any:
    score = np.maximum(x @ w, 0) + b
    power = np.exp(score - score.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)
