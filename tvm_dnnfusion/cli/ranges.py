"""Ranges of numbers that several commands share, and the benchmarks with them."""

from __future__ import annotations

import math
from typing import Any

import click


class Finite(click.FloatRange):
    """A range without "nan", and without "inf" unless it is `endless`: both pass for numbers."""

    def __init__(
        self, min: float | None = None, *, min_open: bool = False, endless: bool = False
    ) -> None:
        super().__init__(min=min, min_open=min_open)
        self.endless = endless

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number. Raises click.BadParameter."""
        found = float(super().convert(value, param, ctx))
        if math.isnan(found) or (math.isinf(found) and not self.endless):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return found


SAMPLES = click.IntRange(min=3)
THREADS = click.IntRange(min=1)
PAUSE_S = Finite(min=0)
"""Seconds, none included."""
LIMIT_S = Finite(min=0, min_open=True)
"""Seconds that something may take."""
MAX_TIME_S = Finite(min=0, min_open=True, endless=True)
CELSIUS = Finite()
