"""Runs modules and models, to compare them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import tvm
from onnx.reference import ReferenceEvaluator
from tvm import relax

from tvm_dnnfusion.frontend.origins import origins_of


def run_tvm(mod: tvm.IRModule, *inputs: np.ndarray) -> list[np.ndarray]:
    """Outputs of the module's main function, compiled by TVM alone."""
    machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target("llvm")), tvm.cpu())
    found = machine["main"](*[tvm.runtime.tensor(a) for a in inputs])
    return [t.numpy() for t in found] if not hasattr(found, "numpy") else [found.numpy()]


def run_onnx(model: onnx.ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    """Outputs by onnx's reference evaluator."""
    names = [value.name for value in model.graph.input]
    return ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))


def bound(mod: tvm.IRModule) -> list[Any]:
    """The bound values of main, in order."""
    return [b.value for block in mod["main"].body.blocks for b in block.bindings]


def kinds(mod: tvm.IRModule) -> list[str]:
    """Names of the operators that main calls, without Relax's prefix."""
    calls = [value for value in bound(mod) if isinstance(value, relax.Call)]
    return [getattr(call.op, "name", "?").removeprefix("relax.") for call in calls]


def origins_by_kind(mod: tvm.IRModule) -> list[tuple[str, tuple[str, ...]]]:
    """(operator, origins) of each call in main."""
    calls = [value for value in bound(mod) if isinstance(value, relax.Call)]
    return [(call.op.name.removeprefix("relax."), origins_of(call)) for call in calls]
