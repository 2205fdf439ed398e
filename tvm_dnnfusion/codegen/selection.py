"""Ops that choose elements by other elements or by scaled indices: gathers, resizing.

One-to-Many movement; like all movement it vanishes into the indices at the loads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm import tirx

from tvm_dnnfusion.codegen.resizing import nearest
from tvm_dnnfusion.codegen.value import Body, Index, Value
from tvm_dnnfusion.ecg.graph import Graph, Op

Dims = tuple[int, ...]


def take(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value | None:
    """take(x, indices; axis, mode): out[a, i, b] = x[a, indices[i], b]."""
    source, picks = inputs
    axis, mode = op.attr("axis"), op.attr("mode", "fast")
    if axis is None or mode not in ("fast", "clip", "wrap"):
        return None
    a, rank = int(axis) % len(source.shape), len(picks.shape)  # type: ignore[arg-type]
    n = source.shape[a]

    def at(body: Body, index: Index) -> Any:
        chosen = tirx.Cast("int64", body.position(picks, tuple(index[a : a + rank])))
        if mode == "clip":
            chosen = tirx.min(tirx.max(chosen, tirx.const(0, "int64")), tirx.const(n - 1, "int64"))
        elif mode == "wrap":
            chosen = tirx.floormod(chosen, tirx.const(n, "int64"))
        return body.read(source, (*index[:a], chosen, *index[a + rank :]))

    return Value(shape, source.dtype, at)


def pixel_shuffle(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value | None:
    """nn.pixel_shuffle(x; upscale_factor): [.., C r r, H, W] -> [.., C, H r, W r]."""
    source, r = inputs[0], int(op.attr("upscale_factor", 1))  # type: ignore[arg-type]

    def at(body: Body, index: Index) -> Any:
        *lead, c, h, w = index
        channel = (c * r + h % r) * r + w % r
        return body.read(
            source, (*lead, body.simplify(channel), body.simplify(h // r), body.simplify(w // r))
        )

    return Value(shape, source.dtype, at)


def gather_elements(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value | None:
    """gather_elements(x, indices; axis): out[i] = x[.., indices[i], ..]."""
    source, picks = inputs
    axis = int(op.attr("axis", 0) or 0) % len(source.shape)  # type: ignore[arg-type]
    n = source.shape[axis]

    def at(body: Body, index: Index) -> Any:
        chosen = tirx.Cast("int64", body.position(picks, index))
        chosen = tirx.Select(chosen < tirx.const(0, "int64"), chosen + n, chosen)
        return body.read(source, (*index[:axis], chosen, *index[axis + 1 :]))

    return Value(shape, source.dtype, at)


KINDS: Mapping[str, Callable[[Op, list[Value], Dims, Graph], Value | None]] = {
    "take": take,
    "gather_elements": gather_elements,
    "image.resize2d": nearest,
    "image.resize3d": nearest,
    "nn.pixel_shuffle": pixel_shuffle,
}
