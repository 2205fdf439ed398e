"""Quotients and remainders of descending indices, written so that TVM keeps them right.

TVM's canonical simplifier pulls the sign out of a sum whose coefficients are all negative and
divides by a negative number: `(16 - i) % 4` becomes `i % -4 * -1`, and once such a term is merged
with another one (flattening does that) the element that it names is a different one. A reversed
axis (flip, a negative stride) over a blocked layout or a reshape gives such indices. Here

    (c - u) // k  ->  c // k - (u + s) // k
    (c - u) %  k  ->  k - 1 - (u + s) % k          with s = k - 1 - c % k

which have the same value for every u, and divide positive numbers only. Cost: linear in the index.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tvm import tirx


@dataclass
class _Sum:
    """constant + sum of coefficient * term."""

    constant: int = 0
    terms: list[tuple[int, Any]] = field(default_factory=list)

    def add(self, expr: Any, scale: int) -> None:
        """Add scale * expr, taken apart where it is linear."""
        if isinstance(expr, tirx.IntImm):
            self.constant += scale * int(expr)
        elif isinstance(expr, (tirx.Add, tirx.Sub)):
            self.add(expr.a, scale)
            self.add(expr.b, scale if isinstance(expr, tirx.Add) else -scale)
        elif isinstance(expr, tirx.Mul) and isinstance(expr.b, tirx.IntImm):
            self.add(expr.a, scale * int(expr.b))
        else:
            self.terms.append((scale, expr))


def ascending(expr: Any) -> Any:
    """The index expression with descending quotients and remainders rewritten; else itself."""
    if isinstance(expr, (tirx.FloorDiv, tirx.FloorMod)):
        return _divided(expr)
    if isinstance(expr, (tirx.Add, tirx.Sub, tirx.Mul)):
        a, b = ascending(expr.a), ascending(expr.b)
        return expr if a is expr.a and b is expr.b else type(expr)(a, b)
    return expr


def _divided(expr: Any) -> Any:
    quotient = isinstance(expr, tirx.FloorDiv)
    number = ascending(expr.a)
    if not isinstance(expr.b, tirx.IntImm) or int(expr.b) <= 0:
        return expr
    k, found = int(expr.b), _Sum()
    found.add(number, 1)
    whole = [(c, t) for c, t in found.terms if c % k == 0]
    rest = [(c, t) for c, t in found.terms if c % k]
    if not rest or not all(c < 0 for c, _ in rest):
        return type(expr)(number, expr.b)
    shift = k - 1 - found.constant % k
    folded = _total(shift, [(-c, t) for c, t in rest])
    if not quotient:
        return k - 1 - tirx.floormod(folded, k)
    return _total(found.constant // k, [(c // k, t) for c, t in whole]) - tirx.floordiv(folded, k)


def _total(constant: int, terms: list[tuple[int, Any]]) -> Any:
    out: Any = constant
    for c, t in terms:
        out = out + t * c
    return out
