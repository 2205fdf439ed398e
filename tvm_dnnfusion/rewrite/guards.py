"""Conditions that rules share. Each gives its reason in words, for reports and docs/rules.md."""

from __future__ import annotations

from tvm_dnnfusion.rewrite.rule import Guard
from tvm_dnnfusion.rewrite.site import Site


def nonnegative(*names: str) -> Guard:
    """Values >= 0."""
    return Guard(
        f"{_and(names)} must not be negative",
        lambda s: all(s.interval(n).nonnegative for n in names),
    )


def positive(*names: str) -> Guard:
    """Values > 0."""
    return Guard(
        f"{_and(names)} must be positive", lambda s: all(s.interval(n).positive for n in names)
    )


def nonzero(*names: str) -> Guard:
    """Values other than 0."""
    return Guard(
        f"{_and(names)} must not be zero", lambda s: all(s.interval(n).nonzero for n in names)
    )


def floating(name: str) -> Guard:
    """A floating type: integer division and powers follow other laws."""
    return Guard(
        f"{name} must be of a floating type",
        lambda s: s.dtype(name).startswith(("float", "bfloat")),
    )


def wide(name: str) -> Guard:
    """A type in which a sum before its scale does not overflow: float16 ends at 65504."""
    return Guard(
        f"{name} must not be float16: the sum may overflow before it is scaled",
        lambda s: s.dtype(name) != "float16",
    )


def variable(name: str) -> Guard:
    """No constant: B * K + K is an affine map that is best left as it is."""
    return Guard(f"{name} must not be a constant", lambda s: s.const(name) is None)


def scalar(*names: str) -> Guard:
    """One element: the same factor everywhere."""
    return Guard(
        f"{_and(names)} must be a scalar", lambda s: all(s.record(n).elements == 1 for n in names)
    )


def same_shape(*names: str) -> Guard:
    """No broadcasting between the named tensors."""
    return Guard(
        f"{_and(names)} must have one shape", lambda s: len({s.shape(n) for n in names}) == 1
    )


def reduced_axes(s: Site, tensor: str, attrs: str) -> tuple[int, ...]:
    """The axes that a reduction of a named tensor covers, counted from the front."""
    rank = len(s.shape(tensor))
    axis = s.attrs(attrs).get("axis")
    if axis is None:
        return tuple(range(rank))
    items = axis if isinstance(axis, tuple) else (axis,)
    return tuple(int(a) % rank for a in items)  # type: ignore[arg-type]


def constant_along(name: str, tensor: str, attrs: str) -> Guard:
    """`name`, broadcast against `tensor`, has extent 1 on every reduced axis."""

    def holds(s: Site) -> bool:
        rank = len(s.shape(tensor))
        shape = s.shape(name)
        if len(shape) > rank:
            return False
        full = (1,) * (rank - len(shape)) + shape
        if any(a != b and a != 1 for a, b in zip(full, s.shape(tensor))):
            return False
        kept = bool(s.attrs(attrs).get("keepdims"))
        fits = kept or s.record(name).elements == 1
        return fits and all(full[a] == 1 for a in reduced_axes(s, tensor, attrs))

    return Guard(
        f"{name} must be constant along the reduced axes (and a scalar unless keepdims)", holds
    )


def _and(names: tuple[str, ...]) -> str:
    return " and ".join(names)
