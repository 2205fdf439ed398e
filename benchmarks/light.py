"""The nine image classifiers that the onnx wheel carries, given random weights.

The wheel's `light_*.onnx` files have the layers of real networks, but nearly all of their weights
are made by ConstantOfShape with the value 0.02, which makes most outputs equal whatever the input
is. Here each such node becomes an initializer of seeded random values; integer tensors (the shapes
of Reshape) stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.weights import Role, weight

LIGHT = (
    "alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)
_FILES = {"alexnet": "light_bvlc_alexnet.onnx"}
_VIEWS = ("Unsqueeze", "Reshape")
_CARRIERS = (*_VIEWS, "Concat", "Dropout", "LRN", "MaxPool", "AveragePool", "Sum", "Transpose")
"""Operators after which a rectified tensor is still far from centred."""
_IR_VERSION = 8
"""From IR version 4 on an initializer need not be a graph input as well."""


def light_path(name: str) -> Path:
    """Where the wheel keeps the model, with its weights as ConstantOfShape nodes."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return folder / _FILES.get(name, f"light_{name}.onnx")


def load_light(name: str, seed: int = 0) -> onnx.ModelProto:
    """The light model `name` with random weights of sensible scale.

    Raises
    ------
    KeyError
        Where `name` is none of the nine.
    """
    if name not in LIGHT:
        raise KeyError(f"no light model {name!r}; there are {', '.join(LIGHT)}")
    model = onnx.load(light_path(name))
    randomize(model, seed)
    return model


def randomize(model: onnx.ModelProto, seed: int = 0) -> None:
    """Give every floating-point weight of the model seeded random values, in place."""
    graph = model.graph
    users = _users(graph)
    makers = {out: node for node in graph.node for out in node.output}
    tensors = {t.name: t for t in graph.initializer}
    shapes = {
        name: tuple(t.dims) for name, t in tensors.items() if t.data_type == onnx.TensorProto.FLOAT
    }
    filled = [n for n in graph.node if n.op_type == "ConstantOfShape" and n.input[0] in tensors]
    for node in filled:
        dims = numpy_helper.to_array(tensors[node.input[0]])
        shapes[node.output[0]] = tuple(int(d) for d in dims)
    made = [
        numpy_helper.from_array(weight(name, shape, _role(name, users, makers), seed), name)
        for name, shape in shapes.items()
        if name in users
    ]
    spent = {node.input[0] for node in filled}
    kept = [
        t
        for name, t in tensors.items()
        if name not in shapes and name in users and name not in spent
    ]
    _replace(model, nodes=[n for n in graph.node if n not in filled], initializers=kept + made)


def _replace(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto]
) -> None:
    graph = model.graph
    constants = {t.name for t in graph.initializer} | {t.name for t in initializers}
    inputs = [i for i in graph.input if i.name not in constants]
    for field, values in ((graph.node, nodes), (graph.input, inputs)):
        copies = list(values)
        del field[:]
        field.extend(copies)
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    model.ir_version = max(model.ir_version, _IR_VERSION)


def _users(graph: onnx.GraphProto) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
    out: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            out.setdefault(name, []).append((node, index))
    return out


def _role(
    name: str,
    users: dict[str, list[tuple[onnx.NodeProto, int]]],
    makers: dict[str, onnx.NodeProto],
) -> Role:
    """What a weight is used for, seen through Unsqueeze and Reshape."""
    node, index = users[name][0]
    if node.op_type in _VIEWS and index == 0:
        return _role(node.output[0], users, makers)
    after = {user.op_type for user, _ in users.get(node.output[0], ())}
    return Role(
        op=node.op_type,
        index=index,
        transposed=any(a.name == "transB" and a.i for a in node.attribute),
        residual=bool({"Sum", "Add"} & after) and node.op_type == "BatchNormalization",
        final=after <= {"Softmax"},
        rectified=_rectified(node.input[0], makers),
    )


def _rectified(tensor: str, makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether a tensor comes from a Relu, by way of operators that keep its sign."""
    node = makers.get(tensor)
    while node is not None and node.op_type in _CARRIERS:
        node = makers.get(node.input[0])
    return node is not None and node.op_type == "Relu"


def image(shape: tuple[int, ...], gen: np.random.Generator) -> np.ndarray:
    """A random picture [N, C, ...]: normalised pixels with differing channel means, float32."""
    noise = gen.standard_normal(shape, dtype=np.float32)
    mean = gen.standard_normal((*shape[:2], *(1 for _ in shape[2:])), dtype=np.float32)
    return (noise + mean).astype(np.float32)
