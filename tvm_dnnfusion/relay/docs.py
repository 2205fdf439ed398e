"""Writes docs/relay.md: python -m tvm_dnnfusion.relay.docs [PATH]."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from tvm_dnnfusion.relay.docs_text import CHANGES, HEAD, LIMITS
from tvm_dnnfusion.relay.entry import Entry
from tvm_dnnfusion.relay.schema import STRUCTS
from tvm_dnnfusion.relay.table import SECTIONS, TABLE
from tvm_dnnfusion.relay.transform import INSTEAD, SAME

DEFAULT_PATH = Path(__file__).parents[2] / "docs" / "relay.md"


def text() -> str:
    """The page."""
    parts = [HEAD.strip(), "## From Relay to Relax, API by API", _table(("Relay", "now"), CHANGES)]
    parts += ["### Passes", _passes(), f"## Operators ({len(TABLE)})", _legend()]
    for title, rows in SECTIONS:
        parts += [f"### {title}", _operators(rows)]
    return "\n\n".join([*parts, "## What is not taken", LIMITS.strip()]) + "\n"


def _passes() -> str:
    same = [(f"`{old}`", f"`relax.transform.{new}`, under both names") for old, new in SAME.items()]
    gone = [(f"`{old}`", what) for old, what in INSTEAD.items()]
    return _table(("`relay.transform.`", "now"), sorted([*same, *gone]))


def _legend() -> str:
    return (
        "Attributes: `a` goes to Relax under the same name, `a -> b` under another; *a* is worked "
        "into the operators on the left; (a: why) has no effect; `a` in [..] must be one of these, "
        "else the call is reported."
    )


def _operators(rows: Iterable[Entry]) -> str:
    cells = [(f"`{e.relay}`", e.relax, _attributes(e), e.note) for e in rows]
    return _table(("Relay", "Relax", "attributes", "note"), sorted(cells))


def _attributes(entry: Entry) -> str:
    known = STRUCTS.get(entry.struct, {})
    passed = [f"`{a}`" if a == b else f"`{a} -> {b}`" for a, b in entry.passed.items()]
    used = [f"*{name}*" for name in entry.used]
    ignored = [f"({name}: {why})" for name, why in entry.ignored.items() if name in known]
    must = [f"`{name}` in [{_values(values)}]" for name, values in entry.must.items()]
    return ", ".join([*passed, *used, *ignored, *must])


def _values(values: Iterable[object]) -> str:
    return ", ".join("none" if v in ("", ()) else str(v) for v in values)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(arguments: list[str]) -> int:
    """Write the page."""
    path = Path(arguments[0]) if arguments else DEFAULT_PATH
    path.write_text(text(), encoding="utf-8")
    print(f"{path}: {len(TABLE)} operators")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
