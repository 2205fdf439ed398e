"""Plans as JSON, and wrong plans refused with what is wrong named."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.planners.graphs import make, residual_net, weight
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.planners import (
    PlanError,
    check_plan,
    load_plan,
    plan_from_json,
    plan_to_json,
    save_plan,
)
from tvm_dnnfusion.planners.plan import Block, Plan


def branches() -> Graph:
    """a -> b -> c and a -> c."""
    b = GraphBuilder()
    a = b.op("exp", b.input("x", (4, 8)), name="a")
    m = b.op("matmul", a, weight(b, 8, 8), name="b")
    return b.output(b.op("add", a, m, name="c")).build()


def with_blocks(plan: Plan, *blocks: tuple[str, ...]) -> Plan:
    made = tuple(Block(f"b{i}", ops, None) for i, ops in enumerate(blocks))
    return replace(plan, blocks=made, decisions=())


def test_round_trip_through_a_file(tmp_path: Path):
    found = make(residual_net(3))
    save_plan(found, tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == found
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(plan: Plan) -> str:
        raise RuntimeError("no text")

    monkeypatch.setattr("tvm_dnnfusion.planners.plan_io.plan_to_json", broken)
    with pytest.raises(RuntimeError):
        save_plan(make(branches()), tmp_path / "plan.json")
    assert list(tmp_path.iterdir()) == []


def test_codes_are_written_by_name():
    data = json.loads(plan_to_json(make(branches())))
    assert data["blocks"][0]["mapping"] in ("ONE_TO_ONE", "MANY_TO_MANY")
    assert all(d["reason"].isupper() for d in data["decisions"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("blocks"), "plan has no field 'blocks'"),
        (lambda d: d.update(format=99), "format is 99; this version reads 1"),
        (lambda d: d.update(fingerprint=7), "plan.fingerprint is int, not str"),
        (lambda d: d["blocks"][0].update(ops=[1]), r"plan.blocks\[0\].ops\[0\] is int, not str"),
        (lambda d: d["blocks"][0].update(mapping="ODD"), "is 'ODD'; known: ONE_TO_ONE"),
        (lambda d: d["decisions"][0].update(reason="WHY"), "is 'WHY'; known: FUSED_GREEN"),
        (lambda d: d["decisions"][0].update(fused=1), "fused is int, not bool"),
        (lambda d: d["decisions"][0].update(numbers={"x": "y"}), "x is 'y', not a finite number"),
        (lambda d: d["blocks"].append(None), r"plan.blocks\[\d\] is null, not an object"),
    ],
)
def test_a_malformed_plan_says_where(change, message: str):
    data = json.loads(plan_to_json(make(branches())))
    change(data)
    with pytest.raises(PlanError, match=message):
        plan_from_json(json.dumps(data))


def test_text_that_is_not_json(tmp_path: Path):
    with pytest.raises(PlanError, match="the plan is not JSON: line 2"):
        plan_from_json("{\n oops")
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(PlanError, match=r"plan\.json: plan is list, not an object"):
        load_plan(tmp_path / "plan.json")


class TestWrongPlans:
    graph = branches()
    plan = make(graph)

    def refuse(self, plan: Plan, message: str) -> None:
        with pytest.raises(PlanError, match=message):
            check_plan(plan, self.graph)

    def test_unknown_op(self):
        wrong = with_blocks(self.plan, ("a",), ("b", "zz"), ("c",))
        self.refuse(wrong, r"the graph has no op zz \(b1\)")

    def test_op_in_two_blocks(self):
        wrong = with_blocks(self.plan, ("a", "b"), ("b", "c"))
        self.refuse(wrong, "op b stands in two blocks: b0 and b1")

    def test_missing_op(self):
        self.refuse(with_blocks(self.plan, ("a", "c")), r"no block holds op b \(matmul\)")

    def test_a_path_leaves_and_comes_back(self):
        wrong = with_blocks(self.plan, ("a", "c"), ("b",))
        self.refuse(wrong, r"wait for each other.*b0 \(a, c\)|wait for each other.*b1 \(b\)")

    def test_another_graph(self):
        other = replace(self.plan, fingerprint="0" * 64)
        self.refuse(other, r"made for another graph.*fingerprint 000000000000")

    def test_same_ops_other_shapes(self):
        b = GraphBuilder()
        a = b.op("exp", b.input("x", (2, 8)), name="a")
        m = b.op("matmul", a, b.constant("w", np.zeros((8, 8), "float32")), name="b")
        other = b.output(b.op("add", a, m, name="c")).build()
        with pytest.raises(PlanError, match="same ops, but other shapes"):
            check_plan(self.plan, other)

    def test_two_blocks_of_one_name(self):
        blocks = with_blocks(self.plan, ("a",), ("b", "c")).blocks
        twice = tuple(replace(b, name="same") for b in blocks)
        self.refuse(replace(self.plan, blocks=twice, decisions=()), "two blocks are named same")

    def test_empty_block(self):
        self.refuse(with_blocks(self.plan, ("a", "b", "c"), ()), "block b1 is empty")

    def test_decision_that_the_blocks_contradict(self):
        wrong = replace(with_blocks(self.plan, ("a",), ("b",), ("c",)), decisions=tuple(
            replace(d, fused=True) for d in self.plan.decisions))  # fmt: skip
        self.refuse(wrong, "the decision on a -> b says fused, its blocks say otherwise")

    def test_decision_on_an_op_that_is_not_there(self):
        wrong = replace(self.plan, decisions=(replace(self.plan.decisions[0], producer="zz"),))
        self.refuse(wrong, "a decision names op zz")

    def test_barrier_in_a_block(self):
        ops = tuple(replace(op, barrier="SIDE_EFFECT") if op.name == "b" else op
                    for op in self.graph.ops)  # fmt: skip
        graph = replace(self.graph, ops=ops)
        wrong = with_blocks(make(graph), ("a", "b", "c"))
        with pytest.raises(PlanError, match="block b0 fuses the barrier b: it does something"):
            check_plan(wrong, graph)

    def test_blocks_out_of_order_are_put_in_order(self):
        shuffled = replace(self.plan, blocks=tuple(reversed(self.plan.blocks)))
        assert [b.ops for b in check_plan(shuffled, self.graph).blocks] == [
            b.ops for b in self.plan.blocks]  # fmt: skip

    def test_ops_of_a_block_keep_an_order_that_runs_and_lose_one_that_does_not(self):
        b = GraphBuilder()
        x = b.input("x", (4, 8))
        left, right = b.op("exp", x, name="p"), b.op("tanh", x, name="q")
        graph = b.output(b.op("add", left, right, name="r")).build()
        for given, kept in (("qpr", "qpr"), ("pqr", "pqr"), ("rqp", "pqr")):
            plan = with_blocks(make(graph), tuple(given))
            assert check_plan(plan, graph).blocks[0].ops == tuple(kept)
