"""`dnnfusion rules`: the rewriting rules, what each does and when it may."""

from __future__ import annotations

from typing import Any

import click

from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.report.names import close_names
from tvm_dnnfusion.report.table import table
from tvm_dnnfusion.rewrite import Rule, all_rules


@click.command("rules")
@click.argument("name", required=False)
@click.option("--family", metavar="FAMILY", help="Only rules of this family.")
@options.common
def command(name: str | None, family: str | None, as_json: bool) -> None:
    """List the rewriting rules, or show the one called NAME with its conditions."""
    output = Output(as_json)
    if name is not None:
        rule = _find(name)
        output.emit(_data(rule), _text(rule))
        return
    found = [r for r in all_rules() if family is None or r.family.value == _family(family)]
    rows = [
        (
            r.name,
            r.family.value,
            "changes" if r.reassociates else "keeps",
            f"{r.before} → {r.after}",
        )
        for r in found
    ]
    title = f"{len(found)} rewriting rules"
    columns = ("rule", "family", "rounding", "before → after")
    output.emit([_data(r) for r in found], table(title, columns, rows))


def _find(name: str) -> Rule:
    known = {r.name: r for r in all_rules()}
    if name not in known:
        close = close_names(name, known)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise click.UsageError(f"no rule is named {name!r}{hint}")
    return known[name]


def _family(text: str) -> str:
    known = tuple(dict.fromkeys(r.family.value for r in all_rules()))
    for value in known:
        if text.lower() in (value, value.replace(" ", "-")):
            return value
    raise click.UsageError(f"no family is named {text!r}; there are {', '.join(known)}")


def _text(rule: Rule) -> str:
    rounding = "changes (--no-reassociate leaves it out)" if rule.reassociates else "kept"
    lines = [
        f"{rule.name} ({rule.family.value})",
        f"  before  {rule.before}",
        f"  after   {rule.after}",
        f"  rounding: {rounding}",
        *(["  range: may overflow or underflow; off by default"] if rule.range_risk else []),
        *(f"  if {guard.reason}" for guard in rule.guards),
    ]
    if rule.printed is not None:
        lines.append(f"  row {rule.printed} of the paper's table 4")
    return "\n".join([*lines, *([f"  {rule.note}"] if rule.note else [])])


def _data(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "family": rule.family.value,
        "before": rule.before,
        "after": rule.after,
        "guards": [guard.reason for guard in rule.guards],
        "reassociates": rule.reassociates,
        "integers": rule.integers,
        "range_risk": rule.range_risk,
        "printed": rule.printed,
        "note": rule.note,
    }
