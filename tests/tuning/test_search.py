"""Spaces come from the templates; searches start with the template's own choice and get better."""

from __future__ import annotations

import pytest

from tests.tuning.models import tasks
from tvm_dnnfusion.codegen.params import DEFAULT, params_of
from tvm_dnnfusion.tuning.bayesian import Bayesian
from tvm_dnnfusion.tuning.genetic import Genetic
from tvm_dnnfusion.tuning.space import Space, explore

SPACE = Space({"unroll": tuple(range(1, 9)), "columns": tuple(range(1, 9)), "keys": (1, 2, 4)})


def searches():
    return [Genetic, Bayesian]


def made(search, space, seed=0):
    if search is Bayesian:
        pytest.importorskip("optuna")
    return search(space, seed)


def test_equal_blocks_are_one_task():
    found = tasks()
    assert [len(t.blocks) for t in found] == [1, 2, 1, 1]
    assert found[1].blocks == ("b001_conv2d_relu", "b002_conv2d_relu")
    assert len({t.subject.key for t in found}) == 4


def test_a_space_is_what_the_template_asks_for():
    first, second, *_ = tasks(memory=float("inf"))
    space = explore(first)
    assert set(space.values["winograd"]) == {0, 2, 4, 6}
    within = explore(tasks()[0]).values.get("winograd", ())
    assert set(within) <= {0, 2}, "weights of larger tiles would outgrow the budget"
    assert {"tile", "winograd_tiles"} <= set(space.values)
    assert "winograd" not in explore(second).values, "a window of one place"
    assert space.params(space.origin) == DEFAULT
    for name, values in space.values.items():
        genes = space.genes(params_of({name: values[-1]}))
        assert genes is not None and space.params(genes).given() == {name: values[-1]}
    assert space.genes(params_of({"keys": 3})) is None


@pytest.mark.parametrize("search", searches())
def test_the_first_point_is_the_templates_own(search):
    assert made(search, SPACE).ask() == SPACE.origin


@pytest.mark.parametrize("search", searches())
def test_a_search_finds_better_points_than_chance(search):
    """Cost: the distance from one point of 729."""

    def cost(genes):
        return 1.0 + sum(abs(g - w) for g, w in zip(genes, (5, 3, 2)))

    found = made(search, SPACE)
    best = []
    for _ in range(60):
        genes = found.ask()
        best.append(cost(genes))
        found.tell(genes, best[-1] if genes[0] != 8 else None)
    assert min(best) <= 2.0
    assert sum(best[30:]) < sum(best[:30])


@pytest.mark.parametrize("search", searches())
def test_a_search_learns_from_records(search):
    found = made(search, SPACE)
    for k in range(12):
        found.tell((1 + k % 8, 3, 2), 10.0 + k % 8)
    asked = [found.ask() for _ in range(20)]
    assert sum(g[1] == 3 for g in asked) > 20 / 9 * 1.2


def test_the_same_seed_asks_the_same():
    def asked(seed):
        search = Genetic(SPACE, seed)
        out = []
        for k in range(20):
            out.append(search.ask())
            search.tell(out[-1], float(k))
        return out

    assert asked(3) == asked(3) != asked(4)


def test_a_space_of_one_point_is_asked_without_end():
    search = Genetic(Space({}))
    for _ in range(3):
        assert search.ask() == ()
        search.tell((), 1.0)
