"""Modules that the tests of passes share."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from tests.helpers import built, weights
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.frontend.to_relax import graph_to_relax


def net(b: GraphBuilder) -> tuple[str, str]:
    """Convolutions with a residual, pooling, a classifier; something to rewrite; two outputs."""
    x = b.input("x", (1, 16, 8, 8))

    def layer(y: str, out: int, seed: int) -> str:
        w = b.op("multiply", weights(b, out, 16, 3, 3, seed=seed), 0.1)
        return b.op("nn.conv2d", y, w, padding=(1, 1, 1, 1), origins=(f"conv{seed}",))

    y = b.op("nn.relu", b.op("multiply", layer(x, 16, 1), weights(b, 1, 16, 1, 1)))
    z = b.op("nn.relu", b.op("add", layer(y, 16, 2), y))
    pooled = b.op("nn.max_pool2d", z, pool_size=(2, 2), strides=(2, 2))
    flat = b.op("reshape", pooled, (1, 256))
    scores = b.op("matmul", flat, b.op("multiply", weights(b, 256, 10), 0.1))
    return b.op("nn.softmax", scores), b.op("sum", z, axis=(2, 3))


def net_graph() -> Graph:
    """The graph of `net`."""
    return built(net)


def net_module() -> tvm.IRModule:
    """`net` as a Relax module."""
    return graph_to_relax(net_graph())


def with_others(mod: tvm.IRModule) -> tvm.IRModule:
    """The module with a Relax function and a PrimFunc that `main` does not call."""
    x = relax.Var("x", relax.TensorType((4,), "float32"))
    builder = relax.BlockBuilder(mod)
    with builder.function("other", [x]):
        with builder.dataflow():
            out = builder.emit_output(relax.op.exp(relax.op.exp(x)))
        builder.emit_func_output(out)
    kernel = tvm.te.create_prim_func(_copy()).with_attr("global_symbol", "kernel_of_others")
    builder.add_func(kernel, "kernel_of_others")
    return builder.get()


def _copy() -> list[object]:
    a = tvm.te.placeholder((4,), "float32", "a")
    return [a, tvm.te.compute((4,), lambda i: a(i) + 1.0, "b")]


def copy_of(mod: tvm.IRModule) -> tvm.IRModule:
    """A deep copy, by way of JSON."""
    return tvm.ir.load_json(tvm.ir.save_json(mod))


def feed(seed: int = 0) -> dict[str, np.ndarray]:
    """An input for `net`."""
    rng = np.random.default_rng(seed)
    return {"x": rng.uniform(-1, 1, (1, 16, 8, 8)).astype("float32")}


def prim_funcs(mod: tvm.IRModule) -> dict[str, object]:
    """The PrimFuncs of a module, by name."""
    return {gv.name_hint: f for gv, f in mod.functions.items()
            if isinstance(f, tvm.tirx.PrimFunc)}  # fmt: skip


def blocks_called(mod: tvm.IRModule) -> set[str]:
    """Names of the PrimFuncs that `main` calls."""
    found: list[str] = []

    def visit(e: object) -> None:
        if isinstance(e, relax.Call) and e.op == tvm.ir.Op.get("relax.call_tir"):
            found.append(e.args[0].name_hint)

    relax.analysis.post_order_visit(mod["main"], visit)
    return set(found)
