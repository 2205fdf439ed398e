"""Layers, parameters and FLOPs of the zoo's files beside the paper's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from benchmarks.zoo import store
from benchmarks.zoo.catalog import ZOO, Entry

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Figures:
    """ONNX nodes, floating-point parameters, and FLOPs of products and convolutions."""

    nodes: int
    parameters: int
    flops: int


def figures(model: onnx.ModelProto) -> Figures:
    """Figures of a model whose shapes are inferred."""
    graph = model.graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        shapes.setdefault(value.name, tuple(dim.dim_value for dim in dims))
    counted = sum(math.prod(t.dims) for t in graph.initializer if t.data_type == TensorProto.FLOAT)
    return Figures(len(graph.node), counted, sum(_flops(node, shapes) for node in graph.node))


def _flops(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Two per multiply-add; other operators count nothing here."""
    if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return 0
    first, second, made = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        return 2 * math.prod(made) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return 2 * math.prod(first) * math.prod(second[1:])
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    return 2 * math.prod(made) * first[-2 if turned else -1]


def table() -> str:
    """Markdown: a row per model; those that are not built have the paper's figures alone."""
    header = (
        "| model | nodes | paper's layers | parameters M | paper's | GFLOPs | paper's | remarks |"
    )
    rows = [_row(entry) for entry in ZOO.values()]
    return "\n".join([header, "| --- |" + " ---: |" * 6 + " --- |", *rows])


def _row(entry: Entry) -> str:
    paper = entry.paper
    theirs = ours = ("", "", "")
    if paper is not None:
        theirs = (f"{paper.layers:,}", f"{paper.params_m:g}", f"{paper.gflops:g}")
    if store.path(entry.name).is_file():
        found = figures(onnx.load(store.path(entry.name)))
        ours = (f"{found.nodes:,}", f"{found.parameters / 1e6:.1f}", f"{found.flops / 1e9:.1f}")
    pairs = (cell for pair in zip(ours, theirs) for cell in pair)
    return f"| {' | '.join([entry.title, *pairs, entry.note])} |"
