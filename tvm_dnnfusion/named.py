"""Things that are known by name: planners, costs, memory models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def known_as(table: dict[str, T], what: str, name: str) -> Callable[[T], T]:
    """Decorator: put a thing of the sort `what` into a table under a name.

    Raises ValueError, when it decorates, where the name is taken.
    """

    def add(thing: T) -> T:
        if name in table:
            raise ValueError(f"a {what} named {name!r} is registered already")
        table[name] = thing
        return thing

    return add
