"""What the planner does with estimates that state an uncertainty."""

from __future__ import annotations

import pytest

from tests.measuring.test_campaign import yellow
from tests.planners.graphs import DEVICE
from tvm_dnnfusion.cost.protocol import Estimate
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.planners import plan
from tvm_dnnfusion.planners.plan import Reason


class Model:
    """Joined groups cost half as much again as their ops; everything is as uncertain as said."""

    def __init__(self, uncertainty: float) -> None:
        self.uncertainty = uncertainty

    def latency_us(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        us = 10.0 * len(ops) * (1.5 if len(ops) > 1 else 1.0)
        return Estimate(us, "learned", self.uncertainty)


class Settling(Model):
    """The same, with measurements that say the opposite."""

    def settle(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        return Estimate(5.0, "measured")


@pytest.mark.parametrize(
    ("cost", "reason", "source"),
    [
        (Model(0.01), Reason.NO_PROFIT, "learned"),
        (Model(0.5), Reason.FUSED_PROFIT, "learned"),
        (Settling(0.01), Reason.NO_PROFIT, "learned"),
        (Settling(0.5), Reason.FUSED_PROFIT, "measured"),
    ],
)
def test_only_what_is_slower_beyond_doubt_is_kept_apart(
    cost: Model, reason: Reason, source: str
) -> None:
    made = plan(extend(yellow((8,))), device=DEVICE, cost=cost)
    asked = [d for d in made.decisions if d.source != "table"]
    assert {(d.reason, d.source) for d in asked} == {(reason, source)}
    for d in asked:
        assert ("fused_error_us" in dict(d.numbers)) == (source == "learned")
