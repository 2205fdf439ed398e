"""Fields of Relay's objects as plain Python values: numbers, strings, tuples, types, names.

An attribute's text is read by its kind in schema.py; an object that it refers to becomes a number,
a string, or a tuple of these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tvm_dnnfusion.relay.entry import Unsupported
from tvm_dnnfusion.relay.reader import Document, Node
from tvm_dnnfusion.relay.schema import STRUCTS

MAX_DEPTH = 8
"""Arrays inside arrays of an attribute; pad_width has two, and none has more."""

_DTYPE = re.compile(r"bool|u?int(8|16|32|64)|b?float16|float(32|64)")
_PREFIX = "relay.attrs."
_IMMEDIATE = ("IntImm", "FloatImm", "tir.IntImm", "tir.FloatImm")


@dataclass(frozen=True, slots=True)
class TensorType:
    """A Relay tensor type; None stands for an extent that is not known."""

    shape: tuple[int | None, ...]
    dtype: str


Type = TensorType | tuple["Type", ...] | None
"""A tuple of types for a tuple, None for anything else (functions, unknown)."""


def attributes(doc: Document, index: int) -> tuple[str, dict[str, Any]]:
    """(name of the struct, its fields by name) of a call's attributes; ("", {}) for none.

    Raises Unsupported for a struct or a field's object that is not known.
    """
    if index == 0:
        return "", {}
    node = doc.node(index)
    if node.kind in ("DictAttrs", "ir.DictAttrs"):
        return "", {}
    struct = node.kind.removeprefix(_PREFIX)
    if struct == node.kind or struct not in STRUCTS:
        raise Unsupported(f"its attributes are a {node.kind}")
    kinds = STRUCTS[struct]
    read = {
        name: _field(doc, index, node, name, kinds[name]) for name in node.attrs if name in kinds
    }
    return struct, read


def _field(doc: Document, index: int, node: Node, name: str, kind: str) -> Any:
    text = node.attrs[name]
    if not isinstance(text, str):
        raise doc.damaged(f"field {name} of node {index} is no string")
    try:
        if kind == "i":
            return int(text)
        if kind == "b":
            return bool(int(text))
        if kind == "d":
            return float(text)
    except ValueError:
        raise doc.damaged(f"field {name} of node {index} holds {text!r:.60}") from None
    if kind == "t":
        return dtype_name(text)
    if kind == "s":
        return _string(doc, text)
    return plain(doc, doc.index(index, name))


def _string(doc: Document, text: str) -> str:
    """A string field: the text itself, or the index of the string's node."""
    if not text.isdecimal() or len(text) > 12 or int(text) >= len(doc.nodes):
        return text
    node = doc.node(int(text))
    return node.text if node.kind in ("runtime.String", "") else text


def dtype_name(text: str) -> str:
    """The name of a data type, "" for none. Relay's "uint1" and "bool" are one type.

    Raises Unsupported for one that is no type of a tensor's elements.
    """
    name = {"uint1": "bool", "void": "", "handle": ""}.get(text, text)
    if name and not _DTYPE.fullmatch(name):
        raise Unsupported(f"the data type {text!r:.40}")
    return name


def plain(doc: Document, index: int, depth: int = 0) -> Any:
    """An object as a number, a string, None, or a tuple of these. Raises Unsupported."""
    if index == 0:
        return None
    node = doc.node(index)
    if node.kind in _IMMEDIATE:
        return number(doc, index)
    if node.kind in ("runtime.String", "tir.StringImm"):
        return node.text
    if node.kind == "Array" and depth < MAX_DEPTH:
        return tuple(plain(doc, i, depth + 1) for i in node.data)
    if node.kind.startswith("relay.") or node.kind in ("VirtualDevice", "Map"):
        return None  # an operand that is repeated as an attribute; a device
    raise Unsupported(f"an attribute holds a {node.kind}")


def number(doc: Document, index: int) -> int | float:
    """The value of an IntImm or FloatImm."""
    node = doc.node(index)
    text = str(node.attrs.get("value", ""))
    try:
        return float(text) if node.kind.endswith("FloatImm") else int(text)
    except ValueError:
        raise doc.damaged(f"node {index} holds {text!r:.60}, not a number") from None


def type_of(doc: Document, index: int, depth: int = 0) -> Type:
    """A Relay type."""
    if index == 0 or depth > MAX_DEPTH:
        return None
    node = doc.node(index)
    if node.kind == "TupleType":
        return tuple(type_of(doc, i, depth + 1) for i in doc.items(index, "fields"))
    if node.kind != "relay.TensorType":
        return None
    shape = tuple(_extent(doc, i) for i in doc.items(index, "shape"))
    try:
        return TensorType(shape, dtype_name(str(node.attrs.get("dtype", ""))))
    except Unsupported as reason:
        raise doc.damaged(f"a tensor of node {index} has {reason}") from None


def _extent(doc: Document, index: int) -> int | None:
    """An extent; None for one that is not known before run time."""
    node = doc.node(index)
    if node.kind not in ("IntImm", "tir.IntImm"):
        return None
    value = number(doc, index)
    if not 0 <= value < 1 << 48:
        raise doc.damaged(f"an extent is {value}")
    return int(value)


def string_at(doc: Document, owner: int, name: str) -> str:
    """The string that a field holds or refers to."""
    return _string(doc, str(doc.node(owner).attrs.get(name, "")))


def span_names(doc: Document, index: int) -> tuple[str, ...]:
    """Names in a node's span, in order; those of TVM's own library are left out."""
    at = doc.index(index, "span")
    todo, found, seen = [at] if at else [], [], 0
    while todo and seen < 1000:
        seen += 1
        here = todo.pop()
        node = doc.node(here)
        if node.kind == "SequentialSpan":
            todo += reversed(doc.items(here, "spans"))
        elif node.kind == "Span":
            source = doc.index(here, "source_name")
            found.append(doc.node(source).text if source else "")
    return tuple(
        dict.fromkeys(n for n in found if n and not n.endswith((".rly", "GeneratedSource")))
    )
