"""Movement as index maps: against numpy, and gone from the kernel."""

import math
from fractions import Fraction

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import tirx

from tests.helpers import (
    block_names,
    buffers,
    built,
    check_block,
    feed_of,
    lowered,
    run_kernel,
    scheduled,
    weights,
)
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.movement import regroup
from tvm_dnnfusion.codegen.stages import NotLowerable
from tvm_dnnfusion.codegen.value import Body
from tvm_dnnfusion.ecg.evaluate import evaluate


@st.composite
def two_shapes(draw):
    """Two shapes of one product, ones anywhere."""
    factors = draw(st.lists(st.sampled_from([1, 2, 3, 4, 5]), min_size=1, max_size=5))

    def shape():
        out = [1]
        for f in draw(st.permutations(factors)):
            if draw(st.booleans()):
                out[-1] *= f
            else:
                out.append(f)
        return tuple(out)

    return shape(), shape()


def place(exprs, variables, index):
    """The numbers that index expressions have at an index."""
    out = []
    for expr in exprs:
        for var, number in zip(variables, index):
            expr = expr if isinstance(expr, int) else tirx.Let(var, tirx.const(number), expr)
        out.append(int(expr if isinstance(expr, int) else tvm.sym.Analyzer().simplify(expr)))
    return tuple(out)


@settings(max_examples=60, deadline=None)
@given(two_shapes())
def test_regrouping_keeps_the_row_major_rank(shapes):
    shape, other = shapes
    numbers = np.arange(int(np.prod(shape))).reshape(other)
    variables = tuple(tirx.Var(f"i{k}", "int32") for k in range(len(shape)))
    body = Body(dict(zip(variables, shape)))
    exprs = regroup(shape, other, variables, body)
    assert len(exprs) == len(other)
    for rank, index in enumerate(np.ndindex(*shape)):
        assert numbers[place(exprs, variables, index)] == rank


@settings(max_examples=40, deadline=None)
@given(two_shapes())
def test_regrouping_numbers(shapes):
    shape, other = shapes
    numbers = np.arange(int(np.prod(shape))).reshape(other)
    body = Body({})
    for rank, index in enumerate(np.ndindex(*shape)):
        exprs = regroup(shape, other, index, body)
        assert numbers[tuple(int(body.simplify(e)) for e in exprs)] == rank


def test_regrouping_leaves_axes_that_stay_alone():
    c, h, w = (tirx.Var(n, "int32") for n in "chw")
    first, second = regroup((64, 7, 7), (64, 49), (c, h, w), Body({c: 64, h: 7, w: 7}))
    assert first.same_as(c)
    assert tvm.sym.Analyzer().can_prove_equal(second, h * 7 + w)


MOVES = {
    "reshape": lambda b, x: b.op("reshape", x, (4, 3, 20)),
    "flatten": lambda b, x: b.op("flatten", x),
    "batch_flatten": lambda b, x: b.op("nn.batch_flatten", x),
    "expand_dims": lambda b, x: b.op("expand_dims", x, axis=(0, 3)),
    "squeeze": lambda b, x: b.op("squeeze", b.op("reshape", x, (6, 1, 40)), axis=(1,)),
    "transpose": lambda b, x: b.op("permute_dims", x, axes=(2, 0, 3, 1)),
    "reversed axes": lambda b, x: b.op("permute_dims", x),
    "broadcast_to": lambda b, x: b.op(
        "broadcast_to", b.op("expand_dims", x, axis=0), (3, 2, 3, 5, 8)
    ),
    "slice": lambda b, x: b.op("strided_slice", x, (1, 3), (1, 6), (3, 0), (1, -2)),
    "slice from the end": lambda b, x: b.op("strided_slice", x, (-1,), (-5,), (100,), (2,)),
    "split": lambda b, x: b.op("split", x, indices_or_sections=(1, 4), axis=2)[1],
    "flip": lambda b, x: b.op("flip", x, axis=2),
    "tile": lambda b, x: b.op("tile", x, repeats=(2, 1, 3)),
    "repeat": lambda b, x: b.op("repeat", x, repeats=3, axis=1),
    "pad": lambda b, x: b.op("nn.pad", x, pad_width=(0, 0, 1, 2, 0, 0, 3, 0), pad_value=-1.0),
    "concat": lambda b, x: b.op("concat", (x, b.op("exp", x), x), axis=2),
    "stack": lambda b, x: b.op("stack", (x, b.op("exp", x)), axis=1),
    "pixel_shuffle": lambda b, x: b.op(
        "nn.pixel_shuffle", b.op("reshape", x, (1, 8, 5, 6)), upscale_factor=2
    ),
    "nearest": lambda b, x: b.op(
        "image.resize2d",
        x,
        (10, 24),
        method="nearest_neighbor",
        coordinate_transformation_mode="asymmetric",
        rounding_method="floor",
    ),
    "tril": lambda b, x: b.op("tril", x, 1),
    "triu": lambda b, x: b.op("triu", x, -1),
}


@pytest.mark.parametrize("name", MOVES)
def test_index_maps_vanish(name):
    """relu -> movement -> sigmoid is one loop nest with one store, and the numbers agree."""

    def make(b):
        x = b.op("nn.relu", b.input("x", (2, 3, 5, 8)))
        return b.op("sigmoid", MOVES[name](b, x))

    graph = built(make)
    kernel = lowered(graph)
    assert block_names(kernel.func) == ["out0"] and buffers(kernel.func) == {}
    feed = feed_of(graph)
    wanted = evaluate(graph, feed, "float64")[graph.outputs[0]]
    (found,) = run_kernel(kernel.func, kernel, graph, feed)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_chain_of_reorganize_and_shuffle_is_one_block():
    def make(b):
        x = b.op("nn.relu", b.input("x", (4, 6, 10)))
        return b.op(
            "exp", b.op("permute_dims", b.op("reshape", x, (4, 2, 3, 10)), axes=(1, 3, 0, 2))
        )

    func = check_block(built(make), "map")
    assert block_names(func) == ["out0"] and buffers(func) == {}


def test_maps_that_cancel_leave_the_index_as_it_was():
    def make(b):
        x = b.op("permute_dims", b.input("x", (8, 6, 10)), axes=(2, 0, 1))
        x = b.op("reshape", b.op("reshape", x, (10, 48)), (10, 8, 6))
        return b.op("exp", b.op("permute_dims", x, axes=(1, 2, 0)))

    text = lowered(built(make)).func.script()
    assert "//" not in text and "%" not in text


def test_movement_between_layouts():
    def make(b):
        x = b.op("permute_dims", b.input("x", (1, 16, 6, 32)), axes=(0, 3, 1, 2))
        return b.op("nn.relu", x)

    check_block(built(make), "map", {"x": Layout(1, 16), "relu": Layout(1, 16)})


def test_movement_inside_a_reduction():
    def make(b):
        x = b.op("permute_dims", b.input("x", (5, 40, 3)), axes=(0, 2, 1))
        return b.op("add", b.op("sum", b.op("exp", x), axis=-1, keepdims=True), weights(b, 1, 3, 1))

    check_block(built(make), "rows")


def resized(size=(8, 8), **attrs):
    """A picture of 4 x 4, or one whose extents are given, resized."""
    form = {"method": "nearest_neighbor", "coordinate_transformation_mode": "half_pixel",
            "rounding_method": "round_prefer_floor"}  # fmt: skip
    shape = (1, 4, 4, 4) if len(size) == 2 else (1, 2, 4, 4, 4)
    kind = f"image.resize{len(size)}d"
    return built(lambda b: b.op(kind, b.input("x", shape), size, **{**form, **attrs}))


@pytest.mark.parametrize("attrs", [
    {"method": "linear"}, {"coordinate_transformation_mode": "tf_crop_and_resize"},
    {"coordinate_transformation_mode": "asymmetric", "rounding_method": "round"},
])  # fmt: skip
def test_resizing_with_arithmetic_or_of_regions_has_no_template(attrs):
    """Nor that by half-way places that go to even numbers: up and down by turns."""
    with pytest.raises(NotLowerable, match="with these attributes"):
        lowered(resized(**attrs))


@pytest.mark.parametrize("attrs", [
    {"size": (5, 9), "layout": "NHWC"}, {"size": (6, 3, 7)}, {"size": (9, 2, 4), "layout": "NDHWC"},
    {"rounding_method": ""}, {"rounding_method": "ceil", "size": (3, 11)},
    {"coordinate_transformation_mode": "align_corners", "rounding_method": ""},
])  # fmt: skip
def test_nearest_neighbours_by_any_line_and_layout(attrs):
    check_block(resized(**attrs), "map")


PICTURES = [((1, 5), (4, 14)), ((2, 7), (3, 2)), ((20, 58), (7, 1))]


def ran(graph, feed):
    kernel = lowered(graph)
    return run_kernel(scheduled(kernel), kernel, graph, feed)


def chosen(count, size, mode, rounding):
    """The element that each place reads, by exact arithmetic."""
    scale, half = Fraction(count, size), Fraction(1, 2)
    slope, start = {
        "half_pixel": (scale, (scale - 1) / 2),
        "asymmetric": (scale, 0),
        "align_corners": (Fraction(count - 1, max(size - 1, 1)), 0),
    }[mode]
    whole = {
        "floor": math.floor, "ceil": math.ceil,
        "round_prefer_floor": lambda v: math.ceil(v - half),
        "round_prefer_ceil": lambda v: math.floor(v + half),
    }[rounding]  # fmt: skip
    return [min(max(whole(slope * i + start), 0), count - 1) for i in range(size)]


@pytest.mark.parametrize("rounding", [
    "floor", "ceil", "round_prefer_floor", "round_prefer_ceil",
])  # fmt: skip
@pytest.mark.parametrize("mode", ["half_pixel", "asymmetric", "align_corners"])
def test_nearest_neighbours_are_those_of_exact_arithmetic(mode, rounding):
    """TVM's float32 goes wrong at half-way places: of 14 columns of 4, two were the next one."""
    for (height, rows), (width, columns) in PICTURES:
        x = np.arange(height * width, dtype="float32").reshape(1, 1, height, width)
        graph = built(lambda b, x=x, size=(rows, columns): b.op(
            "image.resize2d", b.input("x", x.shape), size, method="nearest_neighbor",
            coordinate_transformation_mode=mode, rounding_method=rounding,
        ))  # fmt: skip
        ys, xs = (chosen(*line, mode, rounding) for line in ((height, rows), (width, columns)))
        np.testing.assert_array_equal(ran(graph, {"x": x})[0][0, 0], x[0, 0][np.ix_(ys, xs)])


SHIFTS = [0, 1, 7, 8, 31, 32, 33, 63, 64, 100, -1, -32]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("kind", ["left_shift", "right_shift"])
def test_shifts_beyond_the_width_are_numpys(kind, dtype):
    """Of 17 elements, so that some are vectors and the last is not; the shifts at run time too."""
    x = np.array([-8, 4, -1, 1, 127, 85, -128, 2, 3, 64, 5, 6, 7, 8, 9, 10, 11]).astype(dtype)
    y = np.resize(np.array(SHIFTS).astype(dtype), 17)

    def fixed(b):
        return b.op(kind, b.input("x", (17,), dtype), b.constant("k", y))

    def given_later(b):
        return b.op(kind, b.input("x", (17,), dtype), b.input("y", (17,), dtype))

    wanted = getattr(np, kind)(x, y)
    for make, feed in ((fixed, {"x": x, "k": y}), (given_later, {"x": x, "y": y})):
        (found,) = ran(built(make), feed)
        np.testing.assert_array_equal(found, wanted)
