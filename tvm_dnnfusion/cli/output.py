"""Where a command writes: its result on stdout, as text or as JSON; all else on stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tvm_dnnfusion.report.table import TableData, show


class Output:
    """The two channels of one command.

    Parameters
    ----------
    as_json : write the result with `emit` only, as one JSON document.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.result = Console(highlight=False, markup=False)
        self.notes = Console(stderr=True, highlight=False, markup=False)

    def emit(self, data: Any, *parts: TableData | str) -> None:
        """The result: `data` where JSON was asked for, else the parts one after another."""
        if self.as_json:
            click.echo(json.dumps(finite(data), indent=2))
            return
        self.show(parts)

    def show(self, parts: Iterable[TableData | str]) -> None:
        """Parts of a result for people, an empty line between them."""
        for i, part in enumerate(parts):
            if i:
                click.echo()
            if isinstance(part, str):
                click.echo(part)
            else:
                show(self.result, part)

    def note(self, text: str) -> None:
        """A line for people, on stderr."""
        click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """A warning, on stderr."""
        click.echo(f"warning: {text}", err=True)


def check_file_place(path: Path) -> None:
    """Raise ArtefactError now, and not after a minute's work, where the file cannot be written."""
    from tvm_dnnfusion.runtime.files import whole_file

    class Enough(Exception):
        pass

    with suppress(Enough), whole_file(path):
        raise Enough


def finite(data: Any) -> Any:
    """The data with NaN and infinities as strings: JSON has no such numbers."""
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    if isinstance(data, dict):
        return {str(k): finite(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(v) for v in data]
    return data
