"""Training the latency model: XGBoost's trees as arrays, models left out, what is refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.profile_scale import block_text
from tvm_dnnfusion.cost.analytic import AnalyticCost
from tvm_dnnfusion.cost.learned import LearnedCost, train
from tvm_dnnfusion.cost.learned.features import NAMES
from tvm_dnnfusion.cost.learned.forest import load
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.profile import Entry, ProfileDB, entry_key, merge
from tvm_dnnfusion.profile.blocks import block_graph
from tvm_dnnfusion.schedules.dispatch import VERSION

DEVICE = registry.get("x86-64-v4")
ROOT = Path(__file__).parents[2]


def entry(n: int, factor: float, **change: object) -> Entry:
    """A row whose latency is the analytic estimate times a factor."""
    block = block_text(n)
    ops, graph = block_graph(block)
    us = AnalyticCost(DEVICE).latency_us(ops, graph).us * factor
    fields = {"device": DEVICE.name, "threads": DEVICE.cores, "schedule": "3", "spread": 0.01}
    fields |= change
    key = entry_key(block, str(fields["device"]), DEVICE.cores, str(fields["schedule"]))
    return Entry(key=key, block=block, latency_us=us, samples=5, when="", library="", **fields)  # type: ignore[arg-type]


def entries(schedule: str = "3") -> list[Entry]:
    """Convolutions of 16 to 215 channels; those that use half of each last vector are slower."""
    return [entry(n, 2.5 if n % 16 < 8 else 1.0, schedule=schedule) for n in range(0, 200)]


def rows(found: list[Entry]) -> train.Rows:
    asked = {e.key: (f"net{i % 4}",) for i, e in enumerate(found)}
    return train.rows_of(found, asked, DEVICE, "3")


def test_rows_of_other_devices_schedules_and_noise_are_left_out() -> None:
    found = [entry(1, 1.0), entry(2, 1.0, device="phone"), entry(3, 1.0, schedule="3.m2"),
             entry(4, 1.0, spread=0.5)]  # fmt: skip
    kept = rows(found)
    assert (len(kept.y), kept.x.shape, kept.models) == (1, (1, len(NAMES)), (("net0",),))
    assert kept.y[0] == pytest.approx(0.0)


def test_older_schedules_count_where_nothing_newer_was_measured() -> None:
    found = [entry(1, 1.0, schedule="3"), entry(1, 2.0, schedule="4"), entry(2, 3.0, schedule="3"),
             entry(3, 1.0, schedule="5")]  # fmt: skip
    kept = train.rows_of(found, {}, DEVICE, "4")
    assert np.exp(kept.y).round(3).tolist() == [2.0, 3.0], "of 1 the newer, of 3 nothing: too new"
    assert kept.versions == {"4": 1, "3": 1}


def test_the_rows_of_the_package_can_still_be_trained_on(tmp_path: Path) -> None:
    facts = load(Path(train.__file__).parent / "latency-cpu-x86_64.npz", NAMES).facts
    with ProfileDB(tmp_path / "p.sqlite") as db:
        merge(db, ROOT / "benchmarks/results/profile-x86_64.jsonl.xz")
        some = list(db.entries())[::40]
        (name,) = facts["devices"]
        spec = replace(DEVICE, name=name)
        assert len(train.rows_of(some, db.asked(), spec, str(VERSION)).y) >= 0.9 * len(some)


def test_a_forest_predicts_what_xgboost_does() -> None:
    xgboost = pytest.importorskip("xgboost")
    data = rows(entries())
    boosters = [
        xgboost.train({**train.PARAMETERS, "seed": s}, xgboost.DMatrix(data.x, data.y), 20)
        for s in range(2)
    ]
    forest = train.forest_of(boosters)
    ours = np.array([forest.predict(x) for x in data.x.tolist()])
    theirs = np.stack([b.predict(xgboost.DMatrix(data.x)) for b in boosters], axis=1)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert len(np.unique(theirs.round(4))) > 10


def test_models_left_out_are_predicted_and_training_is_deterministic() -> None:
    pytest.importorskip("xgboost")
    data = rows(entries())
    forest = train.train(data, DEVICE, "3")
    left_out, analytic = forest.facts["left_out"], forest.facts["analytic"]
    assert sorted(left_out) == ["net0", "net1", "net2", "net3"]
    for name, figures in left_out.items():
        assert figures["rank_correlation"] > 0.7
        assert figures["median_factor"] < 1.3 < analytic[name]["median_factor"]
    again = train.train(data, DEVICE, "3")
    assert again.facts == forest.facts
    np.testing.assert_array_equal(again.threshold, forest.threshold)


def test_a_members_rows_are_none_of_the_models_that_it_leaves_out() -> None:
    names = [f"net{i}" for i in range(17)]
    found = train._left_out(names)
    assert [sum(n in out for out in found) for n in names] == [train.OUT] * 17
    assert max(map(len, found)) - min(map(len, found)) <= 2


@pytest.mark.parametrize("count", [0, 20])
def test_too_few_rows_are_refused_with_what_to_do(count: int) -> None:
    pytest.importorskip("xgboost")
    with pytest.raises(train.TrainError, match=f"{count} usable rows.*dnnfusion profile"):
        train.train(rows(entries()[:count]), DEVICE, "3")


def test_without_xgboost_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(train.MissingXGBoost, match=r"pip install 'tvm-dnnfusion\[tune\]'"):
        train.require()


def test_the_model_of_the_package_beats_the_estimate_on_every_model_left_out() -> None:
    path = Path(train.__file__).parent / "latency-cpu-x86_64.npz"
    facts = load(path, NAMES).facts
    assert len(facts["left_out"]) >= 15 and facts["rows"] > 3000
    for name, figures in facts["left_out"].items():
        assert figures["rank_correlation"] > 0.9, name
        assert figures["p90_factor"] < facts["analytic"][name]["p90_factor"], name


def test_the_model_of_the_package_is_that_of_the_rows_beside_the_benchmarks(
    tmp_path: Path,
) -> None:
    """Two of three measured blocks lie within the uncertainty that is stated."""
    path = Path(train.__file__).parent / "latency-cpu-x86_64.npz"
    forest = load(path, NAMES)
    with ProfileDB(tmp_path / "p.sqlite") as db:
        merge(db, ROOT / "benchmarks/results/profile-x86_64.jsonl.xz")
        measured = [e for e in db.entries() if e.threads == 2 and e.latency_us > 1][::9]
        assert len(db.asked()) == len(db)
    spec = DEVICE.__class__(
        **{f: getattr(DEVICE, f) for f in DEVICE.__slots__}
        | {"cores": 2, "peak_gflops": 227.2, "bandwidth_gbs": 30.0, "l1_bytes": 32768,
           "l2_bytes": 1048576, "l3_bytes": 33554432}
    )  # fmt: skip
    cost = LearnedCost(forest, spec)
    factors = []
    within = 0
    for e in measured:
        found = cost.latency_us(*block_graph(e.block))
        factors.append(max(found.us / e.latency_us, e.latency_us / found.us))
        within += found.low_us <= e.latency_us <= found.high_us
    assert np.median(factors) < 1.15
    assert within / len(measured) > 0.68
