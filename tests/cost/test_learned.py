"""The latency model: features, forests, what it answers and where it does not fit."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.profile.graphs import conv_add_relu
from tvm_dnnfusion.cost.analytic import AnalyticCost
from tvm_dnnfusion.cost.learned import Forest, ForestError, LearnedCost, learned_cost
from tvm_dnnfusion.cost.learned.cost import family, file_name, form_of, misfit, with_threads
from tvm_dnnfusion.cost.learned.features import NAMES, features
from tvm_dnnfusion.cost.learned.forest import load, save
from tvm_dnnfusion.cost.learned.train import spearman
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.ecg.graph import Graph, Lit, Op, Ref, Tensor

DEVICE = registry.get("x86-64-v4")
FACTS = {
    "features": list(NAMES), "family": "cpu-x86_64", "vector_bits": [512], "cores": [2, 4],
    "floor": 0.1, "scale": 2.0,
}  # fmt: skip


def stump(name: str = "ops", at: float = 2.5) -> Forest:
    """Two members: log factor 0.5 or -0.5 below `at`; 0.0 or 1.0 from there on."""
    f = NAMES.index(name)
    return Forest(
        np.array([f, 0, 0, f, 0, 0], np.int32),
        np.array([at, 0.5, 0.0, at, -0.5, 1.0], np.float32),
        np.array([1, -1, -1, 4, -1, -1], np.int32),
        np.array([2, -1, -1, 5, -1, -1], np.int32),
        np.array([0, 3], np.int32),
        np.array([0, 1], np.int32),
        FACTS,
    )


def test_every_feature_has_a_name_and_a_number() -> None:
    graph = conv_add_relu()
    for ops in (graph.ops, graph.ops[:1], graph.ops[1:2]):
        found = features(ops, graph, DEVICE)
        assert len(found) == len(NAMES) == len(set(NAMES))
        assert all(np.isfinite(found))
    found = dict(zip(NAMES, features(graph.ops, graph, DEVICE)))
    conv = dict(zip(NAMES, features(graph.ops[:1], graph, DEVICE)))
    assert (found["ops"], found["kind_conv"], found["type_many_to_many"]) == (5, 1, 1)
    assert found["anchor_taps"] == conv["anchor_taps"] == pytest.approx(np.log2(10))
    assert found["flops"] > conv["flops"] and found["bytes_inside"] > 0 == conv["bytes_inside"]
    assert (found["vector_bits"], found["cores"]) == (512, DEVICE.cores)


def test_a_forest_sends_smaller_values_left_and_sums_each_member() -> None:
    below, above = [0.0] * len(NAMES), [9.0] * len(NAMES)
    assert stump().predict(below).tolist() == [0.5, -0.5]
    assert stump().predict(above).tolist() == [0.0, 1.0]


def test_an_estimate_is_the_analytic_one_times_the_factor_with_the_members_spread() -> None:
    graph = conv_add_relu()
    cost = LearnedCost(stump(), DEVICE)
    found, base = (c.latency_us(graph.ops, graph) for c in (cost, AnalyticCost(DEVICE)))
    assert found.source == "learned"
    assert found.us == pytest.approx(base.us * np.exp(0.5))
    assert found.uncertainty == pytest.approx(np.exp(2.0 * np.hypot(0.1, 0.5)) - 1)
    assert found.low_us < found.us < found.high_us


def test_a_file_comes_back_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    save(stump(), path)
    again = load(path, NAMES)
    assert again.predict([9.0] * len(NAMES)).tolist() == [0.0, 1.0]
    assert again.facts["cores"] == [2, 4]
    with pytest.raises(ForestError, match="other features"):
        load(path, NAMES[:-1])
    (tmp_path / "none.npz").write_bytes(b"PK\x03\x04 not really")
    for name in ("none.npz", "absent.npz"):
        with pytest.raises(ForestError, match="holds no latency model"):
            load(tmp_path / name, NAMES)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vector_bits": 256}, "no vectors of 256 bits"),
        ({"cores": 64}, "2 to 4 cores, not 64"),
        ({"kind": "gpu"}, "not of gpu-llvm"),
        ({"target": (("kind", "llvm"), ("mtriple", "aarch64-linux-gnu"))}, "not of cpu-aarch64"),
    ],
)
def test_a_model_says_nothing_of_devices_that_it_does_not_fit(
    change: dict[str, object], reason: str
) -> None:
    other = replace(DEVICE, **change)  # type: ignore[arg-type]
    assert reason in str(misfit(FACTS, other))
    with pytest.raises(ForestError, match="does not fit"):
        LearnedCost(stump(), other)
    assert misfit(FACTS, DEVICE) is None


def test_the_users_model_goes_first_and_a_broken_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DNNFUSION_CACHE", str(tmp_path))
    path = tmp_path / file_name(DEVICE)
    save(stump(), path)
    found = learned_cost(DEVICE)
    assert isinstance(found, LearnedCost) and found.forest.count == 2
    path.write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        learned_cost(DEVICE)
    assert str(path) in caplog.text


def test_where_no_model_fits_the_analytic_estimate_answers() -> None:
    assert isinstance(learned_cost(registry.get("cortex-a72")), AnalyticCost)
    assert family(registry.get("cortex-a72")) == "cpu-aarch64"


def test_views_and_barriers_are_left_to_the_analytic_estimate() -> None:
    tensors = {"x": Tensor("x", (2, 8), "float32"), "y": Tensor("y", (16,), "float32")}
    view = Op("v", "reshape", (Ref("x"), Lit("shape", (16,))), ("y",))
    graph = Graph(tensors, (view,), ("x",), ("y",)).check()
    found = LearnedCost(stump(), DEVICE).latency_us(graph.ops, graph)
    assert (found.us, found.source) == (0.0, "analytic")


def test_equal_groups_are_predicted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {n: Tensor(n, (2, 8), "float32") for n in "xabc"}
    ops = [Op(n, "nn.relu", (Ref(m),), (n,)) for m, n in ("xa", "ab", "bc")]
    graph = Graph(tensors, tuple(ops), ("x",), ("c",)).check()
    groups = [tuple(ops[:1]), tuple(ops[1:2]), tuple(ops[:2]), tuple(ops[1:])]
    other = replace(graph, tensors={n: Tensor(n, (4, 8), "float32") for n in "xabc"})
    asked: list[int] = []
    predict = Forest.predict
    monkeypatch.setattr(Forest, "predict", lambda f, x: asked.append(1) or predict(f, x))
    cost = LearnedCost(stump(), DEVICE)
    found = [cost.latency_us(g, graph) for g in groups]
    assert found[0] == found[1] and found[2] == found[3] and len(asked) == 2
    assert form_of(groups[0], graph) != form_of(groups[0], other)
    kept = replace(graph, outputs=("a", "c"))
    assert form_of(groups[2], kept) != form_of(groups[2], graph), "a leaves"


def test_fewer_threads_are_a_device_of_fewer_cores() -> None:
    device = replace(DEVICE, peak_gflops=400.0)
    assert (with_threads(device, 1).cores, with_threads(device, 1).peak_gflops) == (1, 100.0)


def test_ranks_of_equal_values_are_shared() -> None:
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1)
    some = spearman(np.array([1.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert some == pytest.approx(0.9486833)
