"""Planners by name, and the baselines."""

import pytest

from tests.planners.graphs import DEVICE, conv, groups, make, residual_net, weight
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.planners import (
    Planner,
    PlannerError,
    check_plan,
    get_planner,
    plan,
    planner_names,
    register_planner,
)
from tvm_dnnfusion.planners.plan import Reason


def test_built_in_planners():
    assert {"dnnfusion", "none", "tvm"} <= set(planner_names())
    assert all(isinstance(get_planner(name), Planner) for name in ("dnnfusion", "none", "tvm"))


def test_unknown_planner_lists_those_that_exist():
    with pytest.raises(PlannerError, match=r"no planner named 'zz'; known: .*none, .*tvm"):
        plan(extend(residual_net(1)), "zz", device=DEVICE)


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="'none' is registered already"):
        register_planner("none")(lambda: get_planner("none"))


def test_a_planner_may_be_given_itself():
    found = plan(extend(residual_net(1)), get_planner("none"), device=DEVICE)
    assert found.planner == "none"


def test_none_fuses_nothing():
    graph = residual_net(2)
    found = check_plan(make(graph, planner="none"), graph)
    assert len(found.blocks) == len(graph.ops)
    assert {d.reason for d in found.decisions} == {Reason.BASELINE}


class TestFuseOps:
    """TVM's own groups, as TVM_FuseOps' rules have them: post-dominators, one anchor per group."""

    @pytest.fixture(autouse=True)
    def _tvm(self):
        pytest.importorskip("tvm")

    def test_epilogues(self):
        graph = residual_net(2)
        found = check_plan(make(graph, planner="tvm"), graph)
        assert found.planner == "tvm"
        assert groups(found) == {
            frozenset({"conv2d", "relu"}), frozenset({"conv2d_1", "add", "relu_1"}),
            frozenset({"conv2d_2", "relu_2"}), frozenset({"conv2d_3", "add_1", "relu_3"}),
        }  # fmt: skip

    def test_what_it_misses(self):
        b = GraphBuilder()
        y = b.op("nn.relu", conv(b, b.op("exp", b.input("x", (1, 8, 8, 8))), 8))
        y = b.op("nn.max_pool2d", y, pool_size=(2, 2), strides=(2, 2))
        graph = b.output(b.op("permute_dims", y, axes=(0, 2, 3, 1))).build()
        assert groups(make(graph, planner="tvm")) == {
            frozenset({"exp"}), frozenset({"conv2d", "relu"}), frozenset({"max_pool2d"}),
            frozenset({"permute_dims"}),
        }  # fmt: skip
        assert len(make(graph).blocks) < 4

    def test_same_kernels_are_told_apart_and_ops_without_tir_stay_alone(self):
        b = GraphBuilder()
        x = b.input("x", (4, 8))
        left = b.op("exp", b.op("nn.relu", x))
        right = b.op("cumsum", b.op("nn.relu", b.op("matmul", x, weight(b, 8, 8))), axis=1)
        graph = b.output(left, right).build()
        assert groups(make(graph, planner="tvm")) == {
            frozenset({"relu", "exp"}), frozenset({"matmul", "relu_1"}), frozenset({"cumsum"}),
        }  # fmt: skip

    def test_barriers_stay_alone(self):
        from dataclasses import replace

        b = GraphBuilder()
        y = b.op("exp", b.op("nn.relu", b.op("tanh", b.op("sin", b.input("x", (4, 8))))))
        graph = b.output(y).build()
        ops = tuple(replace(op, barrier="OPAQUE_CALL") if op.kind == "nn.relu" else op
                    for op in graph.ops)  # fmt: skip
        graph = replace(graph, ops=ops)
        found = check_plan(make(graph, planner="tvm"), graph)
        assert groups(found) == {
            frozenset({"sin", "tanh"}), frozenset({"relu"}), frozenset({"exp"}),
        }  # fmt: skip
        assert found.blocks[1].mapping is None
