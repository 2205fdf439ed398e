"""Parameters of the templates: what a search may choose, where nothing is said analytically.

A template asks for each of its choices by name, with the analytic one as the default and the values
that it could do with instead:

    rows = choices.pick("strip_rows", analytic, lambda: divisors(height))

Without parameters every answer is the default, and the kernel is what it always was. What was asked
for spans the space of a block, so a space needs no second description that could differ from the
template (`tuning/space.py`). Answers that do not fit a block raise `ParamsError`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

Value = int | bool | tuple[int, ...]

ATTR = "dnnfusion.params"
"""The attribute of a kernel that carries its parameters to the schedule; absent without any."""


class ParamsError(Exception):
    """A parameter has a value that the template cannot use; the message names both."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class TemplateParams:
    """The choices of one kernel; None leaves a choice to the template's own model.

    `winograd` is the m of F(m, r), 0 the direct template; `winograd_tiles` rows of a register tile
    and register tiles of a group. `tile` is the register tile: rows, columns and vectors of a
    convolution, rows and vectors of a product, or of planes. `rows_first` takes all channels of a
    strip of rows before the next one, of at most `strip_rows`. `share_columns` has the cores share
    columns (of a product: rows) too. `unroll` writes out at most so many steps of the innermost
    fold. `columns` is the tile of windows channel by channel. Attention: `query_vectors` and
    `value_vectors` side by side, `keys` of a tile of scores, `query_rows` of a tile of the result,
    `by_head` a task per head. `parallel_elements` is the work below which no second thread is
    woken.
    """

    winograd: int | None = None
    winograd_tiles: tuple[int, ...] | None = None
    tile: tuple[int, ...] | None = None
    rows_first: bool | None = None
    strip_rows: int | None = None
    share_columns: bool | None = None
    unroll: int | None = None
    columns: int | None = None
    query_vectors: int | None = None
    value_vectors: int | None = None
    keys: int | None = None
    query_rows: int | None = None
    by_head: bool | None = None
    parallel_elements: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            if not _is_of(value, _KINDS[name]):
                raise ParamsError(f"parameter {name} is {value!r}; it takes {_KINDS[name]}")

    def given(self) -> dict[str, Value]:
        """The choices that are made, by name."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    def text(self) -> str:
        """The choices as JSON with sorted names: equal parameters have equal texts."""
        return json.dumps(self.given(), sort_keys=True, separators=(",", ":"))

    def __bool__(self) -> bool:
        return bool(self.given())


_KINDS = {
    f.name: "a tuple of numbers, 1 or more"
    if "tuple" in str(f.type)
    else "True or False"
    if "bool" in str(f.type)
    else "a number, 0 or more"
    for f in fields(TemplateParams)
}

DEFAULT = TemplateParams()


def params_of(values: object) -> TemplateParams:
    """Parameters from names and values, or from their JSON text.

    Raises ParamsError for a text that is no JSON object, names that there are not and values of
    another kind.
    """
    if isinstance(values, str):
        try:
            values = json.loads(values)
        except json.JSONDecodeError as error:
            raise ParamsError(f"{values[:60]!r} are no parameters: {error}") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{values!r} are no parameters; give names with values")
    unknown = sorted(set(values) - set(_KINDS))
    if unknown:
        raise ParamsError(f"no parameter {unknown[0]!r}; there are {', '.join(_KINDS)}")
    made: dict[str, Any] = {
        str(k): tuple(v) if isinstance(v, (list, tuple)) else v for k, v in values.items()
    }
    return TemplateParams(**made)


def _is_of(value: object, kind: str) -> bool:
    if kind == "True or False":
        return isinstance(value, bool)
    if kind == "a number, 0 or more":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, tuple) and bool(value) and all(type(v) is int and v > 0 for v in value)


@dataclass
class Choices:
    """What a template asks its questions of: the parameters given, and what was asked for.

    `offers` collects the values by name where a search wants them; `used` are the parameters that
    were answers, in the form in which they were used.
    """

    params: TemplateParams = DEFAULT
    offers: dict[str, tuple[Value, ...]] | None = None
    used: dict[str, Value] = field(default_factory=dict)

    def pick(
        self,
        name: str,
        default: Value,
        offered: Callable[[], Iterable[Any]],
        fits: Callable[[Any], bool] | None = None,
    ) -> Any:
        """The value of a parameter: as given, else the default.

        `fits` says whether a value can be used at all; without it only those offered can.
        """
        value = getattr(self.params, name)
        self._offer(name, offered)
        if value is None:
            return default
        if not (fits(value) if fits is not None else value in tuple(offered())):
            raise ParamsError(f"parameter {name}={value!r} does not fit the block")
        self.used[name] = value
        return value

    def at_most(self, name: str, default: int, offered: Callable[[], Iterable[int]]) -> int:
        """The largest value offered that is no larger than the parameter; else the default."""
        value = getattr(self.params, name)
        self._offer(name, offered)
        if value is None:
            return default
        below = [v for v in offered() if v <= value]
        if not below:
            raise ParamsError(f"parameter {name}={value!r} is below all that the block can do with")
        self.used[name] = max(below)
        return max(below)

    def _offer(self, name: str, offered: Callable[[], Iterable[Any]]) -> None:
        if self.offers is not None:
            both = (*self.offers.get(name, ()), *offered())
            self.offers[name] = tuple(dict.fromkeys(both))


def divisors(n: int, most: int | None = None) -> tuple[int, ...]:
    """The divisors of a number, those up to `most`, in order."""
    return tuple(d for d in range(1, (most or n) + 1) if n % d == 0)
