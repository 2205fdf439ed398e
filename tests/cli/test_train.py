"""`dnnfusion db train`: a latency model from the database, found by planning afterwards."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cost.test_train import DEVICE, entries
from tvm_dnnfusion.cost.learned import LearnedCost, learned_cost
from tvm_dnnfusion.cost.learned.cost import file_name
from tvm_dnnfusion.profile import ProfileDB
from tvm_dnnfusion.profile.database import FILE_NAME
from tvm_dnnfusion.schedules.dispatch import VERSION

TRAIN = ("db", "train", "--target", DEVICE.name)


def fill(cache: Path, count: int) -> None:
    """Rows of this version's schedules, asked for by four models."""
    cache.mkdir(exist_ok=True)
    with ProfileDB(cache / FILE_NAME) as db:
        for i, row in enumerate(entries(str(VERSION))[:count]):
            db.put(row)
            db.ask(f"net{i % 4}", [row.key])


def test_training_says_how_good_it_is_on_models_left_out_and_planning_takes_it(call, tmp_path):
    pytest.importorskip("xgboost")
    cache = tmp_path / "cache"
    fill(cache, 120)
    answer = call(*TRAIN, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["file"] == str(cache / file_name(DEVICE)) and answer.json["rows"] == 120
    assert sorted(answer.json["left_out"]) == ["net0", "net1", "net2", "net3"]
    for name, figures in answer.json["left_out"].items():
        assert figures["rank_correlation"] > 0.5
        assert figures["median_factor"] < answer.json["analytic"][name]["median_factor"]
    cost = learned_cost(DEVICE)
    assert isinstance(cost, LearnedCost) and cost.forest.facts["rows"] == 120
    table = call(*TRAIN, "--output", tmp_path / "m.npz")
    assert "model left out" in table.out and (tmp_path / "m.npz").is_file()


def test_what_is_missing_is_named(call, tmp_path, monkeypatch):
    pytest.importorskip("xgboost")
    fill(tmp_path / "cache", 10)
    few = call(*TRAIN)
    assert few.code == 2 and "10 usable rows" in few.err and "dnnfusion profile" in few.err
    assert not (tmp_path / "cache" / file_name(DEVICE)).exists()
    monkeypatch.setitem(sys.modules, "xgboost", None)
    without = call(*TRAIN)
    assert without.code == 3 and "tvm-dnnfusion[tune]" in without.err
