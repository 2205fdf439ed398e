"""The table of a tuning: block, best, trials, share of peak; live on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import rich.live
from rich.table import Table

from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.profile.trials import TIME
from tvm_dnnfusion.report.table import TableData, table

if TYPE_CHECKING:
    from tvm_dnnfusion.tuning.tuner import State

SHOWN = 20
"""Blocks in the live table, the costliest first."""
COLUMNS = ("block", "template", "times", "untuned", "best", "gain", "trials", "failed", "of peak")
RIGHT = range(2, len(COLUMNS))


def block_rows(states: Sequence[State]) -> list[dict[str, Any]]:
    """The blocks as plain data."""
    return [
        {
            "block": s.task.name,
            "template": s.task.subject.kind,
            "blocks": list(s.task.blocks),
            "untuned": s.own,
            "best": s.best,
            "trials": s.trials,
            "failed": s.failed,
            "flops": s.task.subject.flops,
        }
        for s in states
    ]


def blocks_table(title: str, states: Sequence[State], device: DeviceSpec) -> TableData:
    """All blocks, the costliest first."""
    ordered = sorted(states, key=lambda s: -s.cost)
    return table(title, COLUMNS, [_row(s, device) for s in ordered], right=RIGHT)


def _row(state: State, device: DeviceSpec) -> tuple[str, ...]:
    own, best = state.own, state.best
    gain = f"{own / best:.2f}x" if own and best else "-"
    timed = state.task.subject.unit == TIME
    return (
        state.task.name,
        state.task.subject.kind,
        str(len(state.task.blocks)),
        _cost(own),
        _cost(best),
        gain,
        str(state.trials),
        str(state.failed),
        share_text(state.task.subject.flops, best, device.peak_gflops) if timed else "-",
    )


def share_text(flops: int, best_us: float | None, peak_gflops: float) -> str:
    """The part of a device's peak that a kernel reaches, direct-convolution FLOPs counted."""
    if not best_us or not peak_gflops:
        return "-"
    return f"{flops / best_us / 1e3 / peak_gflops:.0%}"


def _cost(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


class Live:
    """Shows a tuning as it goes: a table on a terminal, lines of what got better elsewhere."""

    def __init__(self, output: Output, budget: int, device: DeviceSpec) -> None:
        self._output, self._budget, self._device = output, budget, device
        self._best: dict[str, float] = {}
        console = output.notes
        self._live = rich.live.Live(console=console) if console.is_terminal else None

    def __enter__(self) -> Live:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, states: Sequence[State], state: State | None) -> None:
        """A trial was made."""
        done = sum(s.trials for s in states)
        if self._live is not None:
            title = f"{done} of {self._budget} trials"
            shown = blocks_table(title, sorted(states, key=lambda s: -s.cost)[:SHOWN], self._device)
            self._live.update(_drawn(shown))
        elif state is not None and state.best is not None:
            name = state.task.name
            if state.best < self._best.get(name, float("inf")):
                self._best[name] = state.best
                unit = state.task.subject.unit
                self._output.note(f"{done}/{self._budget} {name}: {state.best:,.1f} {unit}")


def _drawn(data: TableData) -> Table:
    out = Table(title=data.title, title_justify="left")
    for i, column in enumerate(data.columns):
        out.add_column(column, justify="right" if i in data.right else "left", no_wrap=True)
    for row in data.rows:
        out.add_row(*row)
    return out
