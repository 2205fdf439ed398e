"""Tables for people: drawn by rich on a terminal, plain aligned columns anywhere else.

The plain form has no boxes, no colours and no line breaks inside a row, so that it can be piped to
grep, awk or a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tvm_dnnfusion.report.format import change_text, unit_text
from tvm_dnnfusion.report.stats import Stats


@dataclass(frozen=True, slots=True)
class TableData:
    """A table before it is drawn; `right` are the indices of right-aligned columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()
) -> TableData:
    """A table of strings."""
    return TableData(title, tuple(columns), tuple(tuple(r) for r in rows), frozenset(right))


def stats_table(stats: Stats) -> TableData:
    """The before / FuseOps / after table of one optimisation."""
    rows = [
        (
            row.title,
            unit_text(row.unit, row.before),
            unit_text(row.unit, row.fuseops),
            unit_text(row.unit, row.after),
            change_text(row.before, row.after),
        )
        for row in stats.rows
    ]
    columns = ("", "before", "FuseOps", "after", "change")
    return table("Fusion", columns, rows, right=(1, 2, 3, 4))


def show(console: Console, data: TableData) -> None:
    """Write a table to a console: drawn if it is a terminal, plain otherwise."""
    if console.is_terminal:
        console.print(_drawn(data))
    else:
        console.file.write(plain(data))
        console.file.flush()


def plain(data: TableData) -> str:
    """The table as aligned text: its title, a line of column names, a line per row."""
    lines = [data.columns, *data.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(data.columns))]
    out = [data.title] if data.title else []
    for line in lines:
        cells = (
            cell.rjust(widths[i]) if i in data.right else cell.ljust(widths[i])
            for i, cell in enumerate(line)
        )
        out.append("  ".join(cells).rstrip())
    return "\n".join(out) + "\n"


def _drawn(data: TableData) -> Table:
    out = Table(title=data.title or None, title_justify="left", header_style="bold")
    for i, name in enumerate(data.columns):
        out.add_column(name, justify="right" if i in data.right else "left", overflow="fold")
    for row in data.rows:
        # Text, not str: names such as "[conv]" must not be read as markup.
        out.add_row(*(Text(cell) for cell in row))
    return out
