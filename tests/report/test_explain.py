"""Explanations: who is where, why each edge was kept or cut, and what names are understood."""

from __future__ import annotations

import json

import pytest

from tests.report.samples import ONE, diamond, diamond_plan, graph, op
from tvm_dnnfusion.planners.plan import Block, EdgeDecision, Plan, Reason
from tvm_dnnfusion.report.explain import ADVICE, explain
from tvm_dnnfusion.report.names import UnknownNameError, resolve
from tvm_dnnfusion.report.summary import GraphSummary


def ask(a: str, b: str):
    return explain(diamond_plan(), diamond(), a, b)


def test_every_reason_has_advice():
    assert set(ADVICE) == set(Reason)
    assert all(ADVICE.values())


def test_fused_layers_are_named_with_their_kernel():
    found = ask("layer1/Conv", "layer1/Relu")
    assert found.together == ("b000_conv2d_relu",)
    assert "are fused: both are in b000_conv2d_relu" in found.text
    assert [d.reason for d in found.decisions] == [Reason.FUSED_GREEN]


def test_unfused_layers_come_with_reason_numbers_source_and_advice():
    found = ask("layer1/Relu", "branch/Exp")
    assert found.together == ()
    assert found.path == ("relu", "a")
    for words in (
        "different kernels",
        "NO_PROFIT",
        "measured",
        "fused_us = 31.25 µs",
        "apart_us = 25.00 µs",
        ADVICE[Reason.NO_PROFIT],
    ):
        assert words in found.text


def test_the_path_is_found_in_both_directions():
    assert ask("branch/Exp", "layer1/Conv").path == ("conv", "relu", "a")


def test_an_edge_per_step_of_a_long_path():
    found = ask("conv", "dense")
    assert found.path == ("conv", "relu", "a", "add", "flat", "dense")
    reasons = [d.reason.name for d in found.decisions]
    assert reasons == ["FUSED_GREEN", "NO_PROFIT", "TAKEN", "ESCAPES", "RED"]


def test_the_path_that_leaves_fewest_kernels_wins_over_the_shorter():
    ops = [
        op("a", "exp", ("x",)),
        op("b", "exp", ("a:0",)),
        op("c", "exp", ("b:0",)),
        op("d", "exp", ("c:0",)),
        op("m", "exp", ("a:0",)),
        op("e", "add", ("d:0", "m:0")),
    ]
    plan = Plan(
        "t", "0", (Block("k0", ("a", "b", "c", "d", "e"), ONE), Block("k1", ("m",), ONE)), ()
    )
    assert explain(plan, graph(ops, ("e:0",)), "a", "e").path == ("a", "b", "c", "d", "e")


def test_parallel_branches_say_what_they_share():
    found = ask("branch/Exp", "branch/Sqrt")
    assert found.path == ()
    assert "No data flows" in found.text
    assert "Both feed add (add from join/Add)" in found.text


def test_an_edge_without_a_decision_is_not_passed_over():
    plan = diamond_plan()
    bare = Plan(plan.planner, plan.fingerprint, plan.blocks, ())
    found = explain(bare, diamond(), "relu", "a")
    assert found.missing == (("relu", "a"),)
    assert "records no decision" in found.text


def test_a_layer_made_of_several_ops_can_be_partly_fused():
    ops = [
        op("a", "exp", ("x",), origins=("L",)),
        op("b", "sqrt", ("a:0",), origins=("L",)),
        op("c", "tanh", ("b:0",), origins=("M",)),
    ]
    plan = Plan(
        "t",
        "0",
        (Block("k0", ("a",), ONE), Block("k1", ("b", "c"), ONE)),
        (EdgeDecision("b", "c", True, Reason.FUSED_GREEN),),
    )
    found = explain(plan, graph(ops, ("c:0",)), "L", "M")
    assert found.together == ("k1",)
    assert "partly fused" in found.text


def test_one_op_under_two_names_is_said_to_be_one():
    assert "same ops" in ask("layer1/Conv", "conv").text


def test_json_holds_the_same_facts():
    data = json.loads(json.dumps(ask("layer1/Relu", "branch/Exp").to_dict()))
    assert data["decisions"][0]["reason"] == "NO_PROFIT"
    assert data["decisions"][0]["numbers"] == {"fused_us": 31.25, "apart_us": 25.0}
    assert data["a"]["blocks"] == ["b000_conv2d_relu"]


@pytest.mark.parametrize(
    ("name", "ops"),
    [
        ("conv", ("conv",)),
        ("join/Add", ("add",)),
        ("b000_conv2d_relu", ("conv", "relu")),
        ("head", ("dense",)),
        ("b000", ("conv", "relu")),
    ],
)
def test_names_that_are_understood(name: str, ops: tuple[str, ...]):
    assert resolve(diamond(), name, diamond_plan()) == ops


def test_a_misspelt_name_offers_close_ones():
    with pytest.raises(UnknownNameError, match="did you mean layer1/Conv") as caught:
        resolve(diamond(), "layer1/Comv")
    assert "layer1/Conv" in caught.value.matches


def test_case_and_fragments_are_found_as_suggestions():
    with pytest.raises(UnknownNameError, match="branch/Exp"):
        resolve(diamond(), "BRANCH/EXP")
    with pytest.raises(UnknownNameError, match="head/Gemm"):
        resolve(diamond(), "Gemm")


def test_an_unclear_beginning_lists_what_it_could_be():
    with pytest.raises(UnknownNameError, match="could be layer1/Conv, layer1/Relu"):
        resolve(diamond(), "layer1/")


def test_nothing_like_it_points_to_inspect():
    with pytest.raises(UnknownNameError, match="dnnfusion inspect"):
        resolve(diamond(), "qqqqqq")
    with pytest.raises(UnknownNameError):
        resolve(diamond(), "")


def test_a_layer_that_rewriting_removed_is_known_as_such():
    full = diamond()
    net = GraphSummary(full.ops, full.tensors, full.inputs, full.outputs, ("bn/BatchNorm",))
    with pytest.raises(UnknownNameError, match="folded, cancelled or unused"):
        resolve(net, "bn/BatchNorm")
