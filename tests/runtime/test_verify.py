"""Comparison of outputs, tolerances, and the references."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.profile.graphs import conv_add_relu
from tests.runtime.models import TARGET, Symbolic, fused, named, results
from tvm_dnnfusion.ecg.graph import Graph, Op, Ref, Tensor, attrs
from tvm_dnnfusion.runtime import (
    InputsError,
    build,
    compare,
    compare_all,
    random_inputs,
    reduction_length,
    run_onnx,
    run_unfused,
    signature_of,
    tolerance_of,
    verify,
)

F32 = tolerance_of("float32")
RNG = np.random.default_rng(1)
NORMAL = RNG.normal(size=(3, 1000)).astype(np.float32)


def test_equal_arrays_agree_without_error() -> None:
    check = compare("y", NORMAL, NORMAL.copy(), F32)
    assert (check.ok, check.max_abs, check.max_rel, check.rms_rel) == (True, 0.0, 0.0, 0.0)
    assert check.reason == ""


def test_rounding_passes_and_a_small_mistake_does_not() -> None:
    rounded = NORMAL * np.float32(1 + 5e-7)
    assert compare("y", NORMAL, rounded, F32).ok
    wrong = NORMAL.copy()
    wrong[2, 7] += np.float32(1e-3)
    check = compare("y", NORMAL, wrong, F32)
    assert (check.ok, check.wrong, check.worst) == (False, 1, (2, 7))
    assert check.max_abs == pytest.approx(1e-3, rel=1e-3)
    assert check.actual - check.expected == pytest.approx(1e-3, rel=1e-3)
    assert check.reason == "1 of 3000 elements are out of tolerance"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_verdict_does_not_depend_on_the_scale_of_the_values(scale: float) -> None:
    want = (NORMAL * scale).astype(np.float32)
    noise = (RNG.normal(size=want.shape) * scale).astype(np.float32)
    assert compare("y", want, want + noise * np.float32(1e-6), F32).ok
    assert not compare("y", want, want + noise * np.float32(1e-3), F32).ok


def test_a_small_probability_cannot_be_just_anything() -> None:
    probabilities = np.full((1, 1000), 1e-3, np.float32)
    other = np.roll(np.linspace(0.5e-3, 1.5e-3, 1000, dtype=np.float32), 3)[None]
    assert not compare("p", probabilities, other, F32, reduction=4608).ok


def test_long_sums_are_allowed_the_error_of_long_sums() -> None:
    want = np.zeros(100, np.float32)
    want[0] = 10.0
    have = want + np.float32(5e-5)
    assert not compare("y", want, have, F32).ok
    assert compare("y", want, have, F32, reduction=4608).ok


def test_nan_and_infinity_agree_only_with_themselves() -> None:
    want = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    assert compare("y", want, want.copy(), F32).ok
    for at, value in ((0, 1.0), (1, -np.inf), (2, 3.0), (3, np.nan), (3, np.inf)):
        have = want.copy()
        have[at] = value
        check = compare("y", want, have, F32)
        assert (check.ok, check.wrong, check.worst) == (False, 1, (at,))
        assert math.isinf(check.max_abs)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_integers_must_be_equal(dtype: str) -> None:
    want = np.array([1, 0, 1]).astype(dtype)
    have = np.array([1, 1, 1]).astype(dtype)
    limits = tolerance_of(dtype)
    assert compare("y", want, want.copy(), limits).ok
    assert compare("y", want, have, limits).wrong == 1


def test_neighbouring_large_integers_differ() -> None:
    want = np.array([2**62], np.int64)
    assert not compare("y", want, want + 1, tolerance_of("int64")).ok


def test_half_precision_has_its_own_tolerance() -> None:
    half = NORMAL.astype(np.float16)
    assert compare("y", half, half * np.float16(1.002), tolerance_of("float16")).ok
    assert not compare("y", half, half * np.float16(1.1), tolerance_of("float16")).ok


def test_shapes_and_dtypes_must_be_equal() -> None:
    assert "shape (3,)" in compare("y", np.zeros(4), np.zeros(3), F32).reason
    assert "dtype float64" in compare("y", np.zeros(3, np.float32), np.zeros(3), F32).reason


def test_a_reference_of_one_repeated_value_is_marked_as_weak() -> None:
    flat = np.full((1, 1000), 1e-3, np.float32)
    assert compare("p", flat, flat, F32).flat
    assert not compare("y", NORMAL, NORMAL, F32).flat
    assert not compare("y", NORMAL[:1, :1], NORMAL[:1, :1], F32).flat


def test_outputs_of_no_elements_agree() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert compare("y", empty, empty, F32).ok


def test_an_output_that_one_side_lacks_is_wrong() -> None:
    one, two = {"a": NORMAL}, {"a": NORMAL, "b": NORMAL}
    assert not compare_all(one, two).ok
    assert "the module does not give" in compare_all(two, one).outputs[1].reason
    assert not compare_all({}, {}).ok


def test_given_tolerances_replace_the_dtypes() -> None:
    near = {"a": NORMAL * np.float32(1.001)}
    assert not compare_all({"a": NORMAL}, near).ok
    assert compare_all({"a": NORMAL}, near, rtol=1e-2).ok


def single(kind: str, inputs: list[tuple[int, ...]], out: tuple[int, ...], **values: object) -> int:
    names = [f"x{i}" for i in range(len(inputs))]
    shapes = dict(zip((*names, "y"), (*inputs, out), strict=True))
    tensors = {n: Tensor(n, s, "float32") for n, s in shapes.items()}
    op = Op("op", kind, tuple(Ref(n) for n in names), ("y",), attrs(**values))  # type: ignore[arg-type]
    return reduction_length(Graph(tensors, (op,), tuple(names), ("y",)))


def test_reduction_lengths() -> None:
    assert reduction_length(conv_add_relu()) == 8 * 9
    depthwise = single("nn.conv2d", [(1, 8, 4, 4), (8, 1, 3, 3)], (1, 8, 4, 4), groups=8)
    assert depthwise == 9
    hwio = single("nn.conv2d", [(1, 4, 4, 8), (3, 3, 8, 16)], (1, 4, 4, 16), kernel_layout="HWIO")
    assert hwio == 72
    assert single("matmul", [(4, 64), (64, 3)], (4, 3)) == 64
    assert single("sum", [(4, 64)], (4,), axis=(1,)) == 64
    assert single("nn.softmax", [(4, 1000)], (4, 1000), axis=-1) == 1000
    assert single("nn.avg_pool2d", [(1, 8, 4, 4)], (1, 8, 2, 2), pool_size=(2, 2)) == 4
    assert single("add", [(4, 64), (4, 64)], (4, 64)) == 1
    assert single("matmul", [("n", 64), (64, 3)], ("n", 3)) == 1  # type: ignore[list-item, arg-type]


def test_a_fused_module_agrees_with_the_unfused_one() -> None:
    inputs = random_inputs(signature_of(named()))
    module = build(fused(), TARGET)
    expected = run_unfused(named(), TARGET, inputs)
    found = verify(module, expected, inputs, against="the unfused module", reduction=16)
    assert found.ok and [c.name for c in found.outputs] == ["y", "s"]
    broken = {**expected, "s": expected["s"] * np.float32(1.01)}
    wrong = verify(module, broken, inputs, against="the unfused module", reduction=16)
    assert [c.ok for c in wrong.outputs] == [True, False]


def onnx_model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Exp", ["in.x"], ["a"]),
        helper.make_node("MatMul", ["a", "in/w"], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
        helper.make_node("ReduceSum", ["y", "axes"], ["s"], keepdims=0),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("in.x", TensorProto.FLOAT, [4, 8]), value("in/w", TensorProto.FLOAT, [8, 16])],
        [value("y", TensorProto.FLOAT, [4, 16]), value("s", TensorProto.FLOAT, [4])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_onnx_runtime_is_a_reference() -> None:
    pytest.importorskip("onnxruntime")
    inputs = random_inputs(signature_of(named()))
    outputs = run_onnx(onnx_model(), inputs, threads=1)
    assert compare_all(results(inputs), outputs, reduction=16).ok
    assert verify(build(fused(), TARGET), outputs, inputs, against="ONNX Runtime", reduction=16).ok


def test_onnx_runtimes_refusal_is_passed_on() -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputsError, match="ONNX Runtime cannot run"):
        run_onnx(b"not a model", {})
    with pytest.raises(InputsError, match="ONNX Runtime cannot run"):
        run_onnx(onnx_model(), {})


def test_unfused_symbolic_modules_run() -> None:
    ones = np.ones((3, 8), np.float32)
    assert run_unfused(Symbolic, TARGET, {"x": ones, "y": ones})["output0"].sum() == 48.0
