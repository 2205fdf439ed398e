"""The published tables: on none of their cases does a planner move less than `memory`."""

from __future__ import annotations

from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[3] / "benchmarks/results/planners.md"
LEAST = "`memory` least"
PLANNERS = {"memory", "optimus", "optimus-online", "efficient-s", "dnnvm", "none", "get",
            "dnnfusion", "tvm"}  # fmt: skip


def tables() -> dict[str, list[dict[str, str]]]:
    """Title -> the rows of the tables that say whether `memory` moves least, by column."""
    found: dict[str, list[dict[str, str]]] = {}
    for part in RESULTS.read_text(encoding="utf-8").split("\n## ")[1:]:
        lines = [x.strip("| ").split(" | ") for x in part.splitlines() if x.startswith("| ")]
        if lines and lines[0][-1] == LEAST:
            found[part.partition("\n")[0]] = [dict(zip(lines[0], row)) for row in lines[1:]]
    return found


@pytest.mark.parametrize("title", ["Buffers", "Batches", "Everything charged"])
def test_no_planner_moves_less(title: str) -> None:
    ((_, rows),) = ((t, r) for t, r in tables().items() if t.startswith(title))
    assert len(rows) > 10
    for row in rows:
        shown = {p: row[p] for p in PLANNERS & row.keys() if row[p] != "not run"}
        cells = {p: float(text.rstrip("*")) for p, text in shown.items()}
        assert cells["memory"] == min(cells.values()), row
        assert row[LEAST] == "yes", row


def test_the_tables_cover_every_model_and_network() -> None:
    rows = next(r for t, r in tables().items() if t.startswith("Everything charged"))
    assert {row["model"] for row in rows} == {"brr", "lbdf", "tiles"}
    assert {"googlenet", "resnet152", "efficientnet-b3", "randwire-a"} <= {
        row["network"] for row in rows
    }
