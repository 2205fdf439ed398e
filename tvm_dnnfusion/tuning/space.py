"""The space of a block: what its template asks for, found by asking.

Lowering and scheduling a candidate says which parameters were wanted and which values they could
have (`codegen/params.py`). A parameter such as Winograd's m brings in others, so candidates of each
of its values are looked at. Gene 0 of every parameter is the template's own choice: the point of
zeros is the untuned kernel, the first that every search measures.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from tvm_dnnfusion.codegen.params import ParamsError, TemplateParams, Value, params_of
from tvm_dnnfusion.codegen.stages import NotLowerable
from tvm_dnnfusion.tuning.tasks import Task

Genes = tuple[int, ...]

FORKS = ("winograd", "rows_first", "by_head", "query_vectors")
"""Parameters on which it depends which others there are."""


@dataclass(frozen=True)
class Space:
    """Parameters with their values, the template's own choice not among them."""

    values: Mapping[str, tuple[Value, ...]]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Genes of each parameter."""
        return tuple(len(v) + 1 for v in self.values.values())

    @property
    def size(self) -> int:
        """Points in all; many of them are the same kernel, or do not fit."""
        return prod(self.sizes)

    @property
    def origin(self) -> Genes:
        """The template's own choice of everything."""
        return (0,) * len(self.values)

    def params(self, genes: Genes) -> TemplateParams:
        """The parameters of a point."""
        given = {name: v[g - 1] for (name, v), g in zip(self.values.items(), genes) if g}
        return params_of(given)

    def genes(self, params: TemplateParams) -> Genes | None:
        """The point of parameters; None where one of them is not offered (any more)."""
        given = params.given()
        if any(n not in self.values or v not in self.values[n] for n, v in given.items()):
            return None
        return tuple(
            v.index(given[name]) + 1 if name in given else 0 for name, v in self.values.items()
        )

    def random(self, rng: random.Random) -> Genes:
        """A point, uniformly."""
        return tuple(rng.randrange(n) for n in self.sizes)


def explore(task: Task) -> Space:
    """The space of a block. Costs one lowering for each value of a parameter in `FORKS`."""
    found = dict(task.candidate().offers)
    for name in FORKS:
        for value in found.get(name, ()):
            try:
                offers = task.candidate(params_of({name: value})).offers
            except (ParamsError, NotLowerable):
                continue
            for other, values in offers.items():
                found[other] = tuple(dict.fromkeys((*found.get(other, ()), *values)))
    return Space({name: values for name, values in found.items() if len(values) > 1})
