"""Do explanations name edges that are worth cutting? On groups of networks not trained on.

python -m benchmarks.planners.explained --scheme lbdf

An edge of a group that does not fit is guilty where a cut at it leaves two parts that fit; groups
count in which some edges are guilty and some are not. "above": how often a guilty edge weighs more
than another, 0.5 by chance. "hits": share of guilty ones among the 30 % of largest weight.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from random import Random
from statistics import mean

import numpy as np

from benchmarks.planners.get_plans import model_of
from benchmarks.planners.tables import section
from tvm_dnnfusion.cost.memory import MemoryModel
from tvm_dnnfusion.gnn.files import explainer_weights, shipped
from tvm_dnnfusion.gnn.inference import scorer
from tvm_dnnfusion.gnn.records import GroupGraph
from tvm_dnnfusion.planners.get.cuts import cuts_at
from tvm_dnnfusion.planners.get.features import GroupEncoder, feature_count, node_features
from tvm_dnnfusion.planners.get.planner import space_of
from tvm_dnnfusion.planners.get.space import Mask, Space
from tvm_dnnfusion.planners.get.synthetic import random_group

NETWORKS = ("squeezenet", "mobilenet-v2", "resnet50", "efficientnet-b0", "googlenet")
BUFFERS = (128, 256, 512)
GROUPS = 40
SHARE = 0.3

Told = tuple[GroupGraph, np.ndarray]
"""A group, and which of its edges are guilty."""


def guilty(model: MemoryModel, space: Space, group: Mask) -> np.ndarray:
    """Which edges of a group have a cut that leaves two parts that fit [edges]."""
    return np.array([
        any(all(model.evaluate(part).valid for part in cut) for cut in cuts_at(space, group, i, j))
        for i, j in space.inner(group)
    ])  # fmt: skip


def groups(network: str, scheme: str) -> Iterator[Told]:
    """Random groups of a network that do not fit, with some guilty edges."""
    for kib in BUFFERS:
        model, rng = model_of(network, scheme, kib), Random(f"{network}/{kib}")
        space = space_of(model)
        encoder = GroupEncoder(space, node_features(model.network, model.setting, scheme))
        for _ in range(GROUPS):
            group = random_group(space, rng)
            if group is None or model.evaluate(group).valid:
                continue
            found = guilty(model, space, group)
            if found.any() and not found.all():
                yield encoder.encode(group), found


def above(weights: np.ndarray, found: np.ndarray) -> float:
    """How often a guilty edge weighs more than another."""
    a, b = weights[found][:, None], weights[~found][None]
    return float((a > b).mean() + (a == b).mean() / 2)


def hits(weights: np.ndarray, found: np.ndarray) -> float:
    """Share of guilty edges among those of largest weight."""
    count = max(1, round(SHARE * len(weights)))
    return float(found[np.argsort(-weights, kind="stable")[:count]].mean())


def judged(weigh: Callable[[GroupGraph], np.ndarray], told: Sequence[Told]) -> list[str]:
    """`above` and `hits`, means over groups."""
    pairs = [(weigh(graph), found) for graph, found in told]
    return [f"{mean(above(w, f) for w, f in pairs):.2f}",
            f"{mean(hits(w, f) for w, f in pairs):.2f}"]  # fmt: skip


def main() -> None:
    """Print the table of a memory model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scheme", choices=("lbdf", "brr"), required=True)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    options = parser.parse_args()
    told = [t for name in options.networks for t in groups(name, options.scheme)]
    arrays = explainer_weights(shipped(options.scheme), feature_count(options.scheme))
    rng = np.random.default_rng(0)
    rows = [["random", *judged(lambda graph: rng.random(graph.edges.shape[1]), told)]]
    for name in ("gnne", "pg", "rg"):
        rows.append([name, *judged(scorer(name, arrays).weights, told)])
    title = f"Explanations of {len(told)} groups, {options.scheme}"
    print(section(title, ("explainer", "above", "hits"), rows))


if __name__ == "__main__":
    main()
