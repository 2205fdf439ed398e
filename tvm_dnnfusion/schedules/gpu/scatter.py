"""Scattered updates on GPUs: `relax.scatter_nd` as kernels of our own; TVM 0.27's are ill-formed.

    out = data;  for u, s: out[indices[u], s] += updates[u, s]       += also *=, min, max or plain =
->  for e in work-items: out[e] = data[e]
    for s in work-items: for u: out[indices[u], s] += updates[u, s]

Several updates of an element meet in one work-item, in order: there is no race, and the result is
the same in every run. Where updates replace, no two of them may have one place (ONNX), and each has
a work-item of its own. What lies outside of the data is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import relax, tirx
from tvm.script import tirx as T

from tvm_dnnfusion.codegen.gpu_rows import GROUP
from tvm_dnnfusion.schedules.gpu.common import ScheduleFailed
from tvm_dnnfusion.schedules.gpu.scan import view

STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda old, new: new, "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new, "min": tirx.min, "max": tirx.max,
}  # fmt: skip


def scatter_nd(builder: Any, call: Any) -> Any:
    """A call of the kernels, between views of its operands as rows."""
    shapes = [_known(call, x) for x in call.args]
    (dims, picks, _), (data, places, updates) = shapes, call.args
    depth, dtype = picks[-1], str(data.ty.dtype)
    total, count, row = math.prod(dims), math.prod(picks[:-1]), math.prod(dims[depth:])
    if 0 in (total, count):
        return data
    strides = [math.prod(dims[k + 1 : depth]) for k in range(depth)]
    func = kernel(total // row, count, row, tuple(zip(dims, strides)), dtype,
                  str(places.ty.dtype), str(call.attrs.reduction))  # fmt: skip
    name = builder.add_func(func, "scatter_nd")
    rows = [(data, (total // row, row)), (places, (count, depth)), (updates, (count, row))]
    given = [builder.emit(view(x, relax.ShapeExpr(list(s)), str(x.ty.dtype))) for x, s in rows]
    made: Any = relax.TensorType((total // row, row), dtype)
    return view(builder.emit(relax.call_tir(name, given, made)), call.ty.shape, dtype)


def _known(call: Any, x: Any) -> list[int]:
    shape: Any = x.ty.shape
    if shape is None or not all(isinstance(n, tirx.IntImm) for n in shape):
        raise ScheduleFailed(f"{call.op.name} on a GPU needs shapes that are known: give sizes")
    return [int(n) for n in shape]


def kernel(
    rows: int, count: int, row: int, axes: tuple[tuple[int, int], ...], dtype: str, index: str,
    reduction: str,
) -> Any:  # fmt: skip
    """The kernels for `count` updates of rows of so many elements, scheduled.

    `axes` are extent and stride (in rows) of the axes that indices [count, len(axes)] name.
    """
    step, alone = STEPS[reduction], reduction == "update"
    items = count * row if alone else row
    turns = 1 if alone else count
    whole, group, some = rows * row, min(GROUP, rows * row), min(GROUP, items)

    def wrapped(place: Any, extent: int) -> Any:
        """An index from the end is negative."""
        return tirx.Select(place < tirx.const(0, index), place + tirx.const(extent, index), place)

    def inside(p: Any, u: Any) -> Any:
        found: Any = tirx.const(True, "bool")
        for k, (extent, _) in enumerate(axes):
            place = wrapped(p[u, k], extent)
            low, high = tirx.const(0, index), tirx.const(extent, index)
            found = tirx.And(found, tirx.And(place >= low, place < high))
        return found

    def target(p: Any, u: Any) -> Any:
        found: Any = tirx.const(0, "int32")
        for k, (extent, stride) in enumerate(axes):
            found = found + tirx.Cast("int32", wrapped(p[u, k], extent)) * stride
        return found

    @T.prim_func(private=True, s_tir=True)
    def scatter(given: T.handle, places: T.handle, updates: T.handle, result: T.handle):
        x = T.match_buffer(given, (rows, row), dtype)
        p = T.match_buffer(places, (count, len(axes)), index)
        new = T.match_buffer(updates, (count, row), dtype)
        y = T.match_buffer(result, (rows, row), dtype)
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        for b in T.thread_binding(-(-whole // group), thread="blockIdx.x"):
            for t in T.thread_binding(group, thread="threadIdx.x"):
                with T.sblock():
                    if b * group + t < whole:
                        i: T.let[T.int32] = (b * group + t) // row
                        j: T.let[T.int32] = (b * group + t) % row
                        y[i, j] = x[i, j]
        for b in T.thread_binding(-(-items // some), thread="blockIdx.x"):
            for t in T.thread_binding(some, thread="threadIdx.x"):
                with T.sblock():
                    if b * some + t < items:
                        for turn in T.serial(turns):
                            u: T.let[T.int32] = (b * some + t) // row + turn
                            s: T.let[T.int32] = (b * some + t) % row
                            if inside(p, u):
                                y[target(p, u), s] = step(y[target(p, u), s], new[u, s])

    func: Any = scatter
    return func.with_attr("dnnfusion.schedule", "scatter").with_attr("op_pattern", 8)
