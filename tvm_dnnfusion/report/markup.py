"""HTML and SVG built from parts that escape by themselves.

`tag("td", text)` escapes `text` unless it is `Markup`, so that a layer called "<script>" is shown
and never run. Nothing else in this room writes angle brackets.
"""

from __future__ import annotations

import html
import json
from typing import Any

VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
"""HTML elements that have no end tag."""


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. Children that are not Markup are escaped; None is left out.

    Attribute names: a trailing underscore is dropped ("class_"), others become hyphens. An
    attribute that is None or False is left out, one that is True is written without a value.
    """
    head = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{head}>")
    return Markup(f"<{name}{head}>{join(*children)}</{name}>")


def join(*parts: object) -> Markup:
    """Parts one after another, escaped where they are not Markup."""
    return Markup("".join(_escape(p) for p in parts if p is not None))


def script_data(element_id: str, data: Any) -> Markup:
    """JSON data for a script of the page; cannot end its element, whatever the strings hold."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return tag("script", Markup(text), type="application/json", id=element_id)


def _escape(part: object) -> str:
    return part if isinstance(part, Markup) else html.escape(str(part), quote=True)


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{_escape(value)}"'
