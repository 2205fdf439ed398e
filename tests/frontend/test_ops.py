"""Operators whose conversion takes the place of TVM's: the operator, and the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.frontend.graphs import model
from tests.frontend.running import kinds, run_onnx, run_tvm
from tvm_dnnfusion.frontend.onnx import load_onnx

I = np.int64  # noqa: E741
F = np.float32

CASES: list[tuple[str, dict[str, np.ndarray], dict[str, Any], list[str]]] = [
    ("Clip", {"lo": F(0), "hi": F(1)}, {}, ["clip"]),
    ("Clip", {"lo": F(0)}, {}, ["maximum"]),
    ("Clip", {"": F(0), "hi": F(0.5)}, {}, ["minimum"]),
    ("Clip", {"lo": F(1), "hi": F(0)}, {}, ["maximum", "minimum"]),
    ("Clip", {"lo": F(np.nan), "hi": F(0.5)}, {}, ["minimum"]),
    ("Pad", {"pads": I([0, 1, 2, 3])}, {}, ["nn.pad"]),
    ("Pad", {"pads": I([0, 1, 2, 3]), "value": F(7)}, {}, ["nn.pad"]),
    ("Pad", {"pads": I([1, 1]), "": F(0), "axes": I([-1])}, {}, ["nn.pad"]),
    ("Pad", {"pads": I([1, 2, 1, 1])}, {"mode": "reflect"}, ["nn.pad"]),
    ("Pad", {"pads": I([1, 2, 1, 1])}, {"mode": "edge"}, ["nn.pad"]),
    ("Pad", {"pads": I([0, 0, 0, 0])}, {}, ["nn.pad"]),
    ("Tile", {"reps": I([2, 1])}, {}, ["tile"]),
    ("Einsum", {}, {"equation": "ij->ji"}, ["einsum"]),
    ("CumSum", {"axis": I(1)}, {"reverse": 1, "exclusive": 1}, ["flip", "cumsum", "flip"]),
    ("Dropout", {}, {}, []),
    ("Sum", {"b": np.ones((3, 1), F), "c": np.ones(4, F)}, {}, ["add", "add"]),
    ("Max", {"b": np.zeros((3, 1), F), "c": np.full(4, 0.1, F)}, {}, ["maximum", "maximum"]),
    ("Min", {"b": np.zeros((3, 1), F)}, {}, ["minimum"]),
    ("Mean", {"b": np.ones((3, 1), F)}, {}, ["add", "divide"]),
]


@pytest.mark.parametrize("op, operands, attrs, expected", CASES)
def test_conversion(
    op: str, operands: dict[str, np.ndarray], attrs: dict[str, Any], expected: list[str]
) -> None:
    node = helper.make_node(op, ["x", *operands], ["y"], **attrs)
    proto = model(
        [node], {"x": [3, 4]}, ["y"], {n: np.asarray(v) for n, v in operands.items() if n}
    )
    mod = load_onnx(proto)
    assert kinds(mod) == expected
    x = np.random.default_rng(0).standard_normal((3, 4), F)
    if np.isnan(operands.get("lo", 0)).all():
        return np.testing.assert_allclose(run_tvm(mod, x)[0], np.minimum(x, 0.5))
    np.testing.assert_allclose(run_tvm(mod, x)[0], run_onnx(proto, x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "equation, x, y, expected",
    [
        ("ij,jk->ik", (3, 4), (4, 5), ["matmul"]),
        ("bij,bjk->bik", (2, 3, 4), (2, 4, 5), ["matmul"]),
        ("bqhd,bkhd->bhqk", (2, 3, 2, 4), (2, 5, 2, 4), ["permute_dims"] * 2 + ["matmul"]),
        ("bhqk,bkhd->bqhd", (2, 2, 3, 5), (2, 5, 2, 4), ["permute_dims", "matmul", "permute_dims"]),
        ("ij,ij->i", (3, 4), (3, 4), ["reshape", "reshape", "matmul", "reshape"]),
        ("abc,cd->dab", (2, 3, 4), (4, 5), ["reshape", "matmul", "reshape", "permute_dims"]),
        ("ij,ij->", (3, 4), (3, 4), ["reshape", "reshape", "matmul", "reshape"]),
        ("i,j->ij", (3,), (4,), ["einsum"]),
        ("ij,jk->k", (3, 4), (4, 5), ["einsum"]),
    ],
)
def test_einsum_of_two_is_a_matmul_where_it_can_be(
    equation: str, x: tuple[int, ...], y: tuple[int, ...], expected: list[str]
) -> None:
    node = helper.make_node("Einsum", ["x", "y"], ["z"], equation=equation)
    proto = model([node], {"x": x, "y": y}, ["z"])
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(x, F), rng.standard_normal(y, F)
    mod = load_onnx(proto)
    assert kinds(mod) == expected
    np.testing.assert_allclose(
        run_tvm(mod, a, b)[0], np.einsum(equation, a, b), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("low, high", [(-0.5, 0.5), (1.0, 0.0), (np.nan, 0.5)])
def test_clip_with_bounds_at_run_time(low: float, high: float) -> None:
    node = helper.make_node("Clip", ["x", "lo", "hi"], ["y"])
    mod = load_onnx(model([node], {"x": [5], "lo": [], "hi": []}, ["y"]))
    assert "call_tir" not in kinds(mod)
    x = np.linspace(-1, 1, 5, dtype=F)
    wanted = np.minimum(np.fmax(x, F(low)), F(high))
    np.testing.assert_array_equal(run_tvm(mod, x, F(low), F(high))[0], wanted)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "int64", "bool"])
@pytest.mark.parametrize(("places", "axis"), [("int64", -1), ("int32", 0), ("uint8", -1)])
def test_one_hot_has_the_dtype_of_its_values(dtype: str, places: str, axis: int) -> None:
    """Negative indices count from the end; one that is no place is off everywhere."""
    values = np.asarray([0, 1] if dtype == "bool" else [2, 5], dtype)
    node = helper.make_node("OneHot", ["x", "depth", "values"], ["y"], axis=axis)
    proto = model([node], {"x": [5]}, ["y"], {"depth": I([4]), "values": values},
                  dtype=places)  # fmt: skip
    x = np.asarray([0, 3, 4, 2, 1] if places == "uint8" else [0, 3, 4, -1, -5], places)
    (found,) = run_tvm(load_onnx(proto), x)
    hit = np.arange(4) == np.where(x < 0, x.astype("int64") + 4, x)[:, None]
    wanted = np.where(hit, values[1], values[0])
    assert str(found.dtype) == dtype
    np.testing.assert_array_equal(found, wanted if axis == -1 else wanted.T)


def test_a_negative_pad_crops() -> None:
    node = helper.make_node("Pad", ["x", "pads"], ["y"])
    mod = load_onnx(model([node], {"x": [3, 4]}, ["y"], {"pads": I([1, -1, 0, 2])}))
    assert kinds(mod) == ["strided_slice", "nn.pad"]
    x = np.random.default_rng(0).standard_normal((3, 4), F)
    np.testing.assert_array_equal(run_tvm(mod, x)[0], np.pad(x[:, 1:], ((1, 0), (0, 2))))


@pytest.mark.parametrize("operands", [{"sizes": I([2, 3, 7])}, {"scales": F([1, 1, 3.5])}])
def test_a_row_is_resized_as_a_picture_of_one_row(operands: dict[str, np.ndarray]) -> None:
    """The fourth place of seven is half-way between two elements."""
    names = ["x", "", *(n if n in operands else "" for n in ("scales", "sizes"))]
    node = helper.make_node("Resize", names, ["y"], mode="nearest")
    proto = model([node], {"x": [2, 3, 2]}, ["y"], operands)
    mod = load_onnx(proto)
    assert kinds(mod) == ["expand_dims", "image.resize2d", "squeeze"]
    x = np.arange(12, dtype=F).reshape(2, 3, 2)
    np.testing.assert_array_equal(run_tvm(mod, x)[0], run_onnx(proto, x)[0])


def test_near_miss_a_row_resized_by_lines_is_left_to_tvm() -> None:
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear")
    proto = model([node], {"x": [2, 3, 2]}, ["y"], {"s": F([1, 1, 2])})
    assert kinds(load_onnx(proto)) == ["call_tir"]


def test_clip_with_bounds_as_attributes() -> None:
    node = helper.make_node("Clip", ["x"], ["y"], min=0.0, max=6.0)
    mod = load_onnx(model([node], {"x": [3]}, ["y"], opset=9))
    assert kinds(mod) == ["clip"]
    np.testing.assert_array_equal(run_tvm(mod, F([-1, 3, 9]))[0], F([0, 3, 6]))


def test_dropout_mask_of_an_old_opset_vanishes_unless_read() -> None:
    drop = helper.make_node("Dropout", ["x"], ["d", "mask"], ratio=0.5)
    relu = helper.make_node("Relu", ["d"], ["y"])
    assert kinds(load_onnx(model([drop, relu], {"x": [3]}, ["y"], opset=9))) == ["nn.relu"]


def test_constant_parts_become_constants_without_a_kernel() -> None:
    fill = helper.make_tensor("v", 1, [1], [0.5])
    nodes = [
        helper.make_node("Constant", [], ["two"], value_ints=[2, 3]),
        helper.make_node("ConstantOfShape", ["two"], ["w"], value=fill),
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["y"]),
    ]
    mod = load_onnx(model(nodes, {"x": [1, 3]}, ["y"]))
    assert kinds(mod) == ["matmul"]
    np.testing.assert_allclose(run_tvm(mod, F([[1, 2, 3]]))[0], F([[3, 3]]))


def test_a_model_of_constants_alone_returns_them() -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"])
    mod = load_onnx(model([node], {}, ["y"], {"a": F([1, 2]), "b": F([3, 4])}))
    np.testing.assert_array_equal(run_tvm(mod)[0], F([4, 6]))
