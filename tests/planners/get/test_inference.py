"""The explainers without torch give what those of torch-geometric give."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from benchmarks.planners.explained import above, guilty
from benchmarks.planners.get_plans import build, without_biases
from tvm_dnnfusion.cost.memory import Accounting, Setting, memory_model, network_of
from tvm_dnnfusion.gnn.files import explainer_weights, shipped
from tvm_dnnfusion.gnn.inference import Classifier, QuickGNNE, scorer
from tvm_dnnfusion.gnn.records import GroupGraph, Samples
from tvm_dnnfusion.planners.get.blocks import Blocks
from tvm_dnnfusion.planners.get.features import GroupEncoder, feature_count, node_features
from tvm_dnnfusion.planners.get.learn import random_networks
from tvm_dnnfusion.planners.get.planner import space_of
from tvm_dnnfusion.planners.get.samples import Recipe, samples_of


@pytest.fixture(scope="module")
def samples() -> Samples:
    return samples_of(random_networks(2, 0), Recipe("lbdf", buffers=(128, 256), groups=8))


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return explainer_weights(shipped("lbdf"), feature_count("lbdf"))


@pytest.fixture(scope="module")
def graphs(samples: Samples) -> list[GroupGraph]:
    chosen = [samples[int(k)] for k in np.flatnonzero(samples.invalid)]
    return sorted(chosen, key=lambda g: -len(g.nodes))[:8]


@pytest.fixture(scope="module")
def theirs(arrays):
    pytest.importorskip("torch_geometric")
    from tvm_dnnfusion.gnn.weights import load

    return load(shipped("lbdf"), feature_count("lbdf"))


def test_the_classifier_says_the_same(samples: Samples, arrays, theirs) -> None:
    from tvm_dnnfusion.gnn.model import logits

    mine = [Classifier(arrays).logit(samples[k]) for k in range(len(samples))]
    assert np.allclose(mine, logits(theirs.gnn, samples), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["pg", "rg"])
def test_trained_explainers_give_the_same_weights(name: str, graphs, arrays, theirs) -> None:
    mine, other = scorer(name, arrays), theirs.scorer(name)
    for graph in graphs:
        assert np.allclose(mine.weights(graph), other.weights(graph), rtol=1e-3, atol=1e-5)


def test_gnnexplainer_gives_the_same_mask_from_the_same_start(
    graphs, arrays, theirs, monkeypatch
) -> None:
    import torch
    from torch_geometric.explain import GNNExplainer

    mine, other = QuickGNNE(Classifier(arrays)), theirs.scorer("gnne")
    begun = GNNExplainer._initialize_masks
    unsure = sorted(graphs, key=lambda g: abs(Classifier(arrays).logit(g)))
    for graph in unsure[:3]:
        start = np.random.default_rng(1).normal(0, 0.3, graph.edges.shape[1]).astype(np.float32)

        def given(self, x, edges, start=start):
            begun(self, x, edges)
            self.edge_mask.data.copy_(torch.from_numpy(start))

        monkeypatch.setattr(GNNExplainer, "_initialize_masks", given)
        assert np.abs(mine.descended(graph, start) - other.weights(graph)).max() < 0.02


def test_masks_tell_edges_apart_and_repeat_themselves(graphs, arrays) -> None:
    """The mask that comes out is neither flat nor a matter of chance."""
    gnn = Classifier(arrays)
    graph = min(graphs, key=lambda g: abs(gnn.logit(g)))
    mask = QuickGNNE(gnn).weights(graph)
    assert mask.shape == (graph.edges.shape[1],)
    assert mask.min() > 0 and mask.max() < 1
    assert len(np.unique(mask)) > 1
    assert np.array_equal(mask, QuickGNNE(gnn).weights(graph))


def planted(seed: int, scheme: str) -> tuple[GroupGraph, np.ndarray]:
    """A chain of thin convolutions round two heavy ones that do not fit together, and which of its
    edges are guilty: a cut there leaves two parts that fit."""
    rng, net = Random(seed), Blocks()
    x = net.image(14, 16)
    for width in (*[16] * rng.randint(3, 7), 48, 48, *[16] * rng.randint(3, 7)):
        x = net.conv_act(x, width, 3 if width == 48 else 1)
    model = memory_model(scheme, network_of(net.graph(x), merge=False),
                         Setting(50 * 1024, accounting=Accounting.PAPER))  # fmt: skip
    space = space_of(model)
    assert not model.evaluate(space.all).valid
    features = node_features(model.network, model.setting, scheme)
    return GroupEncoder(space, features).encode(space.all), guilty(model, space, space.all)


@pytest.mark.parametrize("name", ["pg", "rg"])
def test_trained_explainers_rank_guilty_edges_first(name: str, arrays) -> None:
    found = []
    for seed in range(12):
        graph, at_fault = planted(seed, "lbdf")
        assert 0 < at_fault.sum() < 4
        weights = scorer(name, arrays).weights(graph)
        assert len(np.unique(weights)) > 3
        found.append(above(weights, at_fault))
    assert np.mean(found) > 0.75


def test_files_of_another_form_are_refused(tmp_path: Path) -> None:
    from tvm_dnnfusion.gnn.files import WeightsError

    with pytest.raises(WeightsError, match="not weights of this form"):
        explainer_weights(shipped("brr"), feature_count("lbdf"))


@pytest.mark.parametrize("name", ["resnet50", "squeezenet"])
def test_the_weights_judge_networks_that_they_were_not_trained_on(name: str, arrays) -> None:
    network = network_of(without_biases(build(name)), merge=False)
    found = samples_of([network], Recipe("lbdf", groups=20))
    gnn = Classifier(arrays)
    said = np.array([gnn.logit(found[k]) > 0 for k in range(len(found))])
    true = found.invalid > 0
    assert 2 * (said & true).sum() / (said.sum() + true.sum()) > 0.95  # F1
