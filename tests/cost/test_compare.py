"""One kernel against several: when estimates decide, and when a measurement has to."""

from __future__ import annotations

from tests.profile.graphs import conv_add_relu
from tvm_dnnfusion.cost.protocol import Comparison, Estimate, compare
from tvm_dnnfusion.ecg.graph import Graph, Op


class Settling:
    """A cost of set answers by the number of ops; `settled` counts measurements."""

    def __init__(self, estimates: dict[int, Estimate]) -> None:
        self.estimates = estimates
        self.settled = 0

    def latency_us(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        return self.estimates[len(ops)]

    def settle(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        self.settled += 1
        return Estimate(float(len(ops)), "measured")


def asked(cost: Settling) -> Comparison:
    graph = conv_add_relu()
    return compare(cost, graph.ops, (graph.ops[:3], graph.ops[3:]), graph)


def test_a_clear_difference_is_not_measured() -> None:
    cost = Settling({5: Estimate(10.0, "learned", 0.2), 3: Estimate(20.0, "learned", 0.2),
                     2: Estimate(5.0, "database")})  # fmt: skip
    found = asked(cost)
    assert (cost.settled, found.source) == (0, "learned, database")
    assert dict(found.numbers) == {
        "fused_us": 10.0, "separate_us": 25.0, "fused_error_us": 2.0, "separate_error_us": 4.0,
    }  # fmt: skip


def test_intervals_that_overlap_are_measured() -> None:
    cost = Settling({5: Estimate(10.0, "learned", 0.5), 3: Estimate(8.0, "learned", 0.2),
                     2: Estimate(5.0, "learned", 0.2)})  # fmt: skip
    found = asked(cost)
    assert (cost.settled, found.source) == (3, "measured")
    assert found.numbers == (("fused_us", 5.0), ("separate_us", 5.0))


def test_figures_without_uncertainty_decide_however_close() -> None:
    cost = Settling({5: Estimate(10.0, "database"), 3: Estimate(6.0, "database"),
                     2: Estimate(4.0, "database")})  # fmt: skip
    assert not asked(cost).is_open and cost.settled == 0
