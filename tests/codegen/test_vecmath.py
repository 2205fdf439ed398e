"""The vector forms of exp, log, tanh ... against float64 over all of float32, and their limits.

Bounds are those of `vecmath.ULP`; both with and without fused multiply-add.
"""

import functools
import math

import numpy as np
import pytest
import tvm
from tvm import s_tir, te

from benchmarks import ulp
from tvm_dnnfusion.codegen import vecmath

INF, NAN = np.inf, np.nan
ODD = ("tanh", "erf", "sinh", "expm1")


@pytest.fixture(scope="module", params=tuple(ulp.TARGETS))
def functions(request):
    """Functions by name, each compiled once for a target."""
    return functools.cache(lambda name: ulp.function(name, ulp.TARGETS[request.param]))


@pytest.fixture(scope="module")
def exact():
    """(arguments, exact values) of a function over every binade, kept for both targets."""
    x = ulp.points()
    assert x.size > 2_000_000
    return functools.cache(lambda name: (x, ulp.reference(name, x)))


@pytest.mark.parametrize("name", vecmath.ULP)
def test_error_over_every_binade(functions, exact, name):
    x, true = exact(name)
    error, tail = ulp.worst(name, x, functions(name)(x), true)
    assert error <= vecmath.ULP[name]
    assert tail <= 2.0**-22


LIMITS = {
    "exp": {0.0: 1, INF: INF, -INF: 0, 89.0: INF, -104.0: 0, 3e38: INF, -3e38: 0, -100.0: 3.8e-44},
    "expm1": {0.0: 0, INF: INF, -INF: -1, 89.0: INF, -30.0: -1, 1e-30: 1e-30},
    "log": {0.0: -INF, 1.0: 0, INF: INF, 1e-45: math.log(2.0**-149), -1.0: NAN, -INF: NAN},
    "sigmoid": {0.0: 0.5, INF: 1, -INF: 0, 100.0: 1, 3e38: 1, -3e38: 0, -100.0: 3.8e-44},
    "silu": {0.0: 0, INF: INF, -INF: -0.0, 3e38: 3e38, -3e38: -0.0, 1e-37: 5e-38},
    "tanh": {0.0: 0, INF: 1, -INF: -1, 50.0: 1, -50.0: -1, 3e38: 1, 1e-20: 1e-20, 1e-40: 1e-40},
    "erf": {0.0: 0, INF: 1, -INF: -1, 50.0: 1, -50.0: -1, 3e38: 1, -3e38: -1},
    "cosh": {0.0: 1, INF: INF, -INF: INF, 95.0: INF, 3e38: INF},
    "sinh": {0.0: 0, INF: INF, -INF: -INF, 95.0: INF, -95.0: -INF, 1e-20: 1e-20},
    "softplus": {0.0: math.log(2), INF: INF, -INF: 0, 3e38: 3e38, -3e38: 0},
    "mish": {0.0: 0, INF: INF, -INF: -0.0, 3e38: 3e38, -3e38: -0.0, 1e-30: 0.6e-30},
    "gelu": {0.0: 0, INF: INF, -3e38: -0.0, 3e38: 3e38, 1e-30: 0.5e-30},
    "gelu_tanh": {0.0: 0, INF: INF, -INF: -0.0, -3e38: -0.0, 3e38: 3e38, 1e-30: 0.5e-30},
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(functions, name):
    x = np.array([*LIMITS[name]] * 8, "float32")
    wanted = np.array([*LIMITS[name].values()] * 8, "float32")
    fades = 1e-36 if name in vecmath.TAIL else 1e-45
    np.testing.assert_allclose(functions(name)(x), wanted, rtol=5e-7, atol=fades)


@pytest.mark.parametrize("name", vecmath.ULP)
def test_nan_stays_nan_in_every_lane(functions, name):
    x = np.zeros(48, "float32") + np.float32(0.5)
    x[[0, 17, 47]] = NAN
    assert np.flatnonzero(np.isnan(functions(name)(x))).tolist() == [0, 17, 47]


@pytest.mark.parametrize("name", ["tanh", "erf", "sinh"])
def test_odd_functions_are_odd_and_keep_the_sign_of_zero(functions, name):
    x = np.concatenate([np.linspace(0, 12, 4096), [1e-30, 1e-42]]).astype("float32")
    np.testing.assert_array_equal(functions(name)(-x), -functions(name)(x))
    assert np.signbit(functions(name)(np.array([-0.0], "float32")))[0]


@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh", "erf", "log"])
def test_they_grow(functions, name):
    """Monotone but for the last bits, across the seams of the pieces too."""
    x = np.linspace(1e-3 if name == "log" else -30, 30, 1 << 17).astype("float32")
    y = functions(name)(x).astype("float64")
    assert (np.diff(y) >= -4e-7 * np.abs(y[1:])).all()


def _compiled(expression, *inputs, dtype="float32", n=64, lanes=16):
    """(result, number of calls in the scheduled function) of an expression over arrays."""
    places = [te.placeholder((n,), dtype, f"x{i}") for i in range(len(inputs))]
    out = te.compute((n,), lambda i: expression(*(p(i) for p in places)), "out")
    sch = s_tir.Schedule(te.create_prim_func([*places, out]))
    if lanes > 1:
        sch.vectorize(sch.split(sch.get_loops("out")[0], [None, lanes])[1])
    result = tvm.runtime.tensor(np.zeros(n, dtype))
    run = tvm.compile(sch.mod, tvm.target.Target(ulp.TARGETS["host"]))["main"]
    run(*map(tvm.runtime.tensor, inputs), result)
    return result.numpy(), sch.mod["main"].script().count("T.dnnfusion.")


def _code(expression, n):
    """LLVM IR of an expression over arrays."""
    x = te.placeholder((n,), "float32", "x")
    out = te.compute((n,), lambda i: expression(x(i)), "out")
    sch = s_tir.Schedule(te.create_prim_func([x, out]))
    sch.vectorize(sch.split(sch.get_loops("out")[0], [None, 16])[1])
    return tvm.compile(sch.mod, tvm.target.Target(ulp.TARGETS["host"])).mod.inspect_source("ll")


def test_a_nest_of_functions_grows_by_its_calls_alone():
    x = np.linspace(-3, 1, 64).astype("float32")

    def deep(v):
        for _ in range(4):
            v = vecmath.tanh(vecmath.softplus(vecmath.erf(vecmath.exp(vecmath.gelu(v)))) * v)
        return v

    found, calls = _compiled(lambda v: vecmath.tanh(vecmath.erf(vecmath.exp(v))), x)
    wanted = np.tanh([math.erf(math.exp(v)) for v in x.astype("float64")])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert calls == 3
    code = _code(deep, n=64)
    assert code.count("fmul") < 500


def test_mish_is_one_function_and_a_stray_factor_is_not_taken_for_it():
    x = np.linspace(-9, 9, 64).astype("float32")
    y = np.linspace(1, 2, 64).astype("float32")

    def gated(a, b):
        return vecmath.multiply(vecmath.tanh(vecmath.softplus(b)), a)

    found, calls = _compiled(lambda v: gated(v, v), x)
    assert calls == 1
    np.testing.assert_allclose(found, ulp.TRUE["mish"](x.astype("float64")), rtol=5e-7)
    other, _ = _compiled(gated, y, x)
    wanted = y * ulp.TRUE["tanh_softplus"](x.astype("float64"))
    np.testing.assert_allclose(other, wanted, rtol=5e-7)


def test_log_add_exp_as_in_numpy():
    gen = np.random.default_rng(0)
    a, b = (gen.normal(0, 40, 4096).astype("float32") for _ in range(2))
    a[:6], b[:6] = (INF, -INF, INF, -INF, NAN, 1), (INF, -INF, -INF, 3, 0, NAN)
    found, _ = _compiled(vecmath.log_add_exp, a, b, n=4096)
    with np.errstate(invalid="ignore"):
        wanted = np.logaddexp(a.astype("float64"), b.astype("float64"))
    np.testing.assert_allclose(found, wanted, rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize("name", ulp.TRUE)
def test_doubles_keep_their_precision(name):
    x = np.linspace(0.1, 4, 64)
    found, calls = _compiled(lambda v: ulp.call(name, v), x, dtype="float64", lanes=1)
    assert calls == 0
    np.testing.assert_allclose(found, ulp.TRUE[name](x), rtol=2e-14, atol=1e-15)


def test_the_page_shows_the_bounds():
    page = (ulp.Path(__file__).parents[2] / "docs" / "numerics.md").read_text(encoding="utf-8")
    shown = page.split(ulp.BEGIN)[1].split(ulp.END)[0]
    rows = [r.split("|")[1:3] for r in shown.splitlines() if r.startswith("| ")]
    bounds = {name.split()[0]: float(bound) for name, bound in rows[1:]}
    assert bounds == dict(vecmath.ULP)
