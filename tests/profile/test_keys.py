"""What is the same measurement, and what is not."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.profile.graphs import SHAPE, conv_add_relu
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.ecg.graph import Graph, Op, Ref, Tensor, attrs
from tvm_dnnfusion.profile.keys import block_key, canonical_block

DEVICE = registry.get("x86-64-v3")


def key(graph: Graph, count: int | None = None) -> str:
    return block_key(graph.ops[:count], graph, DEVICE, "1")


def test_names_do_not_matter() -> None:
    assert key(conv_add_relu()) == key(conv_add_relu("other/model."))


def test_the_order_of_independent_ops_does_not_matter() -> None:
    assert key(conv_add_relu()) == key(conv_add_relu(swap=True))


def test_origins_and_rules_do_not_matter() -> None:
    graph = conv_add_relu()
    ops = tuple(replace(op, origins=("Conv_1",), rules=("r",)) for op in graph.ops)
    assert key(graph) == key(replace(graph, ops=ops))


def test_constant_data_does_not_matter_but_being_constant_does() -> None:
    graph = conv_add_relu()
    ones = replace(graph, constants={"w": np.ones((8, 8, 3, 3), np.float32)})
    parameter = replace(graph, constants={}, inputs=(*graph.inputs, "w"))
    assert key(graph) == key(ones)
    assert key(graph) != key(parameter)


def test_shapes_dtypes_attributes_and_kinds_matter() -> None:
    graph = conv_add_relu()
    wider = conv_add_relu(kernel=(8, 8, 1, 1))
    half = replace(
        graph, tensors={n: replace(t, dtype="float16") for n, t in graph.tensors.items()}
    )
    conv = graph.ops[0]
    stride = replace(graph, ops=(replace(conv, attrs=attrs(strides=(2, 2))), *graph.ops[1:]))
    other = replace(graph, ops=(conv, replace(graph.ops[1], kind="tanh"), *graph.ops[2:]))
    assert len({key(g) for g in (graph, wider, half, stride, other)}) == 5


def test_device_threads_and_schedule_matter() -> None:
    graph = conv_add_relu()
    keys = {
        block_key(graph.ops, graph, DEVICE, "1"),
        block_key(graph.ops, graph, DEVICE, "2"),
        block_key(graph.ops, graph, DEVICE, "1", threads=1),
        block_key(graph.ops, graph, registry.get("x86-64-v4"), "1"),
    }
    assert len(keys) == 4
    assert block_key(graph.ops, graph, DEVICE, "1", DEVICE.cores) in keys


def test_a_result_that_leaves_the_block_matters() -> None:
    graph = conv_add_relu()
    escaping = replace(graph, outputs=("s", "a"))
    assert key(graph, 4) != key(escaping, 4)
    assert json.loads(canonical_block(graph.ops[:4], graph))["out"] == [3]
    assert json.loads(canonical_block(escaping.ops[:4], escaping))["out"] == [2, 3]


def two_products(shared: bool) -> Graph:
    """multiply(a, b) and multiply(a, c), or multiply(a, b) and multiply(d, c); then an add."""
    names = ("a", "b", "c", "d", "p", "q", "o")
    tensors = {n: Tensor(n, SHAPE, "float32") for n in names}
    ops = (
        Op("m1", "multiply", (Ref("a"), Ref("b")), ("p",)),
        Op("m2", "multiply", (Ref("a" if shared else "d"), Ref("c")), ("q",)),
        Op("m3", "add", (Ref("p"), Ref("q")), ("o",)),
    )
    return Graph(tensors, ops, ("a", "b", "c", "d"), ("o",)).check()


def test_sharing_an_input_matters() -> None:
    assert key(two_products(True)) != key(two_products(False))


def test_operand_order_matters() -> None:
    graph = conv_add_relu()
    add = replace(graph.ops[2], args=graph.ops[2].args[::-1])
    assert key(graph) != key(replace(graph, ops=(*graph.ops[:2], add, *graph.ops[3:])))


def test_infinite_attributes_are_valid_json() -> None:
    graph = conv_add_relu()
    text = canonical_block(graph.ops, graph)
    assert json.loads(text, parse_constant=lambda c: 1 / 0)["ops"][-1][2][2] == {"float32": "inf"}


def test_the_key_does_not_depend_on_the_hash_seed() -> None:
    code = "from tests.profile.test_keys import key, conv_add_relu; print(key(conv_add_relu('z')))"
    root = str(Path(__file__).parents[2])
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {key(conv_add_relu())}


KINDS = ("exp", "tanh", "add", "multiply")


@st.composite
def shuffled_dags(draw: st.DrawFn) -> tuple[Graph, Graph]:
    """A random DAG, and the same with other names and another topological order."""
    count = draw(st.integers(2, 9))
    sources = ["in0", "in1"]
    rows: list[tuple[str, tuple[str, ...]]] = []
    for i in range(count):
        kind = draw(st.sampled_from(KINDS))
        arity = 2 if kind in ("add", "multiply") else 1
        rows.append((kind, tuple(draw(st.sampled_from(sources)) for _ in range(arity))))
        sources.append(f"t{i}")
    left = list(range(count))
    order: list[int] = []
    while left:
        made = {"in0", "in1", *(f"t{i}" for i in order)}
        ready = [i for i in left if set(rows[i][1]) <= made]
        order.append(draw(st.sampled_from(ready)))
        left.remove(order[-1])
    return _dag(rows, list(range(count)), ""), _dag(rows, order, "q")


def _dag(rows: list[tuple[str, tuple[str, ...]]], order: list[int], prefix: str) -> Graph:
    ops = tuple(
        Op(
            f"{prefix}op{i}",
            rows[i][0],
            tuple(Ref(prefix + t) for t in rows[i][1]),
            (f"{prefix}t{i}",),
        )
        for i in order
    )
    inputs = (prefix + "in0", prefix + "in1")
    names = (*inputs, *(op.output for op in ops))
    used = {t for op in ops for t in op.inputs}
    outputs = tuple(op.output for op in ops if op.output not in used)
    return Graph({n: Tensor(n, SHAPE, "float32") for n in names}, ops, inputs, outputs).check()


def twins(order: tuple[int, ...]) -> Graph:
    """Twice exp(x) + tanh(y) on inputs of their own, the ops listed in a given order."""
    rows = [("exp", ("x0",)), ("tanh", ("y0",)), ("exp", ("x1",)), ("tanh", ("y1",))]
    ops = [Op(f"op{i}", k, tuple(map(Ref, a)), (f"t{i}",)) for i, (k, a) in enumerate(rows)]
    adds = [
        Op(f"add{i}", "add", (Ref(f"t{2 * i}"), Ref(f"t{2 * i + 1}")), (f"s{i}",)) for i in (0, 1)
    ]
    names = ("x0", "x1", "y0", "y1", *(f"t{i}" for i in range(4)), "s0", "s1")
    tensors = {n: Tensor(n, SHAPE, "float32") for n in names}
    return Graph(tensors, (*(ops[i] for i in order), *adds), names[:4], ("s0", "s1")).check()


def test_twins_are_kept_together_in_any_order() -> None:
    assert len({key(twins(order)) for order in itertools.permutations(range(4))}) == 1


@given(shuffled_dags())
@settings(max_examples=200, deadline=None)
def test_any_dag_keeps_its_key_under_renaming_and_reordering(pair: tuple[Graph, Graph]) -> None:
    first, second = pair
    assert key(first) == key(second)
