"""TVM's ONNX importer, with the names of the nodes kept.

TVM converts node by node into one block and forgets which node a binding came from. `Importer`
hands it one node at a time, sets a marker binding after each, and in the end turns the markers
into spans (see `origins.py`). What TVM cannot convert is reported with the node's name.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.frontend.onnx import onnx_frontend

from tvm_dnnfusion.frontend.errors import NodeImportError, UnsupportedOperatorError
from tvm_dnnfusion.frontend.onnx_fold import Folded, fold_node, is_foldable
from tvm_dnnfusion.frontend.onnx_ops import OVERRIDES, NodeView
from tvm_dnnfusion.frontend.origins import map_bindings, origins_of, stamp_tree, with_origins

DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Operator domains whose names TVM's table of converters holds."""


def node_name(node: onnx.NodeProto) -> str:
    """The node's own name, or "Conv_x" after its first output x."""
    return node.name or "_".join([node.op_type, *node.output[:1]])


def node_names(nodes: Iterable[onnx.NodeProto]) -> dict[int, str]:
    """id(node) -> a name that no other of these nodes has: a repeated one gets its output added."""
    taken: set[str] = set()
    out: dict[int, str] = {}
    for node in nodes:
        name = node_name(node)
        if name in taken:
            name = "_".join([name, *node.output[:1]])
        taken.add(name)
        out[id(node)] = name
    return out


def check_operators(nodes: Iterable[onnx.NodeProto], source: str) -> None:
    """Raise UnsupportedOperatorError with every operator that TVM has no converter for."""
    known = {*onnx_frontend._get_convert_map(), "If", "Constant"}
    unknown: dict[str, list[str]] = {}
    for node in _all_nodes(nodes):
        if node.domain not in DOMAINS or node.op_type not in known:
            operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            unknown.setdefault(operator, []).append(node_name(node))
    if unknown:
        raise UnsupportedOperatorError(source, {op: tuple(n) for op, n in unknown.items()})


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attr in node.attribute:
            for inner in [attr.g] if attr.HasField("g") else attr.graphs:
                yield from _all_nodes(inner.node)


class Importer(onnx_frontend.ONNXGraphImporter):
    """Imports one model; use it once."""

    def __init__(self, source: str, folded: Folded, shapes: Mapping[str, Any]) -> None:
        super().__init__(dict(shapes), {})
        self._source = source
        self._folded = folded
        self._markers: dict[str, str] = {}
        self._branch_depth = 0
        self.input_names = self._input_names

    def import_graph(self, graph: onnx.GraphProto, opset: int) -> tvm.IRModule:
        """The graph as a module whose expressions carry the names of their nodes."""
        check_operators(self._folded.nodes, self._source)
        try:
            mod = self.from_onnx(graph, opset)
        except Exception:
            with contextlib.suppress(Exception):  # else TVM warns when the builder goes
                self.bb._end_block()
            raise
        mod["main"] = _stamp(mod["main"], self._markers)
        return mod

    def _check_for_unsupported_ops(self, graph: onnx.GraphProto) -> None:
        """Done before, with the nodes' names."""

    def _sanitize_name(self, name: str) -> str:
        identifier = re.sub(r"\W", "_", name)
        if not identifier or identifier[0].isdigit():
            identifier = f"input_{identifier}"
        return str(self._name_supply.fresh_name(identifier))

    def _construct_nodes(self, graph: onnx.GraphProto) -> None:
        for name, array in self._folded.values.items():
            self._nodes[name] = _constant(array)
        for node, name in self._named_nodes():
            self._construct_node(node, name)

    def _named_nodes(self) -> list[tuple[onnx.NodeProto, str]]:
        names = node_names(self._folded.nodes)
        return [(node, names[id(node)]) for node in self._folded.nodes]

    def _construct_node(self, node: onnx.NodeProto, name: str) -> None:
        self._settle_shapes(node)
        if self._fold(node):
            return
        printed = io.StringIO()  # TVM prints all operands, weights included, when it fails
        try:
            with contextlib.redirect_stdout(printed):
                super()._construct_nodes(SimpleNamespace(node=[node]))
        except Exception as err:
            cause = f"{first_line(err)} (operands: {self._operands(node)})"
            raise NodeImportError(self._source, name, node.op_type, cause) from err
        for output in node.output:
            self._bind(output)
        marker = self.bb.emit(relax.ShapeExpr([len(self._markers)]), "node_end")
        self._markers[marker.name] = name

    def _settle_shapes(self, node: onnx.NodeProto) -> None:
        """Make constants of operands that are shapes, as most converters want them."""
        for name in node.input:
            value = self._nodes.get(name)
            if isinstance(value, relax.ShapeExpr) and _is_static(value):
                self._nodes[name] = _constant(np.array([int(d) for d in value.values], "int64"))

    def _fold(self, node: onnx.NodeProto) -> bool:
        """Compute a node whose operands turned out constant; whether that went well."""
        operands = {name: self._nodes.get(name) for name in node.input if name}
        constant = all(isinstance(value, GenericConst) for value in operands.values())
        if not operands or not constant or not is_foldable(node):
            return False
        arrays = {name: value.value.numpy() for name, value in operands.items()}
        made = fold_node(node, arrays, self.opset)
        self._nodes.update((name, _constant(array)) for name, array in made.items())
        return bool(made)

    def _bind(self, output: str) -> None:
        """Bind what TVM leaves to be bound by its first reader, so that it gets its own name."""
        value = self._nodes.get(output)
        if isinstance(value, relax.Call) and isinstance(value.ty, relax.TensorType):
            self._nodes[output] = self.bb.emit(value)

    def _operands(self, node: onnx.NodeProto) -> str:
        types = (getattr(self._nodes.get(name), "ty", None) for name in node.input if name)
        return ", ".join(str(ty) for ty in types) or "none"

    def _convert_operator(
        self, op_name: str, inputs: list[Any], attrs: dict[str, Any], opset: int
    ) -> relax.Expr:
        override = OVERRIDES.get(op_name)
        custom = attrs["tvm_custom"]
        made = None
        if override is not None:
            made = override(NodeView(tuple(inputs), attrs, opset, custom["num_outputs"]))
        if made is not None:
            made = self.bb.normalize(made)
        else:
            made = super()._convert_operator(op_name, inputs, attrs, opset)
        return stamp_tree(made, custom["name"]) if self._branch_depth else made

    def _convert_subgraph(self, bb: relax.BlockBuilder, graph: onnx.GraphProto) -> relax.Expr:
        self._branch_depth += 1
        try:
            return super()._convert_subgraph(bb, graph)
        finally:
            self._branch_depth -= 1


def _constant(array: np.ndarray) -> relax.Expr:
    # with its own type: without it, int64 would become int32
    return relax.const(np.ascontiguousarray(array).reshape(array.shape), str(array.dtype))


def _is_static(shape: relax.ShapeExpr) -> bool:
    return all(isinstance(dim, tvm.tirx.IntImm) for dim in shape.values)


def _stamp(func: relax.Function, markers: Mapping[str, str]) -> relax.Function:
    """Bindings up to a marker get its name; the markers go."""
    names = {}
    pending: list[str] = []
    for block in func.body.blocks:
        for binding in block.bindings:
            pending.append(binding.var.name)
            if binding.var.name in markers:
                names.update(dict.fromkeys(pending, markers[binding.var.name]))
                pending = []

    def change(var: relax.Var, value: relax.Expr) -> relax.Expr | None:
        if var.name in markers:
            return None
        name = names.get(var.name, "")
        return value if origins_of(value) or not name else with_origins(value, name)

    return map_bindings(func, change)


def first_line(err: Exception) -> str:
    """Type and first line of an error; TVM's go on with a stack of C++ frames."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    text = lines[0] if lines else "no reason given"
    return f"{type(err).__name__}: {text[:300]}"
