"""`judge` by itself: pure, typed by edges, and the same answer with and without the contraction."""

import pytest

from tests.planners.graphs import DEVICE, conv, residual_net, weight
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.planners.facts import Facts
from tvm_dnnfusion.planners.legality import Answer, Part, Verdict, is_convex, judge
from tvm_dnnfusion.planners.limits import Limits, live_values
from tvm_dnnfusion.planners.plan import Reason

LIMITS = Limits.of(DEVICE)


def ask(facts: Facts, first: str, second: str, **options) -> Verdict:
    ops = facts.graph.by_name
    return judge(Part.single(ops[first], facts), Part.single(ops[second], facts), facts, LIMITS,
                 **options)  # fmt: skip


def gate() -> Facts:
    """conv [1, 8, 8, 8] times sigmoid [1, 8, 1, 1]."""
    b = GraphBuilder()
    x = b.input("x", (1, 8, 8, 8))
    s = b.op("sigmoid", b.input("s", (1, 8, 1, 1)))
    return Facts(b.output(b.op("multiply", conv(b, x, 8), s)).build())


def test_the_operand_decides_the_pair():
    facts = gate()
    assert ask(facts, "conv2d", "multiply") == Verdict(
        Answer.FUSE, Reason.FUSED_GREEN, (), MappingType.MANY_TO_MANY)  # fmt: skip
    assert ask(facts, "sigmoid", "multiply") == Verdict(
        Answer.FUSE, Reason.FUSED_GREEN, (), MappingType.ONE_TO_MANY)  # fmt: skip


def test_yellow_asks_for_a_profile():
    b = GraphBuilder()
    y = b.op("permute_dims", conv(b, b.input("x", (1, 8, 8, 8)), 8), axes=(0, 2, 3, 1))
    found = ask(Facts(b.output(y).build()), "conv2d", "permute_dims")
    assert found.answer is Answer.PROFILE
    assert found.mapping is MappingType.MANY_TO_MANY


def test_no_edge_is_an_error():
    with pytest.raises(ValueError, match="no edge from multiply to conv2d"):
        ask(gate(), "multiply", "conv2d")


def test_the_caller_may_answer_for_convexity():
    assert ask(gate(), "conv2d", "multiply", convex=lambda: False).reason is Reason.NOT_CONVEX


def test_convexity_without_help():
    facts = Facts(residual_net(2).check())
    assert ask(facts, "relu_1", "add_1").reason is Reason.NOT_CONVEX
    names = ("relu_1", "conv2d_2", "relu_2", "conv2d_3", "add_1")
    assert is_convex(facts.sorted(facts.graph.by_name[n] for n in names), facts)


def test_asking_changes_nothing():
    facts = gate()
    assert [ask(facts, "conv2d", "multiply") for _ in range(2)].count(
        ask(facts, "conv2d", "multiply")) == 2  # fmt: skip


@pytest.mark.parametrize("option", [True, False])
def test_red_is_red_with_and_without_extensions(option):
    b = GraphBuilder()
    y = b.op("matmul", b.op("matmul", b.input("x", (4, 8)), weight(b, 8, 8)), weight(b, 8, 8))
    facts = Facts(b.output(y).build())
    assert ask(facts, "matmul", "matmul_1", extensions=option).reason is Reason.RED


def test_live_values_of_a_diamond():
    b = GraphBuilder()
    a = b.op("exp", b.input("x", (4, 8)))
    left, right = b.op("tanh", a), b.op("sin", a)
    graph = b.output(b.op("add", left, right)).build()
    assert live_values(graph.ops, graph) == 2


def test_rows_of_reductions():
    b = GraphBuilder()
    x = b.input("x", (2, 6, 4, 4))
    b.op("mean", x, axis=(2, 3), name="spatial")
    b.op("sum", x, axis=(-1,), name="last")
    b.op("sum", x, axis=(1,), name="middle")
    b.op("nn.softmax", x, axis=-1, name="soft")
    b.op("nn.group_norm", x, weight(b, 6), weight(b, 6), num_groups=3, channel_axis=1,
         axes=(2, 3), name="group")  # fmt: skip
    facts = Facts(b.output(*(op.name for op in b.ops)).build())
    found = {op.name: facts.rows(op) for op in facts.graph.ops}
    assert found == {"spatial": (12, 16), "last": (48, 4), "middle": None, "soft": (48, 4),
                     "group": (6, 32)}  # fmt: skip
