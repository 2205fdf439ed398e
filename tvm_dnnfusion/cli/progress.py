"""Progress while a command works: a live line on a terminal, one line per phase elsewhere.

Everything goes to stderr, so that a result on stdout can be piped.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Phases:
    """The phases of one command, as a callable that is told where the work stands.

    `phases("lower", 12, 60)` says that phase "lower" has done 12 of 60 steps; the first word alone
    begins a phase. A phase ends where the next begins, or with the `with` block.
    """

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._began = 0.0
        self._task: TaskID | None = None
        self.current = ""
        self.seconds: dict[str, float] = {}
        self._live: Progress | None = None
        if console.is_terminal and not quiet:
            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description:10}"),
                BarColumn(bar_width=28),
                TextColumn("{task.fields[detail]}"),
                TimeElapsedColumn(),
                console=console,
            )

    def __enter__(self) -> Phases:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(failed=error is not None)
        if self._live is not None:
            self._live.stop()

    def __call__(self, phase: str, done: int = 0, total: int | None = None) -> None:
        """Say where the work stands."""
        if phase != self.current:
            self._end()
            self._begin(phase)
        if self._live is not None and self._task is not None:
            detail = f"{done}/{total}" if total else ""
            self._live.update(self._task, completed=done, total=total, detail=detail)

    def note(self, text: str) -> None:
        """Say why a phase takes long, as a line of its own."""
        if not self._quiet:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _begin(self, phase: str) -> None:
        self.current = phase
        self._began = time.perf_counter()
        if self._live is not None:
            self._task = self._live.add_task(phase, total=None, detail="")

    def _end(self, failed: bool = False) -> None:
        if not self.current:
            return
        seconds = time.perf_counter() - self._began
        self.seconds[self.current] = self.seconds.get(self.current, 0.0) + seconds
        word = "failed" if failed else "done"
        if self._live is not None and self._task is not None:
            self._live.update(self._task, total=1, completed=int(not failed), detail=word)
            self._live.stop_task(self._task)
        elif not self._quiet:
            print(f"{self.current}: {word} in {seconds:.1f} s", file=self._console.file, flush=True)
        self.current = ""
