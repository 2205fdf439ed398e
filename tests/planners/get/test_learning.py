"""What the classifier is fed, and that it and its explainers learn. Skipped without torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.planners.get.worlds import Keeper, lbdf, mobile_graph
from tvm_dnnfusion.cost.memory import network_of
from tvm_dnnfusion.planners.get.features import GroupEncoder, feature_count, node_features
from tvm_dnnfusion.planners.get.planner import GetSearch
from tvm_dnnfusion.planners.get.samples import Recipe, samples_of
from tvm_dnnfusion.planners.get.space import Space, members
from tvm_dnnfusion.planners.get.synthetic import random_group, random_network

HAS_TORCH = importlib.util.find_spec("torch_geometric") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch-geometric is not installed")
SMALL = Recipe("lbdf", buffers=(128, 512), groups=8)


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_are_networks(seed: int):
    graph = random_network(seed)
    assert graph.check() == graph
    network = network_of(graph, merge=bool(seed % 2))
    assert network.n > 5
    assert network.components(network.everything) == (network.everything,)


def test_random_groups_are_groups():
    model = lbdf(mobile_graph(), 64)
    space = Space(model.network.n, model.network.edges, members(model.unfusable()))
    rng = Random(0)
    groups = [random_group(space, rng) for _ in range(100)]
    sizes = [g.bit_count() for g in groups if g is not None]
    assert len(sizes) > 80
    assert max(sizes) > 15 and min(sizes) == 2
    for group in groups:
        if group is not None:
            assert space.connected(group) and space.convex(group) and not group & space.fixed


def test_features_say_what_the_layer_is_and_repeated_blocks_share_a_signature():
    model = lbdf(mobile_graph(6), 64)
    space = Space(model.network.n, model.network.edges)
    rows = node_features(model.network, model.setting, "lbdf")
    assert rows.shape == (model.network.n, feature_count("lbdf"))
    assert np.isfinite(rows).all()
    encoder = GroupEncoder(space, rows)
    joins = [v.index for v in model.network.layers if v.name.startswith("add")]
    period = joins[1] - joins[0]
    block = sum(1 << v for v in range(joins[0] + 1, joins[1] + 1))
    later = encoder.signature(block << period) if joins[2] - joins[1] == period else None
    assert later is None or encoder.signature(block) == later
    assert encoder.signature(block) != encoder.signature(block >> 1)
    graph = encoder.encode(block)
    assert len(graph.nodes) == period
    assert graph.edges.shape[0] == 2 and graph.edges.max() < period


def test_samples_are_labelled_by_the_exact_check():
    samples = samples_of([network_of(random_network(3), merge=False)], SMALL)
    again = samples_of([network_of(random_network(3), merge=False)], SMALL)
    assert np.array_equal(samples.nodes, again.nodes)
    assert np.array_equal(samples.invalid, again.invalid)
    assert 0 < samples.invalid.mean() < 1
    assert len(samples[0].nodes) >= 2
    taken = samples.take([4, 1])
    assert np.array_equal(taken[1].edges, samples[1].edges)
    assert taken.invalid[0] == samples.invalid[4]


@pytest.fixture(scope="module")
def trained():
    """A classifier and explainers after a minute's worth of learning, shortened."""
    pytest.importorskip("torch_geometric")
    import torch

    from tvm_dnnfusion.gnn import walk
    from tvm_dnnfusion.gnn.explain import PG
    from tvm_dnnfusion.gnn.train import fit
    from tvm_dnnfusion.gnn.weights import Trained
    from tvm_dnnfusion.planners.get.learn import random_networks

    torch.set_num_threads(1)
    train = samples_of(random_networks(12, 0), SMALL)
    test = samples_of(random_networks(4, 500), SMALL)
    gnn, losses = fit(train, test, seed=0, epochs=8)
    pg, rg = PG(gnn, epochs=3), walk.RG(gnn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "EPOCHS", 2)
        patch.setattr(walk, "GROUPS_PER_EPOCH", 32)
        rewards = rg.fit(train)
    facts = {"losses": losses, "pg": pg.fit(train), "rewards": rewards}
    return Trained(gnn, pg, rg, facts), test


def test_the_classifier_learns(trained):
    from tvm_dnnfusion.gnn.train import score

    made, test = trained
    losses = made.facts["losses"]
    assert losses[-1] < 0.7 * losses[0]
    found = score(made.gnn, test)
    always = 2 * test.invalid.mean() / (1 + test.invalid.mean())  # F1 of saying "invalid" always
    assert found.f1 > max(0.7, always)


def test_training_is_reproducible():
    pytest.importorskip("torch_geometric")
    import torch

    from tvm_dnnfusion.gnn.train import fit

    torch.set_num_threads(1)
    samples = samples_of([network_of(random_network(3), merge=False)], SMALL)
    runs = [fit(samples, samples, seed=s, epochs=2)[1] for s in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_explainers_weigh_every_edge_and_repeat_themselves(trained):
    made, test = trained
    graph = max((test[k] for k in np.flatnonzero(test.invalid)), key=lambda g: g.edges.shape[1])
    for name in ("gnne", "pg", "rg"):
        scorer = made.scorer(name)
        first, second = scorer.weights(graph), scorer.weights(graph)
        assert first.shape == (graph.edges.shape[1],)
        assert np.array_equal(first, second), name
        assert first.max() > 0
    assert len(np.unique(made.scorer("pg").weights(graph))) > 1


def test_the_walk_gives_a_connected_part(trained):
    made, test = trained
    for k in np.flatnonzero(test.invalid)[:20]:
        graph = test[int(k)]
        weights = made.rg.weights(graph)
        kept = graph.edges[:, weights > 0]
        if kept.size:
            nodes = sorted(set(kept.ravel().tolist()))
            place = {v: n for n, v in enumerate(nodes)}
            pairs = [(place[a], place[b]) for a, b in kept.T.tolist()]
            space = Space(len(nodes), [(min(p), max(p)) for p in pairs])
            assert space.connected(space.all)


def test_weights_come_back_from_a_file(trained, tmp_path: Path):
    from tvm_dnnfusion.gnn.files import WeightsError
    from tvm_dnnfusion.gnn.model import logits
    from tvm_dnnfusion.gnn.weights import load, save

    made, test = trained
    path = tmp_path / "w.npz"
    save(made, path)
    again = load(path, feature_count("lbdf"))
    assert again.facts == made.facts
    assert np.abs(logits(again.gnn, test) - logits(made.gnn, test)).max() < 0.3
    with pytest.raises(WeightsError, match="not weights of this form"):
        load(path, feature_count("lbdf") + 1)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot read"):
        load(path, feature_count("lbdf"))
    with pytest.raises(WeightsError, match="cannot read"):
        load(tmp_path / "none.npz", feature_count("lbdf"))


@needs_torch
@pytest.mark.parametrize("scheme", ["lbdf", "brr"])
def test_the_shipped_weights_know_a_network_that_they_were_not_trained_on(scheme: str):
    from benchmarks.planners.networks import build
    from tvm_dnnfusion.gnn.files import shipped
    from tvm_dnnfusion.gnn.weights import load
    from tvm_dnnfusion.planners.get.learn import judged

    made = load(shipped(scheme), feature_count(scheme))
    assert made.facts["networks_not_trained_on"]["f1"] > 0.95
    network = network_of(build("resnet18"), merge=True)
    found = judged(made, samples_of([network], Recipe(scheme, groups=16), seed=11))
    assert found["invalid"] > 40
    assert found["f1"] > 0.95


@needs_torch
@pytest.mark.parametrize("explainer", ["rg", "pg", "gnne"])
def test_searches_run_with_the_shipped_weights(explainer: str):
    model = lbdf(mobile_graph(), 64)
    space = Space(model.network.n, model.network.edges, members(model.unfusable()))
    found = {}
    for name in (explainer, "random"):
        keeper = Keeper(space)
        made = GetSearch(name, "local", 30)
        made.search(model, keeper)
        assert keeper.best is not None and made.figures is not None
        found[name] = made.figures
    assert found[explainer].rectify_rate > 0.3
