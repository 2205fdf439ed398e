"""Memory planners: partitions, the exact optimum, budgets and interrupts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import inf

import pytest

from benchmarks.planners.networks import build
from tests.cost.memory.nets import random_network, residual, squeeze
from tvm_dnnfusion.cost.memory import (
    Accounting,
    MemoryModel,
    Network,
    Setting,
    memory_model,
    network_of,
)
from tvm_dnnfusion.planners.memory import (
    Budget,
    Convex,
    PartitionError,
    convex,
    explain_invalid,
    get_partitioner,
    partition,
)
from tvm_dnnfusion.planners.memory.search import Partition, cost_of, ordered, singles

BUFFERS = (300, 900, 2500, 8000)
ALL = ("memory", "optimus", "optimus-online", "efficient-s", "dnnvm", "exact")


def every_partition(items: list[int]) -> Iterator[list[int]]:
    """All partitions of a set into groups, as bit sets."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for size in range(len(rest) + 1):
        for chosen in itertools.combinations(rest, size):
            group = sum(1 << i for i in (first, *chosen))
            for others in every_partition([i for i in rest if i not in chosen]):
                yield [group, *others]


def optimum(model: MemoryModel) -> float:
    """The least cost over all partitions whose groups can run one after the other."""
    net = model.network
    found = (
        cost_of(model, groups)
        for groups in every_partition(list(range(net.n)))
        if all(model.evaluate(g).valid for g in groups) and net.acyclic(groups)
    )
    return min(found, default=inf)  # a layer that not even its own tiles fit has no plan


@pytest.mark.parametrize("kind", ["brr", "lbdf", "tiles"])
@pytest.mark.parametrize("seed", range(12))
def test_ours_and_exact_are_the_optimum_of_all_partitions(seed: int, kind: str) -> None:
    net = random_network(seed, layers=5)
    for buffer in BUFFERS:
        model = memory_model(kind, net, Setting(buffer, word_bytes=1))
        least = optimum(model)
        for name in ("exact", "memory"):
            found = partition(get_partitioner(name), model)
            assert found.dram_bytes == least, (name, buffer)
            assert found.complete


@pytest.mark.parametrize("seed", range(8))
def test_ours_is_never_worse(seed: int) -> None:
    net = random_network(seed, layers=10)
    for buffer in BUFFERS[1::2]:
        model = memory_model("brr", net, Setting(buffer, word_bytes=1))
        costs = {name: partition(get_partitioner(name), model).dram_bytes for name in ALL}
        assert costs["memory"] == min(costs.values()), buffer
        assert costs["exact"] == costs["memory"]


def test_neighbourhoods_alone_reach_the_optimum_here() -> None:
    """With no evaluations for the exact search, runs planned anew get there."""
    model = memory_model("brr", network_of(build("squeezenet")), Setting(128 * 1024))
    exact = partition(Convex(), model)
    windows = partition(Convex(evaluations=0), model)
    assert exact.complete
    assert windows.dram_bytes <= 1.01 * exact.dram_bytes


@pytest.mark.parametrize(("name", "kib"), [("resnet50", 128), ("mobilenet-v2", 128),
                                           ("efficientnet-b3", 1024)])  # fmt: skip
def test_online_within_five_percent_of_offline(name: str, kib: int) -> None:
    model = memory_model("brr", network_of(build(name)), Setting(kib * 1024))
    offline = partition(get_partitioner("optimus"), model).dram_bytes
    online = partition(get_partitioner("optimus-online"), model).dram_bytes
    assert offline <= online <= 1.05 * offline


def test_the_exact_search_ends_where_states_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few groups, many states: what may be looked at is bounded, and the plan is not worse."""
    model = memory_model("brr", network_of(build("googlenet")), Setting(128 * 1024))
    online = partition(get_partitioner("optimus-online"), model).dram_bytes
    monkeypatch.setattr(convex, "EXACT_GROUPS", 50)
    found = partition(Convex(rounds=4), model)
    assert found.complete and found.dram_bytes <= online
    assert found.evaluations < 8000  # the exact search evaluates 11,600


def test_fusion_moves_less_than_no_fusion() -> None:
    model = memory_model("brr", network_of(build("squeezenet")), Setting(128 * 1024))
    alone = cost_of(model, singles(model))
    found = {n: partition(get_partitioner(n), model).dram_bytes for n in ALL if n != "exact"}
    assert found["memory"] <= found["optimus"] < found["efficient-s"] < found["dnnvm"] < alone
    assert found["memory"] < 0.35 * alone


def test_larger_buffers_never_move_more() -> None:
    net = network_of(squeeze())
    costs = [
        partition(Convex(), memory_model("brr", net, Setting(size))).dram_bytes
        for size in (256, 512, 1024, 4096, 1 << 16)
    ]
    assert costs == sorted(costs, reverse=True)


def test_exact_refuses_what_it_cannot_finish() -> None:
    model = memory_model("brr", network_of(build("resnet18")), Setting(1 << 17))
    with pytest.raises(PartitionError, match="up to 16 layers"):
        partition(get_partitioner("exact"), model)


def test_a_spent_budget_gives_the_best_plan_so_far() -> None:
    model = memory_model("brr", network_of(build("googlenet")), Setting(1 << 17))
    found = partition(get_partitioner("optimus"), model, Budget(seconds=0.0))
    assert not found.complete and not found.interrupted
    assert sum(found.groups) == model.network.everything


class Interrupted:
    """A search that a person stops after its second offer."""

    def search(self, model: MemoryModel, budget: Budget) -> Partition:
        groups = singles(model)
        budget.offer(groups, 2.0)
        joined = (groups[0] | groups[1], *groups[2:])
        budget.offer(joined, 1.0)
        raise KeyboardInterrupt


def test_the_best_plan_survives_an_interrupt() -> None:
    model = memory_model("brr", network_of(residual()), Setting(1 << 12))
    found = partition(Interrupted(), model)
    assert found.interrupted and not found.complete
    assert found.groups[0] == 0b11


def test_an_interrupt_before_any_plan_is_one() -> None:
    class Early(Interrupted):
        def search(self, model: MemoryModel, budget: Budget) -> Partition:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        partition(Early(), memory_model("brr", network_of(residual()), Setting(1 << 12)))


@pytest.mark.parametrize(
    ("groups", "says"),
    [((0b11, 0b110, 0b111000), "stands in two groups"), ((0b1,), "no group holds layer"),
     ((0b010001, 0b101110), "wait for each other")],
)  # fmt: skip
def test_what_is_no_partition_is_refused(groups: Partition, says: str) -> None:
    model = memory_model("brr", network_of(residual()), Setting(1 << 12))
    with pytest.raises(PartitionError, match=says):
        ordered(model, groups)


def test_operators_at_fault_are_a_core_that_does_not_fit() -> None:
    net = network_of(build("vgg16"))
    model = memory_model("lbdf", net, Setting(128 * 1024))
    group = 0b11111
    assert not model.evaluate(group).valid
    blamed = explain_invalid(model, group)
    layers = [v.index for v in net.layers if v.ops[0] in blamed]
    core = sum(1 << i for i in layers)
    assert not model.evaluate(core).valid
    for end in (layers[0], layers[-1]):
        rest = core & ~(1 << end)
        assert not rest or model.evaluate(rest).valid


def test_published_accounting_is_searched_too() -> None:
    net: Network = network_of(build("resnet18"))
    model = memory_model("brr", net, Setting(1 << 17, accounting=Accounting.PAPER))
    ours = partition(Convex(), model).dram_bytes
    assert ours <= partition(get_partitioner("optimus"), model).dram_bytes


def test_ours_is_not_worse_where_it_is_not_exact() -> None:
    """A wide random network, far beyond the exact search's evaluations."""
    model = memory_model("lbdf", network_of(build("randwire-a")), Setting(256 * 1024))
    online = partition(get_partitioner("optimus-online"), model).dram_bytes
    ours = partition(Convex(evaluations=0, rounds=4), model).dram_bytes
    assert ours <= online


def test_windows_larger_than_their_maps_have_a_plan() -> None:
    """Dilated convolutions at the end of DeepLabV3: 73 rows of window on 33 rows of map."""
    model = memory_model("brr", network_of(build("deeplab-v3")), Setting(128 * 1024))
    assert cost_of(model, singles(model)) < inf
