"""Constant parts of an ONNX graph, computed before the import.

Exporters leave weights as ConstantOfShape or Unsqueeze of a constant, and shapes as chains of
Concat and Gather. Converters want them as constants; folding them later would compile a kernel
for each. They are computed by ONNX's reference evaluator (numpy), most in one run before the
import, and those that depend on the shape of a tensor when the import comes to them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

FOLDABLE = frozenset(
    "Constant ConstantOfShape Identity Cast Unsqueeze Squeeze Reshape Transpose Flatten Concat "
    "Gather Slice Shape Size Add Sub Mul Div Neg Abs Sqrt Reciprocal Floor Ceil Equal Not And Or "
    "Where ReduceProd ReduceMin ReduceMax".split()
)
"""Cheap operators that do not blow up their operands (ConstantOfShape, the exception, is how
weights are written)."""

_NUMERIC = frozenset(
    getattr(onnx.TensorProto, name)
    for name in (
        "FLOAT DOUBLE FLOAT16 BOOL INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64".split()
    )
)


@dataclass(frozen=True)
class Folded:
    """Values that are constant (name -> array), and the nodes that still have to be imported."""

    values: dict[str, np.ndarray]
    nodes: tuple[onnx.NodeProto, ...]


def fold_constants(model: onnx.ModelProto) -> Folded:
    """Compute the nodes of the main graph that depend on constants only.

    A node that the evaluator cannot run stays in `nodes`: folding never makes an import fail.
    """
    graph = model.graph
    known = {t.name for t in graph.initializer if t.data_type in _NUMERIC}
    constant = _constant_nodes(graph.node, known)
    if all(_plain_constant(node) for node in constant):
        return Folded({}, tuple(graph.node))
    made = {id(node) for node in constant}
    rest = tuple(node for node in graph.node if id(node) not in made)
    wanted = _read_by(rest) | {output.name for output in graph.output}
    targets = [name for node in constant for name in node.output if name in wanted]
    try:
        values = _evaluate(model, constant, targets)
    except Exception:  # the evaluator raises anything; the import then decides
        return Folded({}, tuple(graph.node))
    if not all(isinstance(value, np.ndarray | np.generic) for value in values):
        return Folded({}, tuple(graph.node))
    return Folded({n: np.asarray(v) for n, v in zip(targets, values, strict=True)}, rest)


def _plain_constant(node: onnx.NodeProto) -> bool:
    """Whether TVM reads the node: it knows tensors, and not value_float, value_ints and so on."""
    return node.op_type == "Constant" and [attr.name for attr in node.attribute] == ["value"]


def _constant_nodes(nodes: Iterable[onnx.NodeProto], known: set[str]) -> list[onnx.NodeProto]:
    """Nodes that depend on known values only; `known` grows by their outputs."""
    out = []
    for node in nodes:
        if is_foldable(node) and all(not name or name in known for name in node.input):
            known.update(node.output)
            out.append(node)
    return out


def is_foldable(node: onnx.NodeProto) -> bool:
    """Whether the node may be computed when all its operands are constants."""
    return node.op_type in FOLDABLE and node.domain in ("", "ai.onnx") and _numeric(node)


def fold_node(
    node: onnx.NodeProto, operands: dict[str, np.ndarray], opset: int
) -> dict[str, np.ndarray]:
    """Outputs of one node; {} if the evaluator cannot run it."""
    graph = onnx.helper.make_graph(
        [node],
        "constant",
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in operands],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output],
    )
    part = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        with np.errstate(all="ignore"):
            values = ReferenceEvaluator(part).run(None, operands)
    except Exception:  # the evaluator raises anything; the import then decides
        return {}
    return {name: np.asarray(v) for name, v in zip(node.output, values, strict=True)}


def _numeric(node: onnx.NodeProto) -> bool:
    """Whether the node makes no strings and no types that numpy lacks."""
    for attr in node.attribute:
        if attr.name in ("value_string", "value_strings", "sparse_value"):
            return False
        if attr.HasField("t") and attr.t.data_type not in _NUMERIC:
            return False
        if node.op_type == "Cast" and attr.name == "to" and attr.i not in _NUMERIC:
            return False
    return True


def _read_by(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """All names that the nodes read, also inside their sub-graphs."""
    out: set[str] = set()
    for node in nodes:
        out.update(node.input)
        for attr in node.attribute:
            for inner in [attr.g] if attr.HasField("g") else attr.graphs:
                out |= _read_by(inner.node) | {value.name for value in inner.output}
    return out


def _evaluate(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], targets: list[str]
) -> list[np.ndarray]:
    read = _read_by(nodes)
    graph = onnx.helper.make_graph(
        nodes,
        "constants",
        [],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in targets],
        [t for t in model.graph.initializer if t.name in read],
    )
    part = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(part).run(None, {})
