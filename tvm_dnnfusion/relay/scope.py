"""Scopes of a conversion, and the values that stand in them.

A value is a Relax expression, a tuple of values, a `Closure` (a function that was not called yet),
or `MISSING`, for what could not be converted and has no known type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tvm import relax

from tvm_dnnfusion.relay.reader import Document
from tvm_dnnfusion.relay.values import TensorType, Type, string_at


class _Missing:
    """Stands for a value that could not be converted and whose type is not known."""


MISSING = _Missing()


@dataclass
class Frame:
    """A scope: what its variables stand for, and what its expressions became."""

    parent: Frame | None
    where: str
    known: dict[int, Any] = field(default_factory=dict)

    def find(self, index: int) -> Any:
        """The value of a node in this scope or one around it; None for none."""
        frame: Frame | None = self
        while frame is not None:
            if index in frame.known:
                return frame.known[index]
            frame = frame.parent
        return None


@dataclass(frozen=True)
class Closure:
    """A function that was not called yet, with the scope that it stands in."""

    index: int
    frame: Frame | None
    name: str


def variable_name(doc: Document, index: int) -> str:
    """The name of a variable; older files have it in the variable itself."""
    vid = doc.index(index, "vid") if "vid" in doc.node(index).attrs else index
    return string_at(doc, vid, "name_hint") or f"v{index}"


def stand_in(kind: Type) -> Any:
    """Variables of a Relay type; MISSING where they cannot be typed."""
    if isinstance(kind, tuple):
        return tuple(stand_in(k) for k in kind)
    if not isinstance(kind, TensorType) or None in kind.shape or not kind.dtype:
        return MISSING
    return relax.Var("missing", relax.TensorType([int(d or 0) for d in kind.shape], kind.dtype))


def has_missing(value: Any) -> bool:
    """Whether a value, or a field of it, could not be converted."""
    return any(map(has_missing, value)) if isinstance(value, tuple) else value is MISSING


def has_closure(value: Any) -> bool:
    """Whether a value, or a field of it, is a function."""
    return any(map(has_closure, value)) if isinstance(value, tuple) else isinstance(value, Closure)


def said_text(kind: Type) -> str | None:
    """A Relay type as text; None where it leaves something open."""
    if isinstance(kind, tuple):
        parts = [said_text(k) for k in kind]
        return None if None in parts else f"({', '.join(str(p) for p in parts)})"
    if not isinstance(kind, TensorType) or None in kind.shape:
        return None
    return f"{kind.dtype}{list(kind.shape)}"


def type_text(value: Any) -> str | None:
    """The type of a value in the same form."""
    if isinstance(value, tuple):
        parts = [type_text(v) for v in value]
        return None if None in parts else f"({', '.join(str(p) for p in parts)})"
    shape = getattr(getattr(value, "ty", None), "shape", None)
    if not isinstance(shape, relax.ShapeExpr):
        return None
    dims = [getattr(d, "value", None) for d in shape.values]
    dtype = str(getattr(value.ty.dtype, "dtype", value.ty.dtype))
    return None if None in dims else f"{dtype}{[int(d) for d in dims]}"


def first_line(error: Exception) -> str:
    """Type and first line of an error; TVM's go on with a stack of C++ frames."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
