"""Options of the planner `get` for the command line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
NAMES = ("explainer", "search", "plans", "seed", "weights")


def get_options(command: F) -> F:
    """--explainer, --search, --plans, --seed and --weights, as one argument `get`: those given."""
    flags = (
        click.option("--explainer", metavar="NAME", help="Of planner get, where to split what does "
                     "not fit: rg, pg, gnne (learned), informed (exact figures), random."),
        click.option("--search", metavar="NAME", help="Of planner get: nsga2, nsga2-plain (both "
                     "need the extra search), local, random."),
        click.option("--plans", type=click.IntRange(min=1), metavar="N",
                     help="Plans that planner get proposes; 2000."),
        click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Of planner get; 0."),
        click.option("--weights", type=click.Path(path_type=Path), metavar="FILE.npz",
                     help="Of planner get: what `gnn train` wrote; those of the package."),
    )  # fmt: skip

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in NAMES}
        return command(*args, get={k: v for k, v in given.items() if v is not None}, **kwargs)

    out: Any = wrapped
    for flag in reversed(flags):
        out = flag(out)
    return out  # type: ignore[no-any-return]


def check(planners: tuple[str, ...], get: dict[str, Any]) -> None:
    """Refuse options without their planner, and names that are not there."""
    from tvm_dnnfusion.planners.get.explainers import EXPLAINERS
    from tvm_dnnfusion.planners.get.search import SEARCHES

    if get and "get" not in planners:
        raise click.BadParameter("goes with --planner get", param_hint=f"--{next(iter(get))}")
    for name, known in (("explainer", EXPLAINERS), ("search", tuple(SEARCHES))):
        if name in get and get[name] not in known:
            raise click.BadParameter(
                f"{get[name]!r} is none of {', '.join(known)}", param_hint=f"--{name}"
            )
