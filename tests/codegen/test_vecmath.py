"""The vector forms of exp, sigmoid, tanh, erf, sinh and cosh against float64, and their limits.

Bounds are those of the docstrings; both with and without fused multiply-add.
"""

import math

import numpy as np
import pytest
import tvm
from tvm import s_tir, te

from tvm_dnnfusion.codegen import vecmath
from tvm_dnnfusion.devices.registry import host, target_dict

POINTS = 1 << 17
INF, NAN = np.inf, np.nan
TARGETS = {"host": target_dict(host()), "baseline": {"kind": "llvm"}}
TRUE = {"exp": np.exp, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh,
        "erf": np.vectorize(math.erf), "cosh": np.cosh, "sinh": np.sinh}  # fmt: skip


def function(name, dtype="float32", target="host", vector=16):
    """The function over arrays, in vectors."""
    n = te.var("n")
    x = te.placeholder((n,), dtype, "x")
    out = te.compute((n,), lambda i: getattr(vecmath, name)(x(i)), "out")
    sch = s_tir.Schedule(te.create_prim_func([x, out]))
    if vector > 1:
        sch.vectorize(sch.split(sch.get_loops("out")[0], [None, vector])[1])
    run = tvm.compile(sch.mod, tvm.target.Target(TARGETS[target]))["main"]

    def apply(data):
        result = tvm.runtime.tensor(np.full(data.size, -7, dtype))
        run(tvm.runtime.tensor(data.astype(dtype)), result)
        return result.numpy()

    return apply


@pytest.fixture(scope="module", params=tuple(TARGETS))
def functions(request):
    """Every function by name, compiled once for a target."""
    return {name: function(name, target=request.param) for name in TRUE}


BOUNDS = [
    # name, from, to, absolute, relative
    ("exp", -87.33, 88.37, None, 1.5e-7), ("exp", 88.37, 88.72, None, 1e-6),
    ("exp", -1.0, 1.0, None, 1.5e-7), ("sigmoid", -87.0, 90.0, 1.5e-7, 2e-7),
    ("sigmoid", -6.0, 6.0, 1.5e-7, 2e-7), ("tanh", -20.0, 20.0, 1.5e-7, 3e-7),
    ("tanh", -0.5, 0.5, 1.5e-7, 3e-7), ("tanh", -1e-3, 1e-3, 1e-9, 1.5e-7),
    ("erf", -6.0, 6.0, 4e-7, None), ("erf", -0.49, 0.49, 1e-7, 2e-7),
    ("cosh", -89.0, 89.0, None, 4e-7), ("cosh", -2.0, 2.0, None, 4e-7),
    ("sinh", -89.0, 89.0, None, 4e-7), ("sinh", -1.5, 1.5, None, 4e-7),
]  # fmt: skip


@pytest.mark.parametrize("name, low, high, absolute, relative", BOUNDS)
def test_error_bounds(functions, name, low, high, absolute, relative):
    x = np.linspace(low, high, POINTS).astype("float32")
    found, true = functions[name](x).astype("float64"), TRUE[name](x.astype("float64"))
    error = np.abs(found - true)
    if absolute is not None:
        assert error.max() < absolute, f"at {x[error.argmax()]}"
    if relative is not None:
        error = error[true != 0] / np.abs(true[true != 0])
        assert error.max() < relative, f"at {x[true != 0][error.argmax()]}"


LIMITS = {
    "exp": {0.0: 1, INF: INF, -INF: 0, 89.0: INF, -88.0: 0, 3e38: INF, -3e38: 0},
    "sigmoid": {0.0: 0.5, INF: 1, -INF: 0, 100.0: 1, -100.0: 0, 3e38: 1, -3e38: 0},
    "tanh": {0.0: 0, INF: 1, -INF: -1, 50.0: 1, -50.0: -1, 3e38: 1, 1e-20: 1e-20, 1e-40: 1e-40},
    "erf": {0.0: 0, INF: 1, -INF: -1, 50.0: 1, -50.0: -1, 3e38: 1, -3e38: -1},
    "cosh": {0.0: 1, INF: INF, -INF: INF, 95.0: INF, 3e38: INF},
    "sinh": {0.0: 0, INF: INF, -INF: -INF, 95.0: INF, -95.0: -INF, 1e-20: 1e-20},
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(functions, name):
    x = np.array([*LIMITS[name]] * 8, "float32")
    wanted = np.array([*LIMITS[name].values()] * 8, "float32")
    np.testing.assert_allclose(functions[name](x), wanted, rtol=2e-7, atol=0)


@pytest.mark.parametrize("name", TRUE)
def test_nan_stays_nan_in_every_lane(functions, name):
    x = np.zeros(48, "float32")
    x[[0, 17, 47]] = NAN
    assert np.flatnonzero(np.isnan(functions[name](x))).tolist() == [0, 17, 47]


@pytest.mark.parametrize("name", ["tanh", "erf", "sinh"])
def test_odd_functions_are_odd_and_keep_the_sign_of_zero(functions, name):
    x = np.concatenate([np.linspace(0, 12, 4096), [1e-30, 1e-42]]).astype("float32")
    np.testing.assert_array_equal(functions[name](-x), -functions[name](x))
    assert np.signbit(functions[name](np.array([-0.0], "float32")))[0]


@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh"])
def test_they_grow(functions, name):
    """Monotone but for the last bits, across the seams of the pieces too."""
    x = np.linspace(-30, 30, POINTS).astype("float32")
    y = functions[name](x).astype("float64")
    assert (np.diff(y) >= -4e-7 * np.abs(y[1:])).all()


@pytest.mark.parametrize("name", TRUE)
def test_doubles_keep_their_precision(name):
    vector = 1 if name == "erf" else 4  # TVM's erf is a call of libm
    x = np.linspace(-4, 4, 1024)
    np.testing.assert_allclose(function(name, "float64", vector=vector)(x), TRUE[name](x),
                               rtol=2e-14, atol=1e-15)  # fmt: skip
