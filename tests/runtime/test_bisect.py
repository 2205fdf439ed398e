"""The first wrong block is found, with its layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.runtime.models import TARGET
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.frontend.to_relax import graph_to_relax
from tvm_dnnfusion.planners.plan import Block, Plan
from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.runtime import (
    Module,
    bisect,
    build,
    exposed,
    exposed_results,
    random_inputs,
    with_exposed,
)


def model() -> tuple[Graph, Plan]:
    """Blocks: a (matmul, add), b (exp, multiply), c (sum); the sum reads b, b reads a."""
    b = GraphBuilder()
    x = b.input("x", (4, 16))
    w = b.constant("w", np.linspace(-1, 1, 16 * 8, dtype=np.float32).reshape(16, 8))
    m = b.op("matmul", x, w, name="matmul", origins=("MatMul_0",))
    a = b.op("add", m, 1.0, name="add", origins=("Add_1",))
    e = b.op("exp", a, name="exp", origins=("Exp_2",))
    p = b.op("multiply", e, a, name="multiply", origins=("Mul_3",))
    s = b.op("sum", p, axis=(1,), name="sum", origins=("ReduceSum_4",))
    b.output(s)
    blocks = (
        Block("a", ("matmul", "add"), None),
        Block("b", ("exp", "multiply"), None),
        Block("c", ("sum",), None),
    )
    return b.build(), Plan("test", "", blocks, ())


def changed(graph: Graph, op: str, kind: str) -> Graph:
    """The graph with one op computing something else: what a wrong kernel would do."""
    ops = tuple(replace(o, kind=kind) if o.name == op else o for o in graph.ops)
    return replace(graph, ops=ops)


def tensors(graph: Graph) -> dict[str, Array]:
    module: Module = build(graph_to_relax(graph), TARGET)
    return dict(exposed_results(module, random_inputs(module.signature, seed=5), graph))


def test_what_leaves_a_block_is_shown_after_the_models_own_outputs() -> None:
    graph, plan = model()
    by_name = {op.name: op.output for op in graph.ops}
    leaving = {block.name: names for block, names in exposed(graph, plan)}
    assert leaving == {
        "a": (by_name["add"],),
        "b": (by_name["multiply"],),
        "c": (by_name["sum"],),
    }
    shown = with_exposed(graph, plan)
    assert shown.outputs == (by_name["sum"], by_name["add"], by_name["multiply"])
    assert with_exposed(shown, plan).outputs == shown.outputs


@pytest.mark.parametrize(
    ("op", "kind", "block", "origins"),
    [
        ("add", "subtract", "a", ("MatMul_0", "Add_1")),
        ("exp", "tanh", "b", ("Exp_2", "Mul_3")),
        ("sum", "max", "c", ("ReduceSum_4",)),
    ],
)
def test_the_first_wrong_block_is_named_with_its_layers(
    op: str, kind: str, block: str, origins: tuple[str, ...]
) -> None:
    graph, plan = model()
    shown = with_exposed(graph, plan)
    right, wrong = tensors(shown), tensors(changed(shown, op, kind))
    found = bisect(graph, plan, lambda: wrong, lambda: right)
    assert found.wrong is not None
    assert (found.wrong.block.name, found.origins) == (block, origins)
    assert all(check.ok for check in found.checked[:-1])
    assert found.checked[-1] is found.wrong and found.missing == ()


def test_where_all_agree_there_is_no_wrong_block() -> None:
    graph, plan = model()
    right = tensors(with_exposed(graph, plan))
    found = bisect(graph, plan, lambda: right, lambda: right)
    assert found.wrong is None and found.origins == ()
    assert [check.block.name for check in found.checked] == ["a", "b", "c"]


def test_a_tensor_that_was_not_given_is_listed_not_passed() -> None:
    graph, plan = model()
    shown = with_exposed(graph, plan)
    right, wrong = tensors(shown), tensors(changed(shown, "exp", "tanh"))
    lost = next(names[0] for block, names in exposed(graph, plan) if block.name == "b")
    del wrong[lost]
    found = bisect(graph, plan, lambda: wrong, lambda: right)
    assert found.missing == (lost,)
    assert found.wrong is not None and found.wrong.block.name == "c"


def test_a_given_tolerance_decides() -> None:
    graph, plan = model()
    right = tensors(with_exposed(graph, plan))
    near = {name: value * np.float32(1.001) for name, value in right.items()}
    first = bisect(graph, plan, lambda: near, lambda: right).wrong
    assert first is not None and first.block.name == "a"
    assert bisect(graph, plan, lambda: near, lambda: right, rtol=1e-2).wrong is None
