"""Ops that do nothing go; movements that cancel cancel; what must stay stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.rewrite.helpers import kinds, rewritten
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.rewrite import RewriteOptions, rewrite


def _start(shape=(2, 3, 4)):
    b = GraphBuilder()
    return b, b.op("tanh", b.input("x", shape))


@pytest.mark.parametrize(
    "first, second, left",
    [
        ((1, 2, 0), (2, 0, 1), []),
        ((1, 2, 0), (1, 2, 0), ["permute_dims"]),
        ((0, 1, 2), None, ["permute_dims"]),
    ],
)
def test_transposes_compose(first, second, left):
    b, x = _start()
    y = b.op("permute_dims", b.op("permute_dims", x, axes=first), axes=second)
    assert kinds(rewritten(b, y).graph) == ["tanh", *left]


def test_a_transpose_of_extents_of_one_is_a_reshape():
    b, x = _start((2, 1, 4))
    assert kinds(rewritten(b, b.op("permute_dims", x, axes=(1, 0, 2))).graph) == ["tanh", "reshape"]


def test_reshapes_of_all_names_compose_and_cancel():
    b, x = _start()
    y = b.op(
        "squeeze", b.op("expand_dims", b.op("reshape", b.op("flatten", x), (6, 4)), axis=1), axis=1
    )
    assert kinds(rewritten(b, y).graph) == ["tanh", "reshape"]
    b, x = _start()
    assert kinds(rewritten(b, b.op("reshape", b.op("flatten", x), (2, 3, 4))).graph) == ["tanh"]


def test_slices_compose_and_a_slice_of_all_goes():
    b, x = _start((8, 6))
    y = b.op("strided_slice", x, (0,), (1,), (7,), (1,))
    y = b.op("strided_slice", y, (0, 1), (1, 0), (4, 100), (1, 1))
    result = rewritten(b, y)
    assert kinds(result.graph) == ["strided_slice", "tanh"]
    assert result.graph.tensors[result.graph.outputs[0]].shape == (3, 6)


def test_a_slice_with_a_step_is_not_composed():
    b, x = _start((8, 6))
    y = b.op(
        "strided_slice", b.op("strided_slice", x, (0,), (0,), (8,), (2,)), (0,), (1,), (3,), (1,)
    )
    assert kinds(rewritten(b, y).graph).count("strided_slice") == 2


def test_one_element_taken_is_a_slice():
    b, x = _start()
    y = b.op("take", x, b.constant("i", np.int64(2)), axis=1)
    result = rewritten(b, y)
    assert sorted(kinds(result.graph)) == ["reshape", "strided_slice", "tanh"]
    assert result.graph.tensors[result.graph.outputs[0]].shape == (2, 4)


@pytest.mark.parametrize("index", [np.int64(-1), np.int64(3), np.array([0, 1])])
def test_other_elements_are_taken_as_before(index):
    b, x = _start()
    y = b.op("take", x, b.constant("i", index), axis=1, mode="clip")
    assert "take" in kinds(rewritten(b, y).graph)


def test_split_and_concat_of_its_parts_is_nothing():
    b, x = _start()
    parts = b.op("split", x, indices_or_sections=3, axis=1)
    assert kinds(rewritten(b, b.op("concat", parts, axis=-2)).graph) == ["tanh"]


def test_the_parts_in_another_order_stay():
    b, x = _start()
    s, t, u = b.op("split", x, indices_or_sections=3, axis=1)
    assert kinds(rewritten(b, b.op("concat", (t, s, u), axis=1)).graph) == [
        "tanh",
        "split",
        "concat",
    ]


def test_an_activation_moves_in_front_of_the_concat_that_it_alone_reads():
    b, x = _start((4, 6))
    y = b.op("concat", (x, b.op("exp", x)), axis=1)
    result = rewritten(b, b.op("clip", y, 0.25, 0.5))
    assert sorted(kinds(result.graph)) == ["clip", "clip", "concat", "exp", "tanh"]
    assert result.graph.producers[result.graph.outputs[0]].kind == "concat"


def test_an_activation_stays_where_others_read_the_joined_tensor():
    b, x = _start((4, 6))
    y = b.op("concat", (x, b.op("exp", x)), axis=1)
    result = rewritten(b, b.op("add", b.op("nn.relu", y), y))
    assert kinds(result.graph).count("nn.relu") == 1
    assert "joined tensor" in result.report.near_misses["activation-before-concat"]


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.op("nn.dropout", x)[0],
        lambda b, x: b.op("astype", x, dtype="float32"),
        lambda b, x: b.op("broadcast_to", x, (2, 3, 4)),
        lambda b, x: b.op("nn.pad", x, pad_width=(0,) * 6),
        lambda b, x: b.op("concat", (x,), axis=0),
        lambda b, x: b.op("tile", x, repeats=(1, 1, 1)),
        lambda b, x: b.op("multiply", x, np.ones((3, 4), "float32")),
        lambda b, x: b.op("add", x, np.zeros((3, 1), "float32")),
    ],
)
def test_an_identity_goes_and_hands_its_origins_on(make):
    b, x = _start()
    y = make(b, x)
    result = rewritten(b, b.op("exp", y))
    assert kinds(result.graph) == ["tanh", "exp"]


def test_an_addition_of_zero_that_broadcasts_stays_a_broadcast():
    b, x = _start((3, 1))
    result = rewritten(b, b.op("add", x, np.zeros((3, 4), "float32")))
    assert result.graph.tensors[result.graph.outputs[0]].shape == (3, 4)
    assert "would be" in result.report.near_misses["add-zero"]


def test_common_subexpressions_are_computed_once_in_any_operand_order():
    b = GraphBuilder()
    x, y = b.input("x", (4,)), b.input("y", (4,))
    p = b.op("tanh", b.op("add", x, y, origins=("left",)))
    q = b.op("tanh", b.op("add", y, x, origins=("right",)))
    result = rewritten(b, b.op("divide", p, b.op("exp", q)))
    assert kinds(result.graph) == ["add", "tanh", "exp", "divide"]
    assert set(result.graph.ops[0].origins) == {"left", "right"}


def test_constants_are_folded_through_and_dead_code_goes():
    b = GraphBuilder()
    x = b.input("x", (4, 4))
    k = b.op("permute_dims", b.constant("w", np.arange(16, dtype="float32").reshape(4, 4)))
    k = b.op("add", b.op("sqrt", k), 1.0)
    b.op("exp", x)  # nobody reads it
    result = rewritten(b, b.op("add", x, k))
    assert kinds(result.graph) == ["add"]
    assert result.report.ops_after == 1


def test_a_value_in_a_type_that_numpy_lacks_is_left_alone():
    b = GraphBuilder()
    k = b.constant("w", np.ones((4,), "float16"))
    b.tensors[k] = replace(b.tensors[k], dtype="bfloat16")
    graph = b.output(b.op("exp", b.op("exp", k))).build()
    assert kinds(rewrite(graph).graph) == ["exp", "exp"]


def test_positions_made_by_arange_are_folded_into_the_embedding():
    b = GraphBuilder()
    table = b.constant("w", np.arange(32, dtype="float32").reshape(8, 4))
    rows = b.op("take", table, b.op("arange", 0, 6, 1), axis=0)
    assert kinds(rewritten(b, b.op("add", b.input("x", (6, 4)), rows)).graph) == ["add"]


def test_folding_can_be_switched_off():
    b = GraphBuilder()
    k = b.op("sqrt", b.constant("w", np.arange(4, dtype="float32")))
    graph = b.output(b.op("add", b.input("x", (4,)), k)).build()
    assert kinds(rewrite(graph, RewriteOptions(fold=False)).graph) == ["sqrt", "add"]


def test_a_constant_that_would_grow_far_beyond_its_operands_is_not_folded():
    b = GraphBuilder()
    k = b.op("broadcast_to", b.constant("w", np.ones((1, 1), "float32")), (512, 512))
    graph = b.output(b.op("tanh", b.op("subtract", b.input("x", (512, 512)), k))).build()
    result = rewrite(graph)
    assert "broadcast_to" in kinds(result.graph)
    assert "much larger" in result.report.near_misses["fold-constants"]


@pytest.mark.parametrize(
    "form, left",
    [
        ("mean-pow-sqrt-div", ["nn.layer_norm"]),
        ("without-affine", ["nn.layer_norm"]),
        ("input-scale", ["nn.layer_norm"]),
        ("rms", ["nn.rms_norm"]),
        ("wrong-axes", None),
    ],
)
def test_decomposed_norms_are_recognised(form, left):
    b = GraphBuilder()
    x = b.input("x", (2, 3, 8))
    axis = 1 if form == "wrong-axes" else -1
    scale = b.constant("g", np.linspace(0.5, 2, 8, dtype="float32"))
    scale = b.input("g_in", (8,)) if form == "input-scale" else scale
    d = x if form == "rms" else b.op("subtract", x, b.op("mean", x, axis=axis, keepdims=True))
    v = b.op("mean", b.op("power", d, 2.0), axis=axis, keepdims=True)
    y = b.op("divide", d, b.op("sqrt", b.op("add", v, 1e-5)))
    if form != "without-affine":
        y = b.op("multiply", y, scale)
    if form not in ("without-affine", "rms"):
        y = b.op("add", y, b.constant("b", np.linspace(-1, 1, 8, dtype="float32")))
    result = rewritten(b, y)
    if left is None:
        assert "nn.layer_norm" not in kinds(result.graph)
        assert "trailing axes" in result.report.near_misses["layer-norm"]
    else:
        assert kinds(result.graph) == left


def test_a_result_that_is_an_input_is_returned_as_it_is():
    b = GraphBuilder()
    x = b.input("x", (3,))
    result = rewrite(b.output(b.op("add", x, 0.0)).build())
    assert result.graph.outputs == ("x",) and result.graph.ops == ()
