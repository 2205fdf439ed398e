"""Labelled groups for the validity classifier, from random networks or given ones.

The label is the memory model's own check, so that any number of samples costs only time: about a
millisecond each. Networks are seen both with every primitive operator as a node and with simple
ones merged, and under five buffer sizes (section A.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import nan
from random import Random

from tvm_dnnfusion.cost.memory.model import memory_model
from tvm_dnnfusion.cost.memory.network import Network
from tvm_dnnfusion.cost.memory.setting import Accounting, Setting
from tvm_dnnfusion.gnn.records import GroupGraph, Samples, packed
from tvm_dnnfusion.planners.get.cuts import cuts_at
from tvm_dnnfusion.planners.get.features import GroupEncoder, node_features
from tvm_dnnfusion.planners.get.space import Mask, Space, members
from tvm_dnnfusion.planners.get.synthetic import random_group

BUFFERS = (128, 256, 512, 1024, 2048)
"""KiB, as in the paper."""
GROUPS = 14
"""Groups drawn per network and buffer."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is sampled: memory model ("lbdf", "brr"), buffers in KiB, words, and how many groups."""

    scheme: str
    buffers: tuple[int, ...] = BUFFERS
    word_bytes: int = 2
    groups: int = GROUPS
    accounting: Accounting = Accounting.PAPER

    def setting(self, kib: int) -> Setting:
        """The setting for one of the buffers."""
        return Setting(kib * 1024, self.word_bytes, accounting=self.accounting)


def samples_of(
    networks: Sequence[Network], recipe: Recipe, seed: int = 0, progress: Progress | None = None
) -> Samples:
    """Labelled groups of the networks; `source` numbers the network. Same seed, same samples."""
    graphs: list[GroupGraph] = []
    labels: list[bool] = []
    shares: list[float] = []
    source: list[int] = []
    for number, network in enumerate(networks):
        rng = Random(f"{seed}/{number}")
        for kib in recipe.buffers:
            for graph, invalid, share in _drawn(network, recipe, kib, rng):
                graphs.append(graph)
                labels.append(invalid)
                shares.append(share)
                source.append(number)
        if progress is not None:
            progress("samples", number + 1, len(networks))
    return packed(graphs, labels, shares, source)


def _drawn(
    network: Network, recipe: Recipe, kib: int, rng: Random
) -> Iterable[tuple[GroupGraph, bool, float]]:
    setting = recipe.setting(kib)
    model = memory_model(recipe.scheme, network, setting)
    space = Space(network.n, network.edges, members(model.unfusable()))
    encoder = GroupEncoder(space, node_features(network, setting, recipe.scheme))
    known: dict[Mask, None] = {}
    for _ in range(recipe.groups):
        group = random_group(space, rng)
        if group is not None:
            known[group] = None
            for part in _parts(space, group, rng):
                known[part] = None
    for group in known:
        found = model.evaluate(group)
        share = found.buffer_bytes / setting.buffer_bytes
        told = share > 0 and (share < 1) == found.valid
        yield encoder.encode(group), not found.valid, share if told else nan


def _parts(space: Space, group: Mask, rng: Random) -> Iterable[Mask]:
    """Both sides of one random cut: what a splitter asks about."""
    i, j = rng.choice(space.inner(group))
    cuts = cuts_at(space, group, i, j)
    sides = rng.choice(cuts) if cuts else ()
    return [side for side in sides if side & (side - 1)]
