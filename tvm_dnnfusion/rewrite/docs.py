"""docs/rules.md from the tables: `python -m tvm_dnnfusion.rewrite.docs [path]`.

FLOPs and loads are not written down anywhere: they are counted on each rule's own example at
several extents and fitted to a mn + b m + c n + d, the form in which table 4 of the paper gives
them. Loads are tensor elements read, op by op.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.rewrite.engine import rewrite
from tvm_dnnfusion.rewrite.example import example
from tvm_dnnfusion.rewrite.report import RewriteOptions
from tvm_dnnfusion.rewrite.rule import Family, Rule, all_rules
from tvm_dnnfusion.rewrite.work import Work

DEFAULT_PATH = Path("docs/rules.md")

_HEAD = """# Rewriting rules

Written by `python -m tvm_dnnfusion.rewrite.docs` from the tables in `tvm_dnnfusion/rewrite/rules/`;
do not edit.

In a pattern, upper-case names are tensors and names that start with K are constants; `**r` stands
for all attributes of an operator. Names of classes of operators match any of them: `unary`,
`monotone` (non-decreasing), `odd`, `even`, `keeps_zero`, `idempotent`, `binary`, `conv`,
`conv_transpose`, `max_pool`, `avg_pool`, `reduce`, `repeating`, `cutting` (slice), `gathering`
(take). Operands of a commutative operator match in any order, chains of an associative one in any
grouping.

FLOPs and loads (elements read, op by op) are counted on the rule's own example: A, B, .. are m x n,
rows m x 1; plain numbers are those of an example with other shapes. A rule marked "rounds" may
change the last bits of floating-point results and is left out under
`RewriteOptions(reassociate=False)`. A rule marked "always" is applied wherever it matches, one
marked "late" too, once no other applies; the others are ranked by the FLOPs, then the loads, then
the ops that they save on the graph at hand, and apply only where they save something.

The algebra is that of real numbers. Integers wrap and their division truncates, so outside of
Clean-up, which is exact on every type, only a rule marked "integers" applies to them. A rule marked
"range risk" may overflow or underflow where the original does not, in float16 long before float32:
it takes a product or a quotient under a root, a logarithm or a reciprocal, or squares what was not
squared. It is left out unless `RewriteOptions(range_risk=True)`. Of the ten rules that the paper
prints this concerns number 1, which squares 1 / A; the other nine are on. Regrouping the factors of
a product, as numbers 2 to 4 do, is a matter of rounding here, though it too may move the point at
which extreme values overflow.
"""

_TITLES = {
    Family.ASSOCIATIVE: "Associative rules",
    Family.DISTRIBUTIVE: "Distributive rules",
    Family.COMMUTATIVE: "Commutative rules",
    Family.FOLD: "Constants",
    Family.CLEANUP: "Clean-up",
    Family.EXPORTER: "Exporters' patterns",
}


def text() -> str:
    """The whole page."""
    parts = [_HEAD]
    for family, title in _TITLES.items():
        rules = [r for r in all_rules() if r.family is family]
        parts.append(f"## {title} ({len(rules)})\n")
        rows = [_row(r) for r in rules]
        parts.append(
            "| rule | before | after | FLOPs | loads | marks and conditions |\n"
            "|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def _row(r: Rule) -> str:
    flops, loads = _costs(r)
    name = f"{r.name} (table 4, no. {r.printed})" if r.printed else r.name
    marks = [w for w, on in _marks(r) if on]
    notes = [", ".join(marks)] if marks else []
    notes += [g.reason for g in r.guards] + ([r.note.rstrip(".")] if r.note else [])
    cells = (name, f"`{r.before}`", f"`{r.after}`", flops, loads, "; ".join(notes))
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def _marks(r: Rule) -> tuple[tuple[str, bool], ...]:
    return (
        ("always", r.always),
        ("late", r.late),
        ("rounds", r.reassociates),
        ("integers", r.integers),
        ("range risk", r.range_risk),
    )


def _costs(r: Rule) -> tuple[str, str]:
    """ "before -> after" for FLOPs and loads, or empty for a program."""
    if r.pattern is None:
        return "", ""
    before = _fitted(r, applied=False)
    after = _fitted(r, applied=True)
    return f"{before[0]} → {after[0]}", f"{before[1]} → {after[1]}"


_EXTENTS = ((6, 8), (12, 8), (6, 16), (12, 16))
"""(m, n) at which an example is counted: four points for four coefficients."""


def _fitted(r: Rule, applied: bool) -> tuple[str, str]:
    counts = []
    for extents in _EXTENTS:
        try:
            counts.append(_count(_graph(r, extents, applied)))
        except ValueError:  # the example has shapes of its own
            flops, loads = _count(_graph(r, None, applied))
            return str(flops), str(loads)
    return _formula([c[0] for c in counts]), _formula([c[1] for c in counts])


def _graph(r: Rule, extents: tuple[int, int] | None, applied: bool) -> Graph:
    """The example at other extents, before or after. Raises ValueError where it has its own."""
    graph = example(r, extents=extents).graph
    others = frozenset(x.name for x in all_rules() if x.name != r.name)
    kept = r.enabler or not applied
    return graph if kept else rewrite(graph, RewriteOptions(disabled=others, range_risk=True)).graph


def _count(graph: Graph) -> tuple[int, int]:
    work = Work(graph)
    loads = sum(graph.tensors[t].elements for op in graph.ops for t in dict.fromkeys(op.inputs))
    return work.total().flops, loads


def _formula(counts: list[int]) -> str:
    """a mn + b m + c n + d from the counts at _EXTENTS."""
    (m, n), (dm, dn) = _EXTENTS[0], _EXTENTS[3]
    base, more_m, more_n, both = counts
    a = (both - more_m - more_n + base) / ((dm - m) * (dn - n))
    b = (more_m - base) / (dm - m) - a * n
    c = (more_n - base) / (dn - n) - a * m
    d = base - a * m * n - b * m - c * n
    terms = [_term(k, x) for k, x in ((a, "mn"), (b, "m"), (c, "n"), (d, "")) if round(k, 6)]
    return " + ".join(terms).replace("+ -", "- ") or "0"


def _term(k: float, unit: str) -> str:
    number = f"{round(k, 3):g}"
    return unit if unit and number == "1" else number + unit


def main(arguments: list[str]) -> int:
    """Write the page."""
    path = Path(arguments[0]) if arguments else DEFAULT_PATH
    path.write_text(text(), encoding="utf-8")
    print(f"{path}: {len(all_rules())} rules")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
