"""The tables of executed instructions, and what the results in the repository hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.instructions import records
from benchmarks.instructions.records import Result, Row
from benchmarks.models import model_names

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks/results/instructions.json"
CLOSE = 1e-4
"""Largest deviation of our outputs on ARM from ONNX Runtime's on x86, over the largest value."""


def test_marks_count_kernels_and_models() -> None:
    near = Row("near", "conv", 1, 400, 112, 100, 90, 100.0)
    far = Row("far", "matmul", 1, 400, 130, 100, 90, 100.0)
    light = Row("light", "conv", 1, 1, 900, 1, 1, 1.0)  # too small a part of the multiply-adds
    results = [
        records.summed("a", "dnnfusion", (near, far, light), 0.0),
        Result("a", "zero", 801, 9 * 1142),
        records.summed("b", "dnnfusion", (near,), 0.0),
        Result("b", "zero", 400, 20 * 112),
        Result("c", "zero", problem="does not compile"),
    ]
    text = records.to_markdown("cortex-a76", results)
    assert "2 of 3 heavy kernels that have an ideal are within 1.15" in text
    assert "1 of 2 models execute at most a tenth" in text and "fewer times: a (9.0)" in text
    assert "| a | near | conv | 1 | 0.0 | 1.120 | 89% | 80% | 1.12 |" in text
    assert "light" not in text and "does not compile" in text


def _results() -> dict[str, dict[str, dict[str, Any]]]:
    """By model, by peer."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for r in json.loads(RESULTS.read_text(encoding="utf-8"))["results"]:
        found.setdefault(r["model"], {})[r["peer"]] = r
    return found


def test_the_results_hold_equal_outputs_on_arm_and_fewer_instructions() -> None:
    """Counted on the virtual phone; the outputs there against ONNX Runtime's on x86."""
    found = {name: peers for name, peers in _results().items() if "dnnfusion" in peers}
    assert {*model_names(light=False), "squeezenet", "shufflenet"} <= set(found)
    for name, peers in found.items():
        ours = peers["dnnfusion"]
        assert not ours["problem"] and ours["difference"] <= CLOSE, name
        assert ours["all"] == sum(row["all"] for row in ours["rows"]) > 0
        assert all(ours["all"] < peers[p]["all"] for p in ("zero", "ort") if p in peers), name
