"""The same model as ONNX: each Relay call as the node that an exporter writes for it.

Reads the file's nodes by itself, so that an error of the importer does not hide in both sides.
Takes the operators of the model cases only.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import tvm
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
_SAME = {
    "nn.relu": "Relu", "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div",
    "power": "Pow", "sqrt": "Sqrt", "erf": "Erf", "where": "Where", "less": "Less",
    "copy": "Identity", "nn.batch_flatten": "Flatten", "nn.global_avg_pool2d": "GlobalAveragePool",
    "shape_of": "Shape",
}  # fmt: skip
_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


class _Twin:
    def __init__(self, text: str, params: bytes | None) -> None:
        graph = json.loads(text)
        self.nodes, self.blobs = graph["nodes"], graph["b64ndarrays"]
        self.given = tvm.runtime.load_param_dict(params) if params else {}
        self.out: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.names: dict[int, str] = {}

    def build(self) -> onnx.ModelProto:
        main = next(n for n in self.nodes if n["type_key"] == "relay.Function")
        inputs = []
        for index in self.items(main, "params"):
            name = self.names[index] = self.variable(index)
            if name in self.given:
                self.constant(self.given[name].numpy(), name)
            else:
                inputs.append(self.value(name, self.nodes[index]))
        body = int(main["attrs"]["body"])
        for index in self.order(body):
            self.names[index] = self.convert(index)
        output = self.value(self.names[body], self.nodes[body])
        made = helper.make_graph(self.out, "twin", inputs, [output], self.weights)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(made, opset_imports=opset, ir_version=8)

    def order(self, root: int) -> list[int]:
        """Calls, constants and tuples below the root, operands first."""
        done: dict[int, None] = {}
        todo = [(root, False)]
        while todo:
            index, ready = todo.pop()
            if index in done or index in self.names:
                continue
            if ready:
                done[index] = None
                continue
            todo.append((index, True))
            todo += [(i, False) for i in reversed(self.operands(index))]
        return list(done)

    def operands(self, index: int) -> list[int]:
        node = self.nodes[index]
        field = {"relay.Call": "args", "relay.Tuple": "fields"}.get(node["type_key"])
        if node["type_key"] == "relay.TupleGetItem":
            return [int(node["attrs"]["tuple_value"])]
        return self.items(node, field) if field else []

    def items(self, node: Any, field: str) -> list[int]:
        return self.nodes[int(node["attrs"][field])].get("data", [])

    def variable(self, index: int) -> str:
        vid = self.nodes[int(self.nodes[index]["attrs"]["vid"])]
        return self.nodes[int(vid["attrs"]["name_hint"])]["repr_str"]

    def value(self, name: str, node: Any) -> onnx.ValueInfoProto:
        kind = self.nodes[int(node["attrs"]["_checked_type_"])]
        return helper.make_tensor_value_info(
            name, _TYPES[kind["attrs"]["dtype"]], self.numbers(kind, "shape")
        )

    def numbers(self, node: Any, field: str) -> list[int]:
        return [int(self.nodes[i]["attrs"]["value"]) for i in self.items(node, field)]

    def constant(self, array: np.ndarray, name: str = "") -> str:
        name = name or f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, *inputs: str, **attrs: Any) -> str:
        self.out.append(helper.make_node(op, list(inputs), [f"t{len(self.out)}"], **attrs))
        return self.out[-1].output[0]

    def convert(self, index: int) -> str:
        node = self.nodes[index]
        below = [self.names[i] for i in self.operands(index)]
        if node["type_key"] == "relay.Constant":
            return self.constant(_decode(self.blobs[int(node["attrs"]["data"])]))
        if node["type_key"] == "relay.Tuple":
            return "\n".join(below)
        if node["type_key"] == "relay.TupleGetItem":
            return below[0]  # of dropout and batch_norm: the first result
        name = self.nodes[int(node["attrs"]["op"])]["repr_str"]
        at = int(node["attrs"]["attrs"])
        attrs = self.nodes[at] if at else {"attrs": {}}
        if name in _SAME:
            return self.node(_SAME[name], *below)
        return _CONVERT[name](self, attrs, *below)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(next(w for w in self.weights if w.name == name).dims)


def _decode(text: str) -> np.ndarray:
    """Through TVM's own reader: a parameter file of one tensor."""
    data = base64.b64decode(text)
    head = np.array([0xF7E58D4F05049CB7, 0, 1, 1], "<u8").tobytes() + b"a"
    found = tvm.runtime.load_param_dict(head + np.array([1], "<u8").tobytes() + data)["a"].numpy()
    return found.astype("bool") if str(found.dtype) == "uint1" else found


def _conv(t: _Twin, a: Any, x: str, w: str) -> str:
    named = {"strides": "strides", "pads": "padding", "dilations": "dilation"}
    return t.node("Conv", x, w, group=int(a["attrs"]["groups"]),
                  **{new: t.numbers(a, old) for new, old in named.items()})  # fmt: skip


def _bias(t: _Twin, a: Any, x: str, b: str) -> str:
    """The bias of the convolution before, as exporters write it; else an Add."""
    last = t.out[-1]
    if last.op_type == "Conv" and last.output[0] == x and len(last.input) == 2:
        last.input.append(b)
        return x
    return t.node("Add", x, b)


def _norm(t: _Twin, a: Any, x: str, g: str, b: str, m: str, v: str) -> str:
    if a["attrs"]["scale"] == "0":
        g = t.constant(np.ones(t.shape(g), "float32"))
    return t.node("BatchNormalization", x, g, b, m, v, epsilon=float(a["attrs"]["epsilon"]))


def _pool(t: _Twin, a: Any, x: str) -> str:
    named = {"kernel_shape": "pool_size", "strides": "strides", "pads": "padding"}
    return t.node("MaxPool", x, ceil_mode=int(a["attrs"]["ceil_mode"]),
                  **{new: t.numbers(a, old) for new, old in named.items()})  # fmt: skip


def _matmul(t: _Twin, a: Any, x: str, y: str) -> str:
    if a["attrs"]["transpose_b"] == "1":
        y = t.node("Transpose", y, perm=[0, 2, 1])
    return t.node("MatMul", x, y)


def _gather(t: _Twin, a: Any, x: str, i: str) -> str:
    at = int(a["attrs"]["axis"])  # none: of a vector
    return t.node("Gather", x, i, axis=int(t.nodes[at]["attrs"]["value"]) if at else 0)


def _transpose(t: _Twin, a: Any, x: str) -> str:
    """Without axes, the reverse order, in ONNX as in Relay."""
    axes = t.numbers(a, "axes")
    return t.node("Transpose", x, **({"perm": axes} if axes else {}))


_CONVERT: dict[str, Callable[..., str]] = {
    "nn.conv2d": _conv,
    "nn.bias_add": _bias,
    "nn.batch_norm": _norm,
    "nn.max_pool2d": _pool,
    "nn.batch_matmul": _matmul,
    "nn.dense": lambda t, a, x, w: t.node("Gemm", x, w, transB=1),
    "nn.dropout": lambda t, a, x: x,
    "nn.softmax": lambda t, a, x: t.node("Softmax", x, axis=int(a["attrs"]["axis"])),
    "concatenate": lambda t, a, parts: t.node(
        "Concat", *parts.split("\n"), axis=int(a["attrs"]["axis"])
    ),
    "mean": lambda t, a, x: t.node(
        "ReduceMean", x, axes=t.numbers(a, "axis"), keepdims=int(a["attrs"]["keepdims"])
    ),
    "reshape": lambda t, a, x: t.node(
        "Reshape", x, t.constant(np.array(t.numbers(a, "newshape"), "int64"))
    ),
    "transpose": _transpose,
    "take": _gather,
}


def twin(text: str, params: bytes | None) -> onnx.ModelProto:
    """The ONNX model of a Relay module's main function."""
    return _Twin(text, params).build()
