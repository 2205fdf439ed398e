"""The node list of a Relay JSON file: parsed, checked, and read by index.

First step of the import. `tvm.ir.save_json` writes objects as a list of nodes; an object's field
holds another's index as a decimal string. Nothing is executed and nothing recurses; each index is
checked when it is followed. Reading costs one pass over the text.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tvm_dnnfusion.frontend.errors import ModelNotFoundError
from tvm_dnnfusion.relay.arrays import ArrayFormatError, decode_base64
from tvm_dnnfusion.relay.errors import (
    COPY_AGAIN,
    SAVE_AGAIN,
    DamagedRelayError,
    NotRelayError,
    OversizedRelayError,
    TruncatedRelayError,
)

MAX_BYTES = 4 << 30
"""Bytes of a file: base64 of the largest constants that a TVM of that age could hold (2 GiB of
protobuf) with room; larger models keep their weights in a parameter file."""

MAX_NODES = 20_000_000
"""Nodes of a file: a call takes about 20, the largest models some 50,000 calls."""

KEYS = ("root", "nodes", "b64ndarrays")
_SNIFFED = 1 << 16
_TEXT_FORMAT = re.compile(r'\s*#\[version = "')


@dataclass(frozen=True, slots=True)
class Node:
    """One object: its type, its fields as they stand, and the elements of an Array or Map."""

    kind: str
    attrs: dict[str, str]
    data: tuple[int, ...]
    keys: tuple[str, ...]
    text: str


@dataclass
class Document:
    """A parsed file. `array` decodes a constant when it is asked for, once."""

    source: str
    root: int
    nodes: list[Any]
    blobs: list[Any]
    version: str
    _arrays: dict[int, np.ndarray] = field(default_factory=dict)
    _read: dict[int, Node] = field(default_factory=dict)

    def node(self, index: int) -> Node:
        """The node at an index. Raises DamagedRelayError."""
        found = self._read.get(index)
        if found is None:
            if not 0 <= index < len(self.nodes):
                raise self.damaged(f"node {index} of {len(self.nodes)} is referred to")
            found = self._read[index] = self._parse(index, self.nodes[index])
        return found

    def index(self, owner: int, name: str, value: object | None = None) -> int:
        """The index that a node's field holds; 0 stands for None, as in the file."""
        text = self.node(owner).attrs.get(name, "0") if value is None else value
        if not isinstance(text, str) or not text.isdecimal() or len(text) > 12:
            raise self.damaged(f"field {name} of node {owner} holds {text!r:.60}, not an index")
        number = int(text)
        if number >= len(self.nodes):
            raise self.damaged(f"field {name} of node {owner} refers to node {number}")
        return number

    def items(self, owner: int, name: str) -> tuple[int, ...]:
        """Elements of the Array that a field refers to."""
        at = self.index(owner, name)
        if at == 0:
            return ()
        node = self.node(at)
        if node.kind != "Array":
            raise self.damaged(f"field {name} of node {owner} is a {node.kind}, not an Array")
        return node.data

    def array(self, index: int) -> np.ndarray:
        """Constant data. Raises DamagedRelayError or TruncatedRelayError."""
        if not 0 <= index < len(self.blobs):
            raise self.damaged(f"tensor {index} of {len(self.blobs)} is referred to")
        if index not in self._arrays:
            try:
                self._arrays[index] = decode_base64(self.blobs[index])
            except ArrayFormatError as error:
                raise self.damaged(f"tensor {index}: {error}") from error
        return self._arrays[index]

    def damaged(self, reason: str) -> DamagedRelayError:
        """The error for a file that breaks its format."""
        return DamagedRelayError(self.source, f"the Relay module is damaged: {reason}", SAVE_AGAIN)

    def _parse(self, index: int, raw: Any) -> Node:
        if not isinstance(raw, dict) or not isinstance(raw.get("type_key"), str):
            raise self.damaged(f"node {index} has no type")
        attrs, data, keys = raw.get("attrs") or {}, raw.get("data") or [], raw.get("keys") or []
        if not isinstance(attrs, dict) or not isinstance(data, list) or not isinstance(keys, list):
            raise self.damaged(f"node {index} ({raw['type_key']:.60}) has fields of a wrong kind")
        for item in data:
            if type(item) is not int or not 0 <= item < len(self.nodes):
                raise self.damaged(f"node {index} refers to node {item!r:.60}")
        return Node(raw["type_key"], attrs, tuple(data), tuple(keys), self._text(index, raw))

    def _text(self, index: int, raw: dict[str, Any]) -> str:
        if "repr_b64" not in raw:
            return str(raw.get("repr_str", ""))
        try:
            data = base64.b64decode(raw["repr_b64"], validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise self.damaged(f"the text of node {index} is not base64") from error
        # u64 length first: the writer stores bytes that JSON cannot hold as a TVM string
        return data[8:].decode("utf-8", "replace")


def looks_like_relay(path: str | Path) -> bool:
    """Whether a file's first bytes are those of a Relay module, whatever its name is."""
    try:
        with open(path, "rb") as file:
            head = file.read(_SNIFFED).decode("utf-8", "replace")
    except OSError:
        return False
    if _TEXT_FORMAT.match(head):
        return True
    return head.lstrip("\ufeff \t\r\n").startswith("{") and any(f'"{k}"' in head for k in KEYS)


def read_document(text_or_path: str | Path | bytes) -> Document:
    """Parse a Relay module: its JSON text, or the path of a file with it.

    Raises
    ------
    ModelNotFoundError, NotRelayError, TruncatedRelayError, DamagedRelayError, OversizedRelayError
    """
    text, source = _text_of(text_or_path)
    if len(text) > MAX_BYTES:
        reason = f"{len(text)} bytes, of at most {MAX_BYTES}"
        way_out = "Keep the weights out of the module: save them with save_param_dict"
        raise OversizedRelayError(source, reason, way_out)
    graph = _parse_json(text, source)
    missing = [key for key in KEYS if key not in graph]
    if missing:
        raise _not_relay(source, graph, missing)
    root, nodes, blobs = (graph[key] for key in KEYS)
    document = Document(source, 0, nodes, blobs, _version(graph))
    if not isinstance(nodes, list) or not isinstance(blobs, list):
        raise document.damaged("nodes and b64ndarrays are not lists")
    if len(nodes) > MAX_NODES:
        reason = f"{len(nodes)} nodes, of at most {MAX_NODES}"
        raise OversizedRelayError(source, reason, SAVE_AGAIN)
    if type(root) is not int or not 0 < root < len(nodes):
        raise document.damaged(f"its root {root!r:.60} is none of its {len(nodes)} nodes")
    document.root = root
    return document


def _version(graph: dict[str, Any]) -> str:
    attrs = graph.get("attrs")
    return str(attrs.get("tvm_version", "")) if isinstance(attrs, dict) else ""


def _text_of(given: str | Path | bytes) -> tuple[str, str]:
    """The text, and the name that errors give it."""
    if isinstance(given, bytes):
        return given.decode("utf-8", "replace"), "Relay module"
    if isinstance(given, str) and (given.lstrip()[:1] == "{" or _TEXT_FORMAT.match(given)):
        return given, "Relay module"
    path = Path(given)
    try:
        size = os.stat(path).st_size
        if size > MAX_BYTES:
            reason = f"{size} bytes, of at most {MAX_BYTES}"
            way_out = "Keep the weights out of the module: save them with save_param_dict"
            raise OversizedRelayError(str(path), reason, way_out)
        return path.read_bytes().decode("utf-8", "replace"), str(path)
    except (OSError, ValueError) as error:
        reason = f"there is no such file ({getattr(error, 'strerror', None) or error})"
        raise ModelNotFoundError(str(path)[:200], reason, "Check the path") from error


def _parse_json(text: str, source: str) -> dict[str, Any]:
    if _TEXT_FORMAT.match(text):
        reason = "this is Relay's text format, which mod.astext() writes; it leaves out constants"
        raise NotRelayError(source, reason, SAVE_AGAIN)
    try:
        graph = json.loads(text)
    except json.JSONDecodeError as error:
        begun = any(f'"{key}"' in text[:_SNIFFED] for key in KEYS)
        if (begun and error.pos >= len(text.rstrip()) - 1) or (
            "Unterminated" in error.msg and begun
        ):
            reason = f"the Relay module is cut off after {len(text)} characters"
            raise TruncatedRelayError(source, reason, COPY_AGAIN) from error
        if begun:
            reason = f"the Relay module is damaged: no JSON at character {error.pos} ({error.msg})"
            raise DamagedRelayError(source, reason, COPY_AGAIN) from error
        raise NotRelayError(source, "not a Relay module: this is no JSON", SAVE_AGAIN) from error
    except (RecursionError, ValueError) as error:
        reason = f"the Relay module is damaged: its JSON is nested too deep or has a number of too \
many digits ({type(error).__name__})"
        raise DamagedRelayError(source, reason, SAVE_AGAIN) from error
    if not isinstance(graph, dict):
        reason = f"not a Relay module: this is a JSON {type(graph).__name__}"
        raise NotRelayError(source, reason, SAVE_AGAIN)
    return graph


def _not_relay(source: str, graph: dict[str, Any], missing: list[str]) -> NotRelayError:
    if {"arg_nodes", "heads", "node_row_ptr"} <= graph.keys():
        reason = "this is the graph of a compiled library (graph_json), not a Relay module"
    elif "root_index" in graph:
        reason = "this is JSON of a TVM without Relay (its root_index says so)"
    else:
        reason = f"not a Relay module: the JSON has no {', '.join(missing)}"
    return NotRelayError(source, reason, SAVE_AGAIN)
