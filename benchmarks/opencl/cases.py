"""The kernels that are counted: one-operator networks, small since they run in an interpreter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One network: its input's shape, those of its weights, and what it computes of them.

    `macs` are the multiply-adds of the direct algorithm, 0 for what has none.
    """

    name: str
    macs: int
    inputs: tuple[Shape, ...]
    weights: tuple[Shape, ...]
    build: Callable[..., Any]

    def module(self) -> tvm.IRModule:
        """The network; weights are constants."""
        builder = relax.BlockBuilder()
        rng = np.random.default_rng(3)
        xs = [relax.Var(f"x{i}", relax.TensorType(s, "float32")) for i, s in enumerate(self.inputs)]
        ws = [relax.const(rng.standard_normal(s).astype("float32") / 8) for s in self.weights]
        with builder.function("main", xs):
            with builder.dataflow():
                out = builder.emit_output(builder.normalize(self.build(*xs, *ws)))
            builder.emit_func_output(out)
        return builder.get()

    def arrays(self) -> list[Any]:
        """Inputs, the same at every call."""
        rng = np.random.default_rng(5)
        return [rng.standard_normal(s).astype("float32") for s in self.inputs]

    def bytes(self, output: int) -> int:
        """Bytes of the inputs and weights and of `output` elements: what must move at least."""
        return 4 * (sum(int(np.prod(s)) for s in (*self.inputs, *self.weights)) + output)


def _conv(name: str, ci: int, co: int, side: int, kernel: int, stride: int = 1) -> Case:
    out = side // stride
    return Case(
        name, ci * co * kernel**2 * out**2, ((1, ci, side, side),),
        ((co, ci, kernel, kernel), (1, co, 1, 1)),
        lambda x, w, b: op.nn.relu(
            op.add(op.nn.conv2d(x, w, strides=stride, padding=kernel // 2), b)
        ),
    )  # fmt: skip


def _depthwise(name: str, channels: int, side: int, kernel: int) -> Case:
    return Case(
        name, channels * kernel**2 * side**2, ((1, channels, side, side),),
        ((channels, 1, kernel, kernel), (1, channels, 1, 1)),
        lambda x, w, b: op.nn.relu(
            op.add(op.nn.conv2d(x, w, padding=kernel // 2, groups=channels), b)
        ),
    )  # fmt: skip


def _attention(name: str, queries: int, keys: int, heads: int, depth: int) -> Case:
    rows = (1, keys, heads, depth)
    return Case(
        name, 2 * queries * keys * heads * depth, ((1, queries, heads, depth), rows, rows), (),
        lambda x, y, z: op.nn.attention(x, y, z),
    )  # fmt: skip


CASES: tuple[Case, ...] = (
    _conv("conv3x3", 16, 32, 14, 3),
    _conv("conv3x3-stride2", 16, 32, 28, 3, 2),
    _conv("conv1x1", 64, 64, 14, 1),
    _depthwise("depthwise3x3", 64, 14, 3),
    _depthwise("depthwise3x3-17-wide", 32, 17, 3),  # no tile divides the columns
    Case("matmul", 32 * 128 * 128, ((32, 128),), ((128, 128), (128,)),
         lambda x, w, b: op.add(op.matmul(x, w), b)),
    Case("classifier", 512 * 400, ((1, 512),), ((512, 400), (400,)),
         lambda x, w, b: op.add(op.matmul(x, w), b)),
    _attention("attention", 64, 64, 2, 64),
    _attention("attention-900-keys", 12, 900, 2, 8),  # four rows of scores fill local memory
    _attention("attention-4100-keys", 12, 4100, 2, 8),  # scores in global memory
    Case("softmax", 0, ((64, 128),), (), lambda x: op.nn.softmax(x, axis=-1)),
    Case("layer_norm", 0, ((64, 128),), ((128,), (128,)),
         lambda x, g, b: op.nn.layer_norm(x, g, b, axes=-1)),
    Case("mean", 0, ((1, 64, 14, 14),), (), lambda x: op.mean(x, axis=[2, 3])),
    Case("max_pool", 0, ((1, 32, 28, 28),), (),
         lambda x: op.nn.max_pool2d(x, (3, 3), strides=(2, 2), padding=(1, 1))),
    Case("max_pool-17-wide", 0, ((1, 32, 34, 34),), (),
         lambda x: op.nn.max_pool2d(x, (3, 3), strides=(2, 2), padding=(1, 1))),
    Case("global_pool", 0, ((1, 64, 14, 14),), (),
         lambda x: op.nn.adaptive_avg_pool2d(x, (1, 1))),
    Case("elementwise", 0, ((64, 512),) * 2, (),
         lambda x, y: op.nn.relu(op.add(op.multiply(x, y), x))),
)  # fmt: skip
