"""The group `dnnfusion`, its lazily loaded commands, and `main` with the error handler."""

from __future__ import annotations

import atexit
import difflib
import importlib
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from types import FrameType

import click

from tvm_dnnfusion import __version__
from tvm_dnnfusion.cli.errors import describe, keep_traceback
from tvm_dnnfusion.cli.exits import Exit

COMMANDS: Mapping[str, str] = {
    "inspect": "Operators of a model by mapping type, FLOPs and intermediate bytes.",
    "optimize": "Rewrite, fuse, build and verify a model; write library, plan and report.",
    "plan": "Plan groups for a buffer with memory planners, side by side; build nothing.",
    "explain": "Why two layers were, or were not, fused, from a saved plan.",
    "verify": "Compare outputs with the unfused module and with ONNX Runtime.",
    "run": "Run a model or an optimised library once.",
    "bench": "Measure latency: median, p90, and per kernel.",
    "devices": "Devices to compile for and to run on; the virtual phone.",
    "tune": "Search for better parameters of a model's blocks, by measurement.",
    "gnn": "Train and check the graph network of the planner get.",
    "profile": "Measure the blocks that planning asks for, into the profile database.",
    "db": "The profile database: status, export, merge, training the latency model.",
    "doctor": "Check this installation and say how to mend it.",
    "rules": "List the rewriting rules.",
}
"""Command -> its line in `--help`; each is the function `command` of the module of its name."""


class LazyGroup(click.Group):
    """Loads a command's module when it is called, so that --help and doctor need no TVM."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        found = importlib.import_module(f"tvm_dnnfusion.cli.{cmd_name}").command
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with close matches for an unknown name: ours are not in `commands`."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in --help, without loading the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version=__version__, prog_name="dnnfusion")
def app() -> None:
    """Operator fusion for Apache TVM.

    Every command takes --json: the result as JSON on stdout, everything else on stderr. Exit codes:
    0 ok, 1 verification failed, 2 wrong use or input, 3 environment, 4 interrupted (the same
    command goes on), 5 a fault of this program.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Entry point: run a command and leave with its exit code."""
    argv = list(sys.argv[1:] if args is None else args)
    _leave(int(run(argv)))


def _leave(code: int) -> None:
    """End the process without waiting for threads.

    TVM's pool lets its threads yield 300,000 times before they look whether they shall end: nothing
    on an idle machine, minutes after the last word of the command on a busy one.
    """
    atexit._run_exitfuncs()  # temporary folders
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # the reader has left
        pass
    os._exit(code)


def run(argv: Sequence[str]) -> Exit:
    """Run a command and return its exit code; messages go to stderr, JSON to stdout."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    interrupts = _Interrupts()
    try:
        with interrupts, warnings.catch_warnings():
            warnings.showwarning = _warn
            result = app.main(list(argv), prog_name="dnnfusion", standalone_mode=False)
        return Exit(result) if isinstance(result, int) else Exit.OK
    except SystemExit:
        # The one case where click leaves by itself: the reader of our output is gone (| head).
        _discard_output()
        return Exit.OK
    except (Exception, KeyboardInterrupt) as error:
        # A Ctrl-C inside TVM comes back as an error of TVM's; our own says what is kept.
        told = getattr(error, "exit_code", None) == Exit.INTERRUPTED
        return _report(KeyboardInterrupt() if interrupts.came and not told else error, argv)


def _warn(message: Warning | str, category: type[Warning], *where: object) -> None:
    """A warning as one line; the place in the code that it comes from means nothing to users."""
    if not issubclass(category, DeprecationWarning):
        click.echo(f"warning: {message}", err=True)


def _discard_output() -> None:
    """The reader has left (| head): what Python still holds for it goes nowhere, silently."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Interrupts:
    """Remembers that SIGINT or SIGTERM came; both raise KeyboardInterrupt."""

    def __init__(self) -> None:
        self.came = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread: the program around us handles signals
                return

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt


def _report(error: BaseException, argv: Sequence[str]) -> Exit:
    failure = describe(error)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
    click.echo(f"error: {failure.message}", err=True)
    if not failure.expected:
        if "--traceback" in argv:
            click.echo("".join(traceback.format_exception(error)), err=True)
        else:
            path = keep_traceback(error)
            where = f"the traceback is in {path}" if path else "--traceback shows where"
            click.echo(f"This is a fault of dnnfusion; {where}.", err=True)
    if "--json" in argv:
        answer = {"error": failure.message, "kind": failure.kind, "exit_code": int(failure.code)}
        click.echo(json.dumps(answer))
    return failure.code
