"""Random DAGs over all mapping types: planned, lowered, scheduled, built and run like the original.

Examples are derandomised: the same graphs on every run. `--thorough` takes more, and other ones on
every run; what fails is shrunk and printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.dags import random_dag
from tests.e2e.heavy_steps import STEPS
from tests.e2e.running import data_for, differences, fused_module, run_module
from tvm_dnnfusion.devices.registry import get, host
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.frontend.to_relax import graph_to_relax
from tvm_dnnfusion.planners import get_planner
from tvm_dnnfusion.rewrite import RewriteOptions

T = TypeVar("T")

PLANNERS: dict[str, tuple[str, dict[str, bool]]] = {
    "dnnfusion": ("dnnfusion", {}),
    "no epilogues first": ("dnnfusion", {"prefer_epilogue": False}),
    "no extensions": ("dnnfusion", {"extensions": False}),
    "the listing": ("dnnfusion", {"prefer_epilogue": False, "extensions": False}),
    "tvm": ("tvm", {}),
    "none": ("none", {}),
}
DEVICES = ("host", "x86-64-v3", "x86-64-v2")
"""Vector units of 512, 256 and 128 bits lead to other tiles and layouts; all run on any x86."""


class Drawn:
    """Choices that hypothesis makes, and shrinks."""

    def __init__(self, draw: st.DrawFn):
        self.draw = draw

    def number(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self.draw(st.integers(low, high))

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.draw(st.integers(0, len(items) - 1))]

    def flag(self) -> bool:
        """Yes or no."""
        return self.draw(st.booleans())


@st.composite
def dags(draw: st.DrawFn) -> Graph:
    """A random graph of up to 14 ops, more where a step appends several."""
    choices = Drawn(draw)
    return random_dag(choices, STEPS, choices.number(3, 14))


def limited(examples: int, fresh: bool = False) -> Any:
    """Settings of one run: time per example is that of two builds. `fresh` draws other graphs."""
    return settings(max_examples=examples, deadline=None, derandomize=not fresh, database=None,
                    suppress_health_check=list(HealthCheck))  # fmt: skip


def check(graph: Graph, planner: str, device: str, rewriting: RewriteOptions | None = None) -> None:
    """The graph gives the same numbers fused and unfused."""
    name, options = PLANNERS[planner]
    spec = host() if device == "host" else get(device)
    data = data_for(graph)
    expected = run_module(graph_to_relax(graph), data)
    fused, _ = fused_module(graph, get_planner(name, **options), spec, rewriting)
    found = differences(graph, expected, run_module(fused.module, data), data)
    assert not found, f"{planner} on {device}: {found}\n{listing(graph)}\n{fused.plan.blocks}"


def listing(graph: Graph) -> str:
    """The ops of a graph, for a person who has to build it again."""
    lines = [f"{t}: {graph.tensors[t].shape}" for t in graph.inputs]
    for op in graph.ops:
        shapes = [graph.tensors[t].shape for t in op.inputs]
        lines.append(f"{op.outputs} = {op.kind}({op.args}) over {shapes}, {dict(op.attrs)}")
    return "\n".join((*lines, f"returns {graph.outputs}"))


@pytest.mark.slow
def test_random_graphs_are_fused_without_changing_their_values(request: pytest.FixtureRequest):
    thorough = request.config.getoption("--thorough")

    @limited(400 if thorough else 40, fresh=thorough)
    @given(dags(), st.sampled_from(sorted(PLANNERS)), st.sampled_from(DEVICES))
    def run(graph: Graph, planner: str, device: str) -> None:
        check(graph, planner, device)

    run()


@pytest.mark.slow
def test_random_graphs_are_rewritten_and_fused_without_changing_their_values(
    request: pytest.FixtureRequest,
):
    thorough = request.config.getoption("--thorough")

    @limited(200 if thorough else 15, fresh=thorough)
    @given(dags(), st.sampled_from(sorted(PLANNERS)))
    def run(graph: Graph, planner: str) -> None:
        check(graph, planner, "host", RewriteOptions())

    run()


@pytest.mark.parametrize("planner", PLANNERS)
def test_random_graphs_reach_every_mapping_type(planner: str):
    """The generator is worth something: blocks of several ops, of every type, by every planner."""
    types, sizes = set(), []

    @limited(60)
    @given(dags())
    def run(graph: Graph) -> None:
        name, options = PLANNERS[planner]
        made = get_planner(name, **options).plan(extend(graph), host())
        types.update(block.mapping for block in made.blocks)
        sizes.append(max(len(block.ops) for block in made.blocks))

    run()
    assert {t.value for t in types if t} == {
        "One-to-One", "One-to-Many", "Many-to-Many", "Reorganize", "Shuffle"
    }  # fmt: skip
    assert max(sizes) >= (1 if planner == "none" else 4)
