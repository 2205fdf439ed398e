"""One row of the operator table, and what a conversion sees of a call.

A row says which attributes go to the Relax operator as they are (`passed`), which a composition
works in (`used`), which have no effect on the result (`ignored`), and which must have certain
values (`must`). Every field of the attribute struct stands in one of the four: a test checks it, so
that no attribute is lost silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

Value = Union[relax.Expr, tuple["Value", ...]]


MAX_MADE = 1 << 24
"""Elements of a constant that the import itself makes: the largest tables of places in models (a
vocabulary, the rows of a picture) have some 2^18."""


class Unsupported(Exception):
    """A call that has no Relax form; the message is the reason."""


@dataclass(frozen=True)
class Call:
    """One Relay call: operands, attributes by name, and `emit` to bind a Relax expression."""

    name: str
    args: tuple[Any, ...]
    attrs: Mapping[str, Any]
    emit: Callable[[relax.Expr], relax.Expr]

    @property
    def x(self) -> relax.Expr:
        """The first operand."""
        return self.args[0]

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; `default` where it is absent (older files) or None."""
        value = self.attrs.get(name)
        return default if value is None else value

    def do(self, op: str, *args: Any, **attrs: Any) -> relax.Expr:
        """Bind a call of the Relax operator."""
        return self.emit(relax_op(op)(*args, **attrs))

    def dims(self, x: relax.Expr) -> tuple[int, ...]:
        """Static shape of an operand. Raises Unsupported."""
        shape = getattr(x.ty, "shape", None)
        dims = tuple(shape.values) if isinstance(shape, relax.ShapeExpr) else (None,)
        if not all(isinstance(d, tvm.tirx.IntImm) for d in dims):
            raise Unsupported("the conversion needs a static shape")
        return tuple(int(d) for d in dims)

    def rank(self, x: relax.Expr) -> int:
        """Number of axes of an operand. Raises Unsupported."""
        if not isinstance(x.ty, relax.TensorType) or x.ty.ndim < 0:
            raise Unsupported("the conversion needs an operand of known rank")
        return int(x.ty.ndim)

    def axis(self, x: relax.Expr, name: str = "axis", default: int = 0) -> int:
        """A non-negative axis. Raises Unsupported for one out of range."""
        axis, rank = int(self.get(name, default)), self.rank(x)
        if not -rank <= axis < rank:
            raise Unsupported(f"{name} {axis} of {rank} axes")
        return axis % rank

    def dtype(self, x: relax.Expr) -> str:
        """Data type of an operand."""
        return str(getattr(x.ty.dtype, "dtype", x.ty.dtype))

    def const(self, value: Any, dtype: str) -> relax.Expr:
        """A constant."""
        return constant(np.asarray(value).astype(dtype))

    def scalar(self, value: float, like: relax.Expr) -> relax.Expr:
        """A scalar constant of an operand's data type."""
        return self.const(value, self.dtype(like))

    def places(self, extent: int, rank: int, axis: int) -> np.ndarray:
        """0, 1, ... along one axis of `rank`. Raises Unsupported for too many."""
        if not 0 <= extent <= MAX_MADE:
            raise Unsupported(f"a constant of {extent} places, of at most {MAX_MADE}")
        return np.arange(extent).reshape(shape_of_axis(rank, axis))

    def known(self, index: int, what: str) -> np.ndarray:
        """Data of a constant operand. Raises Unsupported."""
        value = self.args[index] if index < len(self.args) else None
        if not isinstance(value, GenericConst):
            raise Unsupported(f"{what} is not a constant")
        return value.value.numpy()


def constant(array: np.ndarray) -> relax.Expr:
    """A constant of the array's own data type: without it, int64 would become int32."""
    return relax.const(np.ascontiguousarray(array).reshape(array.shape), str(array.dtype))


Make = Callable[[Call], Value]


@dataclass(frozen=True)
class Entry:
    """How calls of one Relay operator become Relax. `relax` is text for the documentation."""

    relay: str
    relax: str
    make: Make
    struct: str = ""
    passed: Mapping[str, str] = field(default_factory=dict)
    used: tuple[str, ...] = ()
    ignored: Mapping[str, str] = field(default_factory=dict)
    must: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    note: str = ""

    def check(self, call: Call) -> None:
        """Raise Unsupported for an attribute value that the conversion does not take."""
        for name, allowed in self.must.items():
            value = call.attrs.get(name)
            if value is not None and value not in allowed:
                raise Unsupported(f"{name} is {value!r}")


def relax_op(name: str) -> Callable[..., relax.Expr]:
    """The function that makes calls of a Relax operator ("nn.conv2d")."""
    found: Any = relax.op
    for part in name.split("."):
        found = getattr(found, part)
    return found


def same(relay: str, to: str | None = None, struct: str = "", **row: Any) -> Entry:
    """A row whose operands go to one Relax operator in order, `passed` as its attributes."""
    target = to or relay
    passed: Mapping[str, str] = row.get("passed", {})

    def make(call: Call) -> Value:
        named = {new: call.attrs[old] for old, new in passed.items() if old in call.attrs}
        return call.emit(relax_op(target)(*map(packed, call.args), **named))

    return Entry(relay, target, make, struct, **row)


def packed(value: Any) -> relax.Expr:
    """A value as an expression: a tuple of values becomes a Relax tuple."""
    return relax.Tuple([packed(v) for v in value]) if isinstance(value, tuple) else value


def unpacked(call: Call, made: relax.Expr) -> tuple[relax.Expr, ...]:
    """The fields of an expression of tuple type."""
    return tuple(call.emit(relax.TupleGetItem(made, i)) for i in range(len(made.ty.fields)))


def identity(call: Call) -> Value:
    """The first operand."""
    return call.args[0]


def shape_of_axis(rank: int, axis: int, extent: int = -1) -> list[int]:
    """[1, ..., extent, ..., 1]: the shape of a vector that lies along one axis."""
    return [extent if a == axis else 1 for a in range(rank)]


def along(call: Call, vector: relax.Expr, x: relax.Expr, axis: int) -> relax.Expr:
    """A vector reshaped so that it lies along an axis of x. A scalar stays as it is."""
    if call.rank(vector) == 0 or call.rank(x) == 1:
        return vector
    shape = shape_of_axis(call.rank(x), axis, call.dims(vector)[0])
    return call.do("reshape", vector, shape)


def ints(value: Any) -> list[int]:
    """A tuple of numbers, or one number, as a list."""
    return [int(v) for v in value] if isinstance(value, Sequence) else [int(value)]
