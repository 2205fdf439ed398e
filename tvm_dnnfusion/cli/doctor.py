"""`dnnfusion doctor`: what is installed, what works, and how to mend the rest."""

from __future__ import annotations

from collections.abc import Iterable

import click

from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.checks import Line, State, all_checks
from tvm_dnnfusion.cli.exits import Exit
from tvm_dnnfusion.cli.output import Output


@click.command("doctor")
@options.common
def command(as_json: bool) -> int:
    """Check this installation: ok, warn or fail per line, and how to mend it.

    Exits with 3 when something is broken; warnings do not count.
    """
    return emit_lines(all_checks(), as_json)


def emit_lines(checks: Iterable[Line], as_json: bool) -> Exit:
    """Write findings as they come, or all as JSON; the exit code that they mean."""
    output = Output(as_json)
    lines: list[Line] = []
    for line in checks:
        lines.append(line)
        if not as_json:
            click.echo(_text(line, colour=output.result.is_terminal))
    broken = [line.name for line in lines if line.state in (State.FAIL, State.TODO)]
    if as_json:
        output.emit(
            {
                "ok": not broken,
                "checks": [
                    {"name": x.name, "state": x.state.value, "text": x.text, "mend": x.mend}
                    for x in lines
                ],
            }
        )
    return Exit.ENVIRONMENT if broken else Exit.OK


def _text(line: Line, colour: bool) -> str:
    state = f"{line.state.value:4}"
    if colour:
        colours = {State.OK: "green", State.FAIL: "red"}
        state = click.style(state, fg=colours.get(line.state, "yellow"))
    word = "do it" if line.state is State.TODO else "mend it"
    mend = f"\n      {word}: {line.mend}" if line.mend else ""
    return f"{state}  {line.name}: {line.text}{mend}"
