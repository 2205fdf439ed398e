"""The interpreter computes what TVM computes, operator by operator."""

from __future__ import annotations

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")
from tvm import relax  # noqa: E402

from tests.ecg.test_shapes import CASES, _graph, _ident, _module  # noqa: E402
from tvm_dnnfusion.ecg.builder import GraphBuilder  # noqa: E402
from tvm_dnnfusion.ecg.evaluate import TABLE, NotEvaluated, evaluate  # noqa: E402
from tvm_dnnfusion.ecg.evaluate_nn import NN_TABLE  # noqa: E402
from tvm_dnnfusion.ecg.graph import GraphError  # noqa: E402

# no entry in the interpreter, or none in TVM's CPU lowering; or tested below
LEFT_OUT = {
    "median", "topk", "scatter_elements", "scatter_nd", "image.grid_sample",  # not interpreted
    "nn.pixel_shuffle", "ewise_fma",  # TVM 0.27 cannot lower it
    "nn.dropout", "left_shift", "right_shift", "bitwise_not", "argsort", "sort",
}  # fmt: skip
EVALUATED = [c for c in CASES if (c[0] in TABLE or c[0] in NN_TABLE) and c[0] not in LEFT_OUT]


def _data(graph, seed=0):
    rng = np.random.default_rng(seed)
    out = []
    for name in graph.inputs:
        t = graph.tensors[name]
        if t.dtype.startswith("float"):
            out.append(rng.uniform(0.1, 0.9, t.dims).astype(t.dtype))
        elif t.dtype == "bool":
            out.append(rng.integers(0, 2, t.dims).astype(bool))
        else:
            out.append(rng.integers(0, 2, t.dims).astype(t.dtype))
    return out


@pytest.fixture(scope="module")
def machine():
    """All cases as functions of one module, compiled once."""
    functions = {}
    for i, case in enumerate(EVALUATED):
        functions[f"f{i}"] = _module(*case)["main"].with_attr("global_symbol", f"f{i}")
    module = tvm.IRModule(functions)
    return relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())


@pytest.mark.parametrize("index", range(len(EVALUATED)), ids=[_ident(c) for c in EVALUATED])
def test_the_interpreter_agrees_with_tvm(machine, index):
    graph = _graph(*EVALUATED[index])
    data = _data(graph)
    found = machine[f"f{index}"](*(tvm.runtime.tensor(d) for d in data))
    theirs = [found] if isinstance(found, tvm.runtime.Tensor) else list(found)
    values = evaluate(graph, dict(zip(graph.inputs, data)))
    for name, ref in zip(graph.outputs, theirs):
        assert values[name].shape == tuple(ref.shape)
        np.testing.assert_allclose(values[name], ref.numpy(), rtol=2e-4, atol=2e-5)


def test_double_precision_widens_every_float():
    b = GraphBuilder()
    y = b.op("exp", b.op("multiply", b.input("x", (3,)), 0.1))
    graph = b.output(y).build()
    x = np.float32([1, 2, 3])
    single, double = (evaluate(graph, {"x": x}, d)[y] for d in ("float32", "float64"))
    assert (single.dtype, double.dtype) == ("float32", "float64")
    np.testing.assert_allclose(
        double, np.exp(x.astype("float64") * np.float64(np.float32(0.1))), rtol=1e-15
    )


def test_an_operator_without_an_entry_is_named():
    b = GraphBuilder()
    values, index = b.op("topk", b.input("x", (4,)), k=2)
    graph = b.output(values, index).build()
    with pytest.raises(NotEvaluated, match="topk"):
        evaluate(graph, {"x": np.zeros(4)})


def test_a_missing_input_is_named():
    b = GraphBuilder()
    graph = b.output(b.op("exp", b.input("x", (4,)))).build()
    with pytest.raises(GraphError, match="x"):
        evaluate(graph, {})


def test_integer_division_truncates_and_is_exact_beyond_double():
    b = GraphBuilder()
    x, y = b.input("x", (4,), "int64"), b.input("y", (4,), "int64")
    graph = b.output(b.op("divide", x, y)).build()
    data = {"x": np.array([-7, 7, -8, 2**62 + 3]), "y": np.array([2, -2, 4, 1])}
    found = evaluate(graph, data)[graph.outputs[0]]
    np.testing.assert_array_equal(found, [-3, -3, -2, 2**62 + 3])
