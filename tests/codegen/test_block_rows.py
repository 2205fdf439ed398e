"""Row reductions, softmax and normalisations, against the unfused module."""

import numpy as np
import pytest

from tests.helpers import (
    NARROW,
    block_names,
    built,
    check_against_double,
    check_block,
    lowered,
    run_kernel,
    scheduled,
    weights,
)
from tvm_dnnfusion.codegen.layout import Layout

FOLDS = ("sum", "mean", "max", "min", "prod", "variance", "std")
AXES = {
    "last": ((4, 6, 40), (-1,), True), "last, dropped": ((4, 6, 40), (2,), False),
    "last, with a tail": ((3, 5, 37), (2,), True), "short": ((4, 5, 6), (2,), False),
    "middle": ((3, 7, 16), (1,), False), "first": ((9, 16), (0,), True),
    "two": ((2, 16, 6, 6), (2, 3), True), "outer and inner": ((4, 3, 40), (0, 2), False),
    "all": ((3, 4, 33), None, False), "one of size one": ((4, 1, 8), (1,), True),
}  # fmt: skip


@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize("kind", ["sum", "max"])
def test_folds_over_every_kind_of_axis(kind, name):
    shape, axes, keep = AXES[name]
    graph = built(lambda b: b.op(kind, b.input("x", shape), axis=axes, keepdims=keep))
    check_block(graph, "rows")


@pytest.mark.parametrize("shape", [(5, 37), (6, 64)])
@pytest.mark.parametrize("kind", FOLDS)
def test_folds_with_prologue_and_epilogue(kind, shape):
    def make(b):
        x = b.op("multiply", b.input("x", shape), weights(b, shape[1]))
        y = b.op(kind, x, axis=-1, keepdims=True)
        return b.op("subtract", x, b.op("multiply", y, 2.0))

    check_block(built(make), "rows")


def test_folding_nothing_is_a_copy():
    graph = built(lambda b: b.op("sum", b.input("x", (3, 4)), axis=(), keepdims=False))
    check_block(graph, "map")


@pytest.mark.parametrize("dtype", ["int32", "int64", "float64"])
@pytest.mark.parametrize("kind", ["sum", "max", "min"])
def test_folds_of_other_types(kind, dtype):
    graph = built(lambda b: b.op(kind, b.input("x", (3, 70), dtype), axis=-1))
    check_block(graph, "rows", rtol=1e-12)


@pytest.mark.parametrize("axis", [-1, 1, 0])
@pytest.mark.parametrize("kind", ["nn.softmax", "nn.log_softmax"])
def test_softmax(kind, axis):
    def make(b):
        x = b.op("divide", b.input("x", (4, 19, 40)), 0.25)
        return b.op("multiply", b.op(kind, x, axis=axis), weights(b, 40))

    func = check_block(built(make), "rows")
    assert "hold0" in block_names(func)


def test_softmax_of_large_numbers_does_not_overflow():
    graph = built(lambda b: b.op("nn.softmax", b.input("x", (3, 33)), axis=-1))
    kernel = lowered(graph)
    x = np.full((3, 33), 300.0, "float32")
    x[1, 5:] = -300.0
    (found,) = run_kernel(kernel.func, kernel, graph, {"x": x})
    np.testing.assert_allclose(found[0], 1 / 33, rtol=1e-6)
    np.testing.assert_allclose(found[1], [0.2] * 5 + [0] * 28, rtol=1e-6)


def test_softmax_keeps_infinities_of_a_mask_out():
    graph = built(lambda b: b.op("nn.softmax", b.input("x", (1, 40)), axis=-1))
    kernel = lowered(graph)
    x = np.where(np.arange(40) < 10, 1.0, -np.inf).astype("float32")[None]
    (found,) = run_kernel(kernel.func, kernel, graph, {"x": x})
    np.testing.assert_allclose(found[0], [0.1] * 10 + [0] * 30, rtol=1e-6)


NORMS = {
    "layer_norm": lambda b, x: b.op("nn.layer_norm", x, weights(b, 40), weights(b, 40, seed=1)),
    "layer_norm of two axes": lambda b, x: b.op(
        "nn.layer_norm", x, weights(b, 6, 40), weights(b, 6, 40, seed=1), axes=(-2, -1)),
    "rms_norm": lambda b, x: b.op("nn.rms_norm", x, weights(b, 40)),
    "instance_norm": lambda b, x: b.op(
        "nn.instance_norm", x, weights(b, 8), weights(b, 8, seed=1), axes=(2, 3)),
    "group_norm": lambda b, x: b.op(
        "nn.group_norm", x, weights(b, 8), weights(b, 8, seed=1), num_groups=2, axes=(2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_normalisations_with_residual_and_activation(name):
    def make(b):
        x = b.op("add", b.input("x", (2, 8, 6, 40)), b.input("r", (2, 8, 6, 40)))
        return x, b.op("nn.relu", NORMS[name](b, x))

    check_block(built(make), "rows")


@pytest.mark.parametrize("name", NORMS)
def test_normalisations_of_data_far_from_zero(name):
    """The two-pass variance does not cancel; TVM's one-pass form leaves these bounds."""
    graph = built(lambda b: NORMS[name](b, b.op("add", b.input("x", (2, 8, 6, 40)), 1000.0)))
    check_against_double(graph, rtol=0, atol=5e-4)


@pytest.mark.parametrize("options", [{"center": False}, {"scale": False}])
def test_layer_norm_without_a_parameter(options):
    """Against the interpreter: TVM's legalisation applies both whatever the attributes say."""

    def make(b):
        gamma, beta = weights(b, 40), weights(b, 40, seed=1)
        return b.op("nn.layer_norm", b.input("x", (3, 40)), gamma, beta, **options)

    check_against_double(built(make))


@pytest.mark.parametrize("kind, axes", [("sum", (2, 3)), ("max", (3,)), ("mean", (1,))])
def test_folds_of_blocked_channels(kind, axes):
    graph = built(lambda b: b.op(kind, b.input("x", (2, 32, 5, 6)), axis=axes, keepdims=True))
    check_block(graph, "rows", {"x": Layout(1, 16)})


@pytest.mark.parametrize("kind", ["nn.softmax", "nn.layer_norm", "sum"])
def test_other_vector_widths(kind):
    def make(b):
        x = b.input("x", (6, 22))
        extra = (weights(b, 22), weights(b, 22)) if kind == "nn.layer_norm" else ()
        return b.op(kind, x, *extra)

    check_block(built(make), "rows", device=NARROW)


INTEGER_MEANS = {
    "mean": {"axis": (2, 3)}, "variance": {"axis": (2, 3)},
    "nn.avg_pool2d": {"pool_size": (4, 6)},
    "nn.adaptive_avg_pool2d": {"output_size": (1, 1)},
}  # fmt: skip


@pytest.mark.parametrize("kind", INTEGER_MEANS)
def test_means_of_integers_are_divided_and_truncated(kind):
    """TVM's own kernels of these do not fit their types: int32 by a count of int64."""
    graph = built(lambda b: b.op(kind, b.input("x", (1, 2, 4, 6), "int32"), **INTEGER_MEANS[kind]))
    kernel = lowered(graph)
    feed = {"x": np.random.default_rng(0).integers(-90, 50, (1, 2, 4, 6)).astype("int32")}
    (out,) = run_kernel(scheduled(kernel), kernel, graph, feed)
    total = feed["x"].sum((2, 3))
    wanted = np.trunc(total / 24)
    if kind == "variance":
        wanted = ((feed["x"] - wanted[..., None, None]) ** 2).sum((2, 3)) // 24
    assert (total % 24 != 0).all() and (wanted != 0).all()
    np.testing.assert_array_equal(out.reshape(1, 2), wanted)


def test_the_average_of_integers_counts_what_is_inside():
    graph = built(
        lambda b: b.op(
            "nn.avg_pool2d", b.input("x", (1, 1, 4, 4), "int32"), pool_size=(3, 3),
            padding=(1, 1, 1, 1),
        )
    )  # fmt: skip
    kernel = lowered(graph)
    feed = {"x": np.full((1, 1, 4, 4), 7, "int32")}
    (out,) = run_kernel(scheduled(kernel), kernel, graph, feed)
    np.testing.assert_array_equal(out, feed["x"])
