"""Floats are not reals: what is written is what is computed, inside a block too."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tests.helpers import run_kernel
from tvm_dnnfusion.codegen.block import lower_block
from tvm_dnnfusion.devices.registry import host
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.schedules.dispatch import schedule_kernel

NAN, INF = float("nan"), float("inf")
ROUNDING = np.float32(12582912.0)  # 1.5 * 2**23: adding and subtracting it rounds to integers


def _rounded(b: GraphBuilder, x: str) -> str:
    c = b.constant("c", np.full((1,), ROUNDING, "float32"))
    return b.op("subtract", b.op("add", x, c), c)


def _times_zero(b: GraphBuilder, x: str) -> str:
    return b.op("multiply", x, b.constant("z", np.zeros((1,), "float32")))


def _as_float(kind: str) -> Callable[[GraphBuilder, str], str]:
    return lambda b, x: b.op("astype", b.op(kind, x, x), dtype="float32")


@pytest.mark.parametrize(
    ("make", "value", "wanted"),
    [
        (lambda b, x: b.op("subtract", x, x), INF, NAN),
        (lambda b, x: b.op("add", x, b.op("negative", x)), NAN, NAN),
        (_as_float("equal"), NAN, 0.0),
        (_as_float("less_equal"), NAN, 0.0),
        (_as_float("greater_equal"), NAN, 0.0),
        (_times_zero, INF, NAN),
        (_rounded, 2.7, 3.0),
    ],
)
def test_nothing_is_cancelled(
    make: Callable[[GraphBuilder, str], str], value: float, wanted: float
) -> None:
    b = GraphBuilder()
    b.output(make(b, b.op("abs", b.input("x", (32,)))))
    graph = b.build()
    kernel = lower_block("k", graph.ops, graph, {}, host())
    feed = {"x": np.full(32, value, "float32")}
    (out,) = run_kernel(schedule_kernel(kernel.func, host()), kernel, graph, feed)
    np.testing.assert_array_equal(out, np.full(32, wanted, "float32"))


def test_nested_polynomials_do_not_multiply() -> None:
    """A polynomial of a polynomial would mention its operand 1,600 times: each stays one call."""
    b = GraphBuilder()
    b.output(b.op("erf", b.op("tanh", b.input("x", (32,)))))
    graph = b.build()
    kernel = lower_block("k", graph.ops, graph, {}, host())
    assert "T.dnnfusion.erf(T.dnnfusion.tanh(" in kernel.func.script()
    x = np.linspace(-2, 2, 32, dtype="float32")
    (out,) = run_kernel(schedule_kernel(kernel.func, host()), kernel, graph, {"x": x})
    wanted = [math.erf(math.tanh(float(v))) for v in x]
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-6)


def test_mish_as_exporters_leave_it_is_one_function() -> None:
    b = GraphBuilder()
    x = b.op("negative", b.input("x", (64,)))
    b.output(b.op("multiply", x, b.op("tanh", b.op("nn.softplus", x))))
    graph = b.build()
    kernel = lower_block("k", graph.ops, graph, {}, host())
    assert kernel.func.script().count("T.dnnfusion.") == 1
    feed = {"x": np.linspace(-60, 60, 64, dtype="float32")}
    (out,) = run_kernel(schedule_kernel(kernel.func, host()), kernel, graph, feed)
    v = -feed["x"].astype("float64")
    wanted = v * np.tanh(np.log1p(np.exp(-np.abs(v))) + np.maximum(v, 0))
    np.testing.assert_allclose(out, wanted, rtol=5e-7)


@pytest.mark.parametrize("exponent", [-2.0, -0.5, 0.25, 0.5, 0.75, 1.5, 2.0, 3.0, 0.3])
def test_powers_with_constant_exponents(exponent: float) -> None:
    b = GraphBuilder()
    b.output(b.op("power", b.input("x", (32,)), b.constant("c", np.full((), exponent, "float32"))))
    graph = b.build()
    kernel = lower_block("k", graph.ops, graph, {}, host())
    assert ("T.pow(" in kernel.func.script()) == (exponent == 0.3)
    feed = {"x": np.linspace(0.01, 9, 32, dtype="float32")}
    (out,) = run_kernel(schedule_kernel(kernel.func, host()), kernel, graph, feed)
    np.testing.assert_allclose(out, feed["x"].astype("float64") ** np.float32(exponent), rtol=5e-7)


def test_an_expression_that_grows_is_stored() -> None:
    """x * relu(x) mentions x twice: twenty of them would mention it a million times."""
    b = GraphBuilder()
    y = b.input("x", (32,))
    for _ in range(20):
        y = b.op("multiply", y, b.op("nn.relu", y))
    b.output(y)
    graph = b.build()
    func = lower_block("k", graph.ops, graph, {}, host()).func
    assert func.script().count("hold") > 0
    assert len(func.script()) < 20_000


@pytest.mark.parametrize(("dtype", "rtol"), [("float16", 1e-3), ("float64", 1e-15)])
@pytest.mark.parametrize("kind", ["erf", "nn.gelu"])
def test_erf_of_other_dtypes(kind: str, dtype: str, rtol: float) -> None:
    b = GraphBuilder()
    b.output(b.op(kind, b.input("x", (64,), dtype)))
    graph = b.build()
    kernel = lower_block("k", graph.ops, graph, {}, host())
    x = np.linspace(-4, 4, 64).astype(dtype)
    (out,) = run_kernel(schedule_kernel(kernel.func, host()), kernel, graph, {"x": x})
    wanted = [
        math.erf(v) if kind == "erf" else 0.5 * v * (1 + math.erf(v * math.sqrt(0.5)))
        for v in map(float, x)
    ]
    np.testing.assert_allclose(out, np.array(wanted), rtol=rtol, atol=rtol * 1e-3)
