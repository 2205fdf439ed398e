"""Writes Relay modules in the format of tvm.ir.save_json, for what no genuine file shows."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np

from tvm_dnnfusion.relay.schema import STRUCTS

_CODES = {"i": 0, "u": 1, "f": 2}


def blob(array: np.ndarray) -> bytes:
    """A tensor in TVM's binary format."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    code = 1 if array.dtype == bool else _CODES[array.dtype.kind]
    bits = 1 if array.dtype == bool else 8 * array.itemsize
    head = struct.pack("<QQiiiBBH", 0xDD5E40F096B4A13F, 0, 1, 0, array.ndim, code, bits, 1)
    shape = struct.pack(f"<{array.ndim + 1}q", *array.shape, array.nbytes)
    return head + shape + array.tobytes()


def params_file(arrays: dict[str, np.ndarray]) -> bytes:
    """What save_param_dict returns."""
    names = b"".join(struct.pack("<Q", len(n)) + n.encode() for n in arrays)
    count = struct.pack("<Q", len(arrays))
    head = struct.pack("<QQ", 0xF7E58D4F05049CB7, 0)
    return head + count + names + count + b"".join(blob(a) for a in arrays.values())


class Relay:
    """A module under construction; expressions are node indices."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = [{"type_key": ""}]
        self.blobs: list[str] = []
        self.globals: list[int] = []

    def add(self, kind: str, items: Any = None, text: str | None = None, **attrs: Any) -> int:
        node: dict[str, Any] = {"type_key": kind}
        if attrs:
            node["attrs"] = {name: str(value) for name, value in attrs.items()}
        if items is not None:
            node["data"] = list(items)
        if text is not None:
            node["repr_str"] = text
        self.nodes.append(node)
        return len(self.nodes) - 1

    def plain(self, value: Any) -> int:
        """A number, string or nested tuple of these as an object."""
        if value is None:
            return 0
        if isinstance(value, (bool, int)):
            return self.add("IntImm", dtype="int32", span=0, value=int(value))
        if isinstance(value, float):
            return self.add("FloatImm", dtype="float32", span=0, value=value)
        if isinstance(value, str):
            return self.add("runtime.String", text=value)
        return self.add("Array", [self.plain(v) for v in value])

    def type(self, shape: tuple[int | None, ...], dtype: str = "float32") -> int:
        dims = [self.add("tir.Any", dtype="int32") if d is None else self.plain(d) for d in shape]
        return self.add("relay.TensorType", dtype=dtype, shape=self.add("Array", dims), span=0)

    def var(
        self, name: str, shape: tuple[int | None, ...] | None = None, dtype: str = "float32"
    ) -> int:
        vid = self.add("relay.Id", name_hint=self.plain(name))
        kind = 0 if shape is None else self.type(shape, dtype)
        return self.add("relay.Var", vid=vid, type_annotation=kind, span=0, _checked_type_=kind)

    def const(self, value: Any, dtype: str = "float32") -> int:
        self.blobs.append(base64.b64encode(blob(np.asarray(value, dtype))).decode())
        return self.add("relay.Constant", data=len(self.blobs) - 1, span=0, _checked_type_=0)

    def span(self, *names: str) -> int:
        spans = [
            self.add("Span", source_name=self.add("SourceName", text=n), line=0, column=0)
            for n in names
        ]
        return spans[0] if len(spans) == 1 else self.add("SequentialSpan", spans=self.array(spans))

    def array(self, items: Any) -> int:
        return self.add("Array", items)

    def call(
        self, op: str, *args: int, struct: str = "", span: int = 0, checked: int = 0, **attrs: Any
    ) -> int:
        at = self.attrs(struct, **attrs) if struct else 0
        return self.apply(self.add("Op", text=op), *args, at=at, span=span, checked=checked)

    def attrs(self, name: str, **attrs: Any) -> int:
        """A struct; fields are written by their kind, those not given are left out."""
        kinds = STRUCTS[name]
        scalar = {"b": lambda v: int(v)}
        fields = {
            key: self.plain(v) if kinds[key] == "o" else scalar.get(kinds[key], str)(v)
            for key, v in attrs.items()
        }
        return self.add(f"relay.attrs.{name}", **fields)

    def apply(self, op: int, *args: int, at: int = 0, span: int = 0, checked: int = 0) -> int:
        return self.add("relay.Call", op=op, args=self.array(args), attrs=at, type_args=0,
                        span=span, virtual_device_=0, _checked_type_=checked)  # fmt: skip

    def tuple(self, *fields: int) -> int:
        return self.add("relay.Tuple", fields=self.array(fields), span=0)

    def item(self, value: int, index: int) -> int:
        return self.add("relay.TupleGetItem", tuple_value=value, index=index, span=0)

    def let(self, var: int, value: int, body: int) -> int:
        return self.add("relay.Let", var=var, value=value, body=body, span=0)

    def branch(self, cond: int, yes: int, no: int) -> int:
        return self.add("relay.If", cond=cond, true_branch=yes, false_branch=no, span=0)

    def function(self, params: list[int], body: int, **attrs: str) -> int:
        at = 0
        if attrs:
            values = [self.plain(v) for v in attrs.values()]
            at = self.add("Map", values)
            self.nodes[at]["keys"] = list(attrs)
            at = self.add("DictAttrs", __dict__=at)
        return self.add("relay.Function", params=self.array(params), body=body, attrs=at,
                        ret_type=0, type_params=0, span=0)  # fmt: skip

    def name(self, name: str) -> int:
        """A global variable; give it to `define` with its function."""
        return self.add("GlobalVar", name_hint=self.plain(name), span=0)

    def define(self, name: int, func: int) -> None:
        self.globals += [name, func]

    def module(self, params: list[int], body: int) -> str:
        """JSON of the module whose main this is."""
        self.define(self.name("main"), self.function(params, body))
        root = self.add("IRModule", functions=self.add("Map", self.globals))
        return self.text(root)

    def text(self, root: int) -> str:
        return json.dumps(
            {"root": root, "nodes": self.nodes, "b64ndarrays": self.blobs,
             "attrs": {"tvm_version": "0.14.0"}}
        )  # fmt: skip


def unary(op: str, shape: tuple[int, ...], dtype: str = "float32", **row: Any) -> str:
    """A module of one call with one operand x."""
    r = Relay()
    x = r.var("x", shape, dtype)
    return r.module([x], r.call(op, x, **row))
