"""Parameters of templates: the default changes nothing, every other value computes the same."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import tvm_ffi

from tests.helpers import DEVICE, built, feed_of, run_kernel, weights
from tvm_dnnfusion.codegen.block import lower_block
from tvm_dnnfusion.codegen.params import (
    ATTR,
    DEFAULT,
    Choices,
    ParamsError,
    TemplateParams,
    divisors,
    params_of,
)
from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.schedules.dispatch import schedule_kernel


def _conv(b, groups=1, c=32, out=32, size=14, kernel=3):
    x = b.input("x", (1, c, size, size))
    w = weights(b, out, c // groups, kernel, kernel)
    return b.op("nn.conv2d", x, w, groups=groups, padding=kernel // 2)


def _attention(b):
    return b.op("nn.attention", *(b.input(n, (1, 24, 2, 16)) for n in "qkv"))


BLOCKS = {
    "conv": lambda b: b.op("nn.relu", _conv(b, kernel=1)),
    "winograd": lambda b: b.op("nn.relu", _conv(b)),
    "dwconv": lambda b: _conv(b, groups=32),
    "convpool": lambda b: b.op(
        "nn.max_pool2d", _conv(b, size=12, kernel=1), pool_size=(2, 2), strides=(2, 2)
    ),
    "matmul": lambda b: b.op("matmul", b.input("x", (12, 64)), weights(b, 64, 80)),
    "attention": _attention,
}


@pytest.fixture(params=BLOCKS)
def graph(request):
    return built(BLOCKS[request.param])


def _made(graph, params=DEFAULT, offers=None):
    """The kernel with its schedule, and the choices that were asked for."""
    choices = Choices(params, offers)
    kernel = lower_block("block", graph.ops, graph, {}, DEVICE, choices=choices)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        func = schedule_kernel(kernel.func, DEVICE, choices if offers is not None else None)
    return kernel, func, choices


def test_without_parameters_nothing_changes(graph):
    plain = lower_block("block", graph.ops, graph, {}, DEVICE)
    kernel, func, choices = _made(graph, offers={})
    assert ATTR not in kernel.func.attrs and choices.used == {}
    assert tvm_ffi.structural_equal(plain.func, kernel.func)
    assert tvm_ffi.structural_equal(schedule_kernel(plain.func, DEVICE), func)
    assert len(choices.offers) >= 2 and all(choices.offers.values())


def test_any_offered_values_compute_the_same(graph):
    feed, offers, rng = feed_of(graph), {}, random.Random(3)
    _made(graph, offers=offers)
    expected = evaluate(graph, feed, "float64")
    for _ in range(4):
        params = params_of({name: rng.choice(values) for name, values in offers.items()})
        try:
            kernel, func, choices = _made(graph, params)
        except ParamsError:  # a tiling of another m of Winograd's
            params = params_of({**params.given(), "winograd": 0})
            kernel, func, choices = _made(graph, params)
        assert str(kernel.func.attrs[ATTR]) == params.text()
        found = run_kernel(func, kernel, graph, feed)
        for name, value in zip(kernel.outputs, found, strict=True):
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4, err_msg=params)
        assert choices.used.keys() <= params.given().keys()


def test_the_tile_given_is_the_tile_of_the_kernel():
    graph = built(BLOCKS["conv"])
    kernel, _, _ = _made(graph, params_of({"tile": [1, 7, 1], "rows_first": True}))
    assert [int(n) for n in kernel.func.attrs["dnnfusion.tile"]] == [1, 7, 1]
    assert bool(kernel.func.attrs["dnnfusion.rows_first"])
    own, _, _ = _made(graph)
    assert [int(n) for n in own.func.attrs["dnnfusion.tile"]] != [1, 7, 1]


def test_a_tile_that_does_not_fit_is_refused():
    with pytest.raises(ParamsError, match=r"tile=\(1, 5, 9\) does not fit"):
        _made(built(BLOCKS["conv"]), params_of({"tile": [1, 5, 9]}))


@pytest.mark.parametrize("given, message", [
    ("{", "are no parameters"), ("[1]", "give names with"), ({"tiel": 1}, "no parameter 'tiel'"),
    ({"tile": [0, 4]}, "tile is"), ({"unroll": True}, "unroll is True"),
    ({"rows_first": 1}, "True or"),
])  # fmt: skip
def test_what_is_no_parameter_is_refused(given, message):
    with pytest.raises(ParamsError, match=message):
        params_of(given)


def test_parameters_are_texts_and_back():
    params = TemplateParams(tile=(2, 4, 2), rows_first=False, unroll=4)
    assert params_of(params.text()) == params and params
    assert not DEFAULT and DEFAULT.text() == "{}"


def test_the_largest_value_that_is_no_larger():
    choices = Choices(params_of({"strip_rows": 5}))
    assert choices.at_most("strip_rows", 1, lambda: divisors(12)) == 4
    assert choices.used == {"strip_rows": 4} and choices.offers is None
