"""Searches: reproducible, better with guided splits, and an interrupt loses nothing."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace

import pytest

from tests.planners.get.worlds import Keeper, lbdf, mobile_graph
from tvm_dnnfusion.planners.get.explainers import ExplainerError
from tvm_dnnfusion.planners.get.learn import Course, learn
from tvm_dnnfusion.planners.get.planner import GetSearch, SearchError, get_search
from tvm_dnnfusion.planners.get.search import SEARCHES
from tvm_dnnfusion.planners.get.space import Space, members

needs_pymoo = pytest.mark.skipif(
    importlib.util.find_spec("pymoo") is None, reason="pymoo is not installed"
)
ALL = [pytest.param(n, marks=needs_pymoo) if n.startswith("nsga2") else n for n in sorted(SEARCHES)]
PLANS = 60


@pytest.fixture(scope="module")
def model():
    return lbdf(mobile_graph(), 64)


def keeper_of(model, **stops: int) -> Keeper:
    space = Space(model.network.n, model.network.edges, members(model.unfusable()))
    return Keeper(space, **stops)


def cost(model, plan) -> float:
    return sum(model.evaluate(g).dram_bytes for g in plan)


@pytest.mark.parametrize("search", ALL)
def test_the_same_seed_gives_the_same_plan(model, search):
    runs = []
    for seed in (3, 3, 4):
        keeper = keeper_of(model)
        runs.append(
            (GetSearch("informed", search, PLANS, seed).search(model, keeper), keeper.history)
        )
    assert runs[0] == runs[1]
    assert runs[0][1] != runs[2][1]


@pytest.mark.parametrize("search", ALL)
def test_the_budget_of_plans_is_kept_and_the_best_is_returned(model, search):
    keeper = keeper_of(model)
    made = GetSearch("random", search, PLANS)
    plan = made.search(model, keeper)
    assert len(keeper.history) == PLANS
    assert keeper.best is not None
    assert cost(model, plan) == keeper.best[0] == min(keeper.history)
    assert model.network.order(plan) == plan
    assert made.figures is not None
    assert made.figures.proposals == PLANS


@pytest.mark.parametrize("search", ALL)
def test_an_interrupt_leaves_the_best_plan_so_far_with_the_budget(model, search):
    keeper = keeper_of(model, interrupt_at=15)
    made = GetSearch("informed", search, PLANS)
    with pytest.raises(KeyboardInterrupt):
        made.search(model, keeper)
    assert keeper.best is not None
    assert cost(model, keeper.best[1]) == keeper.history[14]
    assert made.figures is not None
    assert made.figures.proposals == 15


@pytest.mark.parametrize("search", ALL)
def test_a_budget_that_is_spent_ends_the_search(model, search):
    keeper = keeper_of(model, stop_at=7)
    plan = GetSearch("informed", search, PLANS).search(model, keeper)
    assert len(keeper.history) == 7
    assert cost(model, plan) == keeper.history[-1]


@pytest.mark.parametrize("search", ALL)
def test_informed_splits_find_less_traffic_in_as_many_plans(model, search):
    found = {}
    for explainer in ("random", "informed"):
        costs = [cost(model, GetSearch(explainer, search, PLANS, s).search(model, keeper_of(model)))
                 for s in range(3)]  # fmt: skip
        found[explainer] = sum(costs)
    assert found["informed"] < found["random"]


def test_memories_serve(model):
    made = GetSearch("informed", "local", 200)
    made.search(model, keeper_of(model))
    assert made.figures is not None
    assert made.figures.group_hit_rate > 0.9
    assert made.figures.rectify_rate == 1.0


def test_a_buffer_that_holds_everything_takes_no_splits():
    model = lbdf(mobile_graph(2), 4096)
    made = GetSearch("informed", "local", 400)
    plan = made.search(model, keeper_of(model))
    assert made.figures is not None
    assert made.figures.invalid_groups == 0
    assert cost(model, plan) < sum(
        model.evaluate(1 << v).dram_bytes for v in range(model.network.n)
    )


def test_options_have_the_names_of_the_command_line():
    made = get_search(explainer="informed", search="random", plans=5, seed=2)
    assert made == GetSearch("informed", "random", 5, 2)


def test_unknown_names_are_refused_with_those_that_exist(model):
    with pytest.raises(SearchError, match="nsga2"):
        GetSearch(search_name="annealing")
    with pytest.raises(ExplainerError, match="informed"):
        GetSearch("oracle", "local").search(model, keeper_of(model))


def test_without_torch_plans_are_made_and_training_says_what_to_install(model, monkeypatch):
    for name in ("torch", "torch_geometric"):
        monkeypatch.setitem(sys.modules, name, None)
    assert GetSearch("rg", "local", 4).search(model, keeper_of(model))
    with pytest.raises(ImportError, match=r"tvm-dnnfusion\[gnn\]") as caught:
        learn(Course("lbdf"))
    assert caught.value.exit_code == 3


def test_other_models_need_weights_of_their_own(model):
    if importlib.util.find_spec("torch_geometric") is None:
        pytest.skip("torch-geometric is not installed")
    from tvm_dnnfusion.cost.memory import memory_model

    tiles = memory_model("tiles", model.network, replace(model.setting))
    with pytest.raises(ExplainerError, match="gnn train --scheme tiles"):
        GetSearch("pg", "local").search(tiles, keeper_of(tiles))
