"""The closed forms against a walk through the execution, on random small groups."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.cost.memory.nets import random_network
from tests.cost.memory.simulator import sliced_words, walk_pixels, walk_rows, walk_tiles
from tvm_dnnfusion.cost.memory import LbdfModel, Network, Role, Setting, TileModel, bits
from tvm_dnnfusion.cost.memory.brr import BrrModel, Schedule

SEEDS = range(24)


def groups(net: Network, seed: int) -> Iterator[int]:
    """Convex connected groups of a network whose maps are read row by row."""
    gen = random.Random(seed)
    plain = sum(1 << v.index for v in net.layers if not any(u.whole for u in v.uses))
    found: set[int] = set()
    for _ in range(200):
        group = gen.randrange(1, 1 << net.n) & plain
        for part in net.components(group):
            if net.is_convex(part) and part not in found:
                found.add(part)
                yield part


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_that_wait(seed: int) -> None:
    """No map ever holds more than the closed form says; nearly all hold exactly that."""
    net = random_network(seed)
    model = BrrModel(net, Setting(1 << 20))
    exact: Counter[bool] = Counter()
    for group in groups(net, seed):
        frame = model.paces.frame(group)
        if frame is None:
            continue
        for height in (1, 2, 3, 11):
            rates = dict(zip(frame.maps, frame.delta))
            trace = walk_rows(net, group, rates, height)
            for k, m in enumerate(frame.maps):
                assert trace.most(m) <= frame.waiting(k, height), (group, m, height)
                exact[trace.most(m) == frame.waiting(k, height)] += 1
                if k >= frame.outside:
                    assert abs(trace.steps(m) - frame.steps_of(k, height)) <= 1
    assert exact[True] > 0.6 * exact.total()


@pytest.mark.parametrize("seed", SEEDS)
def test_buffer_of_a_schedule(seed: int) -> None:
    """Slices and rows together never take more than `Schedule.words`, and DRAM traffic agrees."""
    net = random_network(seed)
    model = BrrModel(net, Setting(1 << 20))
    for group in groups(net, seed):
        frame = model.paces.frame(group)
        if frame is None:
            continue
        for start in (False, True):
            plan = model.scheduled(frame, start)
            check_phases(net, plan)
            for height in (1, 2, 7, 20):
                trace = walk_rows(net, group, dict(zip(frame.maps, frame.delta)), height)
                taken = 0
                for k, m in enumerate(frame.maps):
                    c, cols = frame.channels[k], frame.cols[k]
                    part = model.setting.accelerator.slice_of(c) if m in plan.sliced else c
                    taken += sliced_words(trace, m, c, part, cols)
                assert taken <= plan.words(height)


def check_phases(net: Network, plan: Schedule) -> None:
    """Every layer finds its operands: in full, or slice by slice in the phase that makes them."""
    reads: dict[int, set[int]] = {}
    for i, now in plan.phases.items():
        for use in net.layers[i].uses:
            s = use.source
            reads.setdefault(s, set()).add(now)
            if s not in plan.phases:  # from outside: sliced ones stream in, in one phase
                continue
            by_slices = plan.phases[s] == now and s in plan.thin
            accumulated = s not in plan.thin and any(
                u.source in plan.sliced for u in net.layers[s].uses
            )
            complete = plan.phases[s] + (s in plan.thin or accumulated) <= now
            assert by_slices or (complete and s not in plan.sliced)
            if by_slices and not complete and net.layers[i].role is Role.SUM:
                assert i not in plan.thin  # adding up over channels: sums are kept, in full
            assert net.layers[i].role is not Role.ALL or complete
    for s in plan.sliced:
        assert len(reads.get(s, ())) <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_traffic(seed: int) -> None:
    """Words in, out and of weights, row by row."""
    net = random_network(seed)
    buffer = random.Random(seed).choice((600, 1500, 4000, 20000))
    model = BrrModel(net, Setting(buffer, word_bytes=1))
    for group in groups(net, seed):
        cost = model.rows(group)
        if not cost.valid:
            continue
        assert cost.used_bytes < buffer
        assert cost.buffer_bytes <= cost.used_bytes
        frame = model.paces.frame(group)
        assert frame is not None
        read = sum(net.elements(m) for m in net.external_inputs(group))
        written = sum(net.elements(i) for i in bits(net.external_outputs(group)))
        assert (cost.input_bytes, cost.output_bytes) == (read, written)
        weights = [net.layers[i].weights + net.layers[i].extras for i in bits(group)]
        least = sum(weights)
        assert cost.weight_bytes >= least
        assert cost.dram_bytes == cost.moved_bytes
        if cost.resident or cost.tiles == 1:
            assert cost.weight_bytes == least


@pytest.mark.parametrize("seed", SEEDS)
def test_pixels_that_wait(seed: int) -> None:
    """LBDF: no map holds more pixels than its lines."""
    net = random_network(seed, layers=5)
    model = LbdfModel(net, Setting(1 << 24))
    for group in groups(net, seed):
        lasts = [i for i in bits(group) if not net.succs[i] & group]
        if len(lasts) > 1 or model._alone.paces.frame(group) is None:
            continue
        most = walk_pixels(net, group, lasts[0])
        held = {h.map: h.elements // net.map_of(h.map).channels for h in model.held(group)}
        assert {m: n for m, n in most.items() if n > held[m]} == {}


@pytest.mark.parametrize("seed", range(8))
def test_tiles_that_wait(seed: int) -> None:
    """Cocco's tiles with the rows beside them: no map holds more; together they hold most of it."""
    net = random_network(seed, layers=5)
    model = TileModel(net, Setting(1 << 24))
    walked = said = 0
    for group in itertools.islice(groups(net, seed), 10):
        frame = model._alone.paces.frame(group)
        columns = None if frame is None else model._alone.paces.columns(frame, True)
        if frame is None or columns is None:
            continue
        most = walk_tiles(net, group, dict(zip(frame.maps, frame.delta)),
                          dict(zip(frame.maps, columns[0])))  # fmt: skip
        held = {h.map: h.elements // net.map_of(h.map).channels for h in model.held(group)}
        assert {m: n for m, n in most.items() if n > held[m]} == {}, group
        walked, said = walked + sum(most.values()), said + sum(held.values())
    assert walked > 0.5 * said
