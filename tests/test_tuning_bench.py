"""The table of untuned, tuned and TVM's tuned models."""

from __future__ import annotations

from benchmarks.tuning.__main__ import TOLERANCE, table


def side(ms: float) -> dict[str, float]:
    return {"median_ms": ms}


def test_gains_are_ratios_and_what_was_not_run_is_a_dash() -> None:
    full = {
        "untuned": side(3.0),
        "tuned": side(2.0),
        "tvm": side(6.0),
        "trials": 9,
        "tvm_trials": 8,
    }
    lines = table({"a": full, "b": {"untuned": side(1.0)}}).splitlines()
    assert lines[2] == "| a | 3.00 | 2.00 | 1.500 | 9 | 6.00 | 8 | 2.00 |"
    assert lines[3] == "| b | 1.00 | - | - | 0 | - | 0 | - |" and len(lines) == 4


def test_wrong_outputs_of_tvm_are_marked() -> None:
    row = {"untuned": side(1.0), "tvm": side(2.0)}
    right, wrong = {"errors": {"tvm": TOLERANCE}}, {"errors": {"tvm": 0.02}}
    text = table({"right": row | right, "wrong": row | wrong})
    assert "| 2.00 | 0 |" in text and "| 2.00\\* | 0 |" in text
    assert text.splitlines()[-1].endswith("as a share of the largest: wrong 2.0e-02")
