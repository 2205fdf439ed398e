"""A small Relax model with two inputs and two outputs, and its results in numpy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.profile.arrays import Array

TARGET = registry.target_dict(registry.host())


@I.ir_module
class Model:
    @R.function
    def main(x: R.Tensor((4, 8), "float32"), w: R.Tensor((8, 16), "float32")):
        with R.dataflow():
            a = R.exp(x)
            b = R.matmul(a, w)
            c = R.nn.relu(b)
            d = R.sum(c, axis=[1])
            R.output(c, d)
        return (c, d)


@I.ir_module
class Symbolic:
    @R.function
    def main(x: R.Tensor(("n", 8), "float32"), y: R.Tensor(("n", 8), "float32")):
        with R.dataflow():
            a = R.add(x, y)
            R.output(a)
        return a


def named() -> tvm.IRModule:
    """The model with the names that a frontend keeps."""
    func = Model["main"].with_attrs({"input_names": ["in.x", "in/w"], "output_names": ["y", "s"]})
    return tvm.IRModule({"main": func})


def fused() -> tvm.IRModule:
    """The model after TVM's own fusion: kernels tir_exp, fused_matmul_relu, sum."""
    with tvm.target.Target(TARGET):
        return relax.get_pipeline("zero")(named())


def results(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What the model computes, in double."""
    x, w = (inputs[n].astype(np.float64) for n in ("in.x", "in/w"))
    y = np.maximum(np.exp(x) @ w, 0.0)
    return {"y": y.astype(np.float32), "s": y.sum(axis=1).astype(np.float32)}
