"""Places in plans: written, read, and refused where they are not what a concat gives."""

from dataclasses import replace

import pytest

from tests.planners.graphs import conv, make
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.planners import check_plan, plan_from_json, plan_to_json
from tvm_dnnfusion.planners.plan import Place
from tvm_dnnfusion.planners.plan_io import PlanError


def joined():
    """x -> a, c -> concat -> out, with channels 16 + 32."""
    b = GraphBuilder()
    x = b.input("x", (1, 16, 8, 8))
    a, c = conv(b, x, 16), conv(b, x, 32)
    y = b.op("concat", (a, c), axis=1)
    return b.output(conv(b, y, 8)).build(), a, c, y


def test_places_survive_json():
    graph, a, c, y = joined()
    made = make(graph)
    assert set(made.places) == {Place(a, y, (0, 0, 0, 0)), Place(c, y, (0, 16, 0, 0))}
    assert plan_from_json(plan_to_json(made)) == made
    assert check_plan(made, graph) == made


@pytest.mark.parametrize("planner", ["tvm", "none"])
def test_baselines_copy(planner):
    assert make(joined()[0], planner=planner).places == ()


def test_option_switches_it_off():
    assert make(joined()[0], in_place=False).places == ()


def test_wrong_places_are_refused():
    graph, a, c, y = joined()
    made = make(graph)
    zero = (0, 0, 0, 0)
    wrong = {
        "overlaps": [Place(a, y, zero), Place(c, y, zero)],
        "turned": [Place(a, y, (0, 32, 0, 0)), Place(c, y, zero)],
        "no concat": [Place(y, a, zero)],
        "unknown": [Place("nothing", y, zero)],
        "a result": [Place(graph.outputs[0], y, zero)],
        "twice": [Place(a, y, zero), Place(a, y, zero)],
        "a circle": [Place(a, c, zero), Place(c, a, zero)],
    }
    for name, places in wrong.items():
        with pytest.raises(PlanError, match="place"):
            check_plan(replace(made, places=tuple(places)), graph)
            pytest.fail(name)


def test_a_concat_in_a_block_with_others_gives_no_places():
    graph = joined()[0]
    fused = make(graph, in_place=False)
    with pytest.raises(PlanError, match="place"):
        check_plan(replace(fused, places=make(graph).places), graph)
