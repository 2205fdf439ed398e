"""GET's tables from the rows of `get_plans`: printed figures beside ours, with spread over seeds.

python -m benchmarks.planners.get_report ROWS.jsonl ... --output planners-get.md --plot figure5.svg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.planners.get_papers import BUFFERS, PAPER, RECTIFIED, WHY
from benchmarks.planners.get_plans import EXPLAINERS

Row = dict[str, Any]
SHAPE = ("network", "scheme", "search", "kib")
NOTES = """
- Numbers are `mean (least to most) / seeds`, in MiB of 1,048,576 bytes, of the operators that can
  be fused; the paper prints one run, in "MB" of unstated size. `saves`: ours against `random` of
  the same search; in brackets what the paper's figures save.
- Why figures differ stands below each table.
- `memory`: this library's planner on the same operators, in the same accounting.
- `nsga2`: the population holds plans as they were split; random splits that happen to be good are
  then inherited, and the baseline ends near the best plan known, so that an explanation has little
  left to gain. `nsga2-plain`: the population holds plans as proposed and every plan is split anew,
  as where a library treats the objective as a black box (the paper uses OpenBox).
"""
TITLES = {
    2: "Table II: 256 KB, 5,000 plans",
    3: "Table III: local search, 128 KB, 2,000 plans",
    4: "Table IV: random search, 128 KB, 2,000 plans",
}


def rows_of(paths: Iterable[Path]) -> list[Row]:
    """All rows, each case once."""
    found: dict[tuple[Any, ...], Row] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            key = (*(row[k] for k in SHAPE), row["explainer"], row["seed"], row["fresh"])
            if key not in found or found[key]["plans"] < row["plans"]:
                found[key] = row
    return list(found.values())


def at(row: Row, plans: int) -> float:
    """MiB of the best plan among the first so many: the search does not know how many follow."""
    return [cost for count, cost in row["steps"] if count <= plans][-1]


def spread(values: Sequence[float]) -> str:
    """Mean, least and most, and how many."""
    if not values:
        return "not run"
    if len(values) == 1:
        return f"{values[0]:.2f} / 1"
    return f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f}) / {len(values)}"


def values(rows: Sequence[Row], shape: tuple[Any, ...], explainer: str, plans: int) -> list[float]:
    """One figure for each seed of a cell."""
    return [at(r, plans) for r in cell(rows, shape, explainer, plans)]


def cell(rows: Sequence[Row], shape: tuple[Any, ...], explainer: str, plans: int) -> list[Row]:
    """The rows of a cell, one for each seed."""
    return [
        r
        for r in rows
        if tuple(r[k] for k in SHAPE) == shape and r["explainer"] == explainer
        and r["plans"] >= plans and not r["fresh"]
    ]  # fmt: skip


def compared(rows: Sequence[Row], number: int) -> str:
    """Table II, III or IV."""
    shapes = [key for key in PAPER if (key[3] == 256) == (number == 2)]
    if number > 2:
        shapes = [s for s in shapes if s[2] == ("local" if number == 3 else "random")]
    else:
        plain = [(n, m, "nsga2-plain", k) for n, m, s, k in shapes if s == "nsga2"]
        shapes = [s for shape in shapes for s in (shape, *_plain_of(shape, plain))]
    head = ("network", "model", "search", "explainer", "paper", "ours", "saves %",
            *(("KB, paper", "KB, ours") if number == 2 else ()))  # fmt: skip
    lines = [f"## {TITLES[number]}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for shape, after in zip(shapes, [*shapes[1:], ("", "")]):
        lines += _lines(rows, shape, 5000 if number == 2 else 2000)
        if shape[:2] != after[:2]:
            lines.append(_ours(rows, shape, 2 if number == 2 else 0))
    return "\n".join([*lines, "", "Why figures differ from the printed ones:", "", *_why(shapes)])


def _why(shapes: Sequence[tuple[Any, ...]]) -> list[str]:
    """The reasons, each with the rows that it holds for."""
    found: dict[str, list[str]] = {}
    for network, model in dict.fromkeys(s[:2] for s in shapes):
        found.setdefault(WHY[network, model], []).append(f"{network} {model}")
    return [*(f"- {', '.join(rows)}: {why}." for why, rows in found.items()), ""]


def _plain_of(shape: tuple[Any, ...], plain: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [p for p in plain if shape[2] == "nsga2" and p[0] == shape[0]]


def _lines(rows: Sequence[Row], shape: tuple[Any, ...], plans: int) -> list[str]:
    network, scheme, search, kib = shape
    printed = PAPER[network, scheme, search.removesuffix("-plain"), kib]
    base = values(rows, shape, "random", plans)
    out: list[str] = []
    for explainer in EXPLAINERS:
        ours = values(rows, shape, explainer, plans)
        saves = ""
        if base and ours and explainer != "random":
            saves = f"{100 * (1 - mean(ours) / mean(base)):.1f}"
            if explainer in printed:
                saves += f" ({100 * (1 - printed[explainer] / printed['random']):.1f})"
        theirs = f"{printed[explainer]:.2f}" if explainer in printed else ""
        cells = [network, scheme, search, explainer, theirs, spread(ours), saves]
        if plans == 5000:
            cells += _largest(rows, shape, explainer)
        out.append(f"| {' | '.join(cells)} |")
    return out


def _ours(rows: Sequence[Row], shape: tuple[Any, ...], more: int) -> str:
    """The row of the planner `memory` on the same operators; `more`: empty cells at its end."""
    found = cell(rows, (shape[0], shape[1], "memory", shape[3]), "", 0)
    shown = f"{at(found[0], 0):.2f}" if found else "not run"
    return f"| {' | '.join([shape[0], shape[1], '`memory`', '', '', shown, *[''] * (1 + more)])} |"


def _largest(rows: Sequence[Row], shape: tuple[Any, ...], explainer: str) -> list[str]:
    """The largest buffer of a group, printed and ours (the first seed's)."""
    network, _, search, _ = shape
    printed = BUFFERS.get((network, search.removesuffix("-plain")), {}).get(explainer)
    mine = [r for r in cell(rows, shape, explainer, 5000) if r["seed"] == 0]
    return [f"{printed:.1f}" if printed else "", f"{mine[0]['mbu_kib']:.1f}" if mine else ""]


def rectified(rows: Sequence[Row]) -> str:
    """Table V."""
    lines = ["## Table V: MobileNet-v2, LBDF, 128 KB, 2,000 plans", "",
             "Processor seconds of searches with empty memories.", "",
             "| search | explainer | paper: rate %, s | ours: rate % | ours: s |",
             "|---|---|---|---|---|"]  # fmt: skip
    for (search, explainer), (rate, seconds) in RECTIFIED.items():
        mine = [
            r for r in rows if r["fresh"] and (r["search"], r["explainer"]) == (search, explainer)
        ]
        rates = spread([100 * r["rectify_rate"] for r in mine])
        times = spread([r["cpu_seconds"] for r in mine])
        lines.append(f"| {search} | {explainer} | {rate}, {seconds} | {rates} | {times} |")
    return "\n".join([*lines, "", "An invalid group counts as rectified where every part that the"
                      " explanations lead to fits; the paper's cuts are tried with fewer companions"
                      " of an edge (docs/get.md).", ""])  # fmt: skip


FIGURE5 = (("squeezenet", "brr", "local", 128), ("mobilenet-v2", "lbdf", "local", 128),
           ("vgg16", "lbdf", "random", 128))  # fmt: skip
BUDGETS = (1000, 2000, 3000, 4000)


def budgets(rows: Sequence[Row]) -> str:
    """Figure 5."""
    lines = ["## Figure 5: budgets", "", "Mean over seeds, MiB. The paper shows curves only: axes"
             " 6 to 9, 8.8 to 10.0 and 6.0 to 7.25 MB.", "",
             "| network | model | search | explainer | " + " | ".join(map(str, BUDGETS)) + " |",
             "|---|---|---|---|" + "---|" * len(BUDGETS)]  # fmt: skip
    for shape in FIGURE5:
        for explainer in EXPLAINERS:
            cells = [values(rows, shape, explainer, n) for n in BUDGETS]
            shown = [f"{mean(c):.2f} / {len(c)}" if c else "not run" for c in cells]
            lines.append(f"| {shape[0]} | {shape[1]} | {shape[2]} | {explainer} | "
                         + " | ".join(shown) + " |")  # fmt: skip
    return "\n".join([*lines, ""])


def draw(rows: Sequence[Row], path: Path) -> None:
    """Figure 5 as a picture. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, places = pyplot.subplots(1, len(FIGURE5), figsize=(13, 3.6))
    for axes, shape in zip(places, FIGURE5):
        for explainer in EXPLAINERS:
            cells = [values(rows, shape, explainer, n) for n in BUDGETS]
            if all(cells):
                axes.plot(BUDGETS, [mean(c) for c in cells], "o-", label=explainer)
        axes.set(xlabel="plans", ylabel="DRAM, MiB", title=" ".join(map(str, shape[:3])))
        axes.set_xticks(BUDGETS)
        if axes.lines:
            axes.legend()
    figure.savefig(path, bbox_inches="tight")
    pyplot.close(figure)


def main() -> None:
    """Write the page and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    rows = rows_of(args.rows)
    head = "# GET: tables II to V and figure 5\n\nMade by `benchmarks.planners.get_plans`" \
        " and `get_report`.\n" + NOTES  # fmt: skip
    tables = [compared(rows, n) for n in (2, 3, 4)]
    text = "\n".join([head, *tables, rectified(rows), budgets(rows)])
    args.output.write_text(text, encoding="utf-8")
    if args.plot:
        draw(rows, args.plot)


if __name__ == "__main__":
    main()
