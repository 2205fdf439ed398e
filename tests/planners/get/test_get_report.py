"""The tables of GET: a row at a budget, spread over seeds, printed figures beside ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.planners.get_plans import Case, cases, measured
from benchmarks.planners.get_report import at, compared, rows_of, spread, values


def row(explainer: str, seed: int, steps: list[list[float]], **more: object) -> dict:
    base = {"network": "mobilenet-v2", "scheme": "lbdf", "search": "local", "kib": 128,
            "plans": 2000, "fresh": False}  # fmt: skip
    return {**base, "explainer": explainer, "seed": seed, "steps": steps, **more}


def test_a_row_knows_every_smaller_budget() -> None:
    found = row("rg", 0, [[1, 9.0], [700, 7.5], [1500, 7.0]])
    assert [at(found, n) for n in (500, 700, 1499, 2000)] == [9.0, 7.5, 7.5, 7.0]


def test_cells_have_mean_spread_and_what_is_saved(tmp_path: Path) -> None:
    rows = [row("random", s, [[1, 10.0 + s]]) for s in (0, 1)] + [row("pg", 0, [[1, 8.4]])]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in [*rows, rows[0]]))
    read = rows_of([file])
    assert len(read) == 3
    assert values(read, ("mobilenet-v2", "lbdf", "local", 128), "random", 2000) == [10.0, 11.0]
    assert values(read, ("mobilenet-v2", "lbdf", "local", 128), "random", 5000) == []
    assert spread([10.0, 11.0]) == "10.50 (10.00 to 11.00) / 2"
    line = next(
        x for x in compared(read, 3).splitlines() if "mobilenet-v2 | lbdf | local | pg" in x
    )
    assert "9.07 | 8.40 / 1 | 20.0 (7.5)" in line  # 9.068 printed, 9.803 for random
    assert "not run" in compared(read, 3)


def test_cases_cover_the_tables() -> None:
    assert len(cases(2, 5, ("rg",))) == 3 + 5 * 12
    assert len(cases(3, 1, ("rg",))) == len(cases(4, 1, ("rg",))) == 10 + 10
    assert {c.plans for c in cases(6, 1, ("rg",))} == {4000}


@pytest.mark.parametrize("explainer", ["random", "pg"])
def test_a_case_is_measured(explainer: str) -> None:
    found = measured(Case("squeezenet", "lbdf", "local", 128, 15, explainer, 0))
    again = measured(Case("squeezenet", "lbdf", "local", 128, 15, explainer, 0), fresh=True)
    assert found["steps"] == again["steps"]
    assert found["steps"][-1][1] == pytest.approx(found["dram_mib"], abs=1e-3)
    costs = [cost for _, cost in found["steps"]]
    assert costs == sorted(costs, reverse=True)


def test_the_planner_memory_stands_beside_the_searches() -> None:
    ours = measured(Case("squeezenet", "lbdf", "memory", 128, 0, "", 0))
    theirs = measured(Case("squeezenet", "lbdf", "local", 128, 15, "informed", 0))
    assert ours["dram_mib"] <= theirs["dram_mib"]
    assert f"squeezenet | lbdf | `memory` |  |  | {at(ours, 0):.2f} |" in compared([ours], 3)
