"""Running sums and products on GPUs: `relax.cumsum` and `relax.cumprod` as kernels of our own.

    for r: for k: y[r, k] = x[r, 0] + .. + x[r, k]
->  for r in blockIdx.x: for item in threadIdx.x:
      part[item] = x[r, item * c] + .. + x[r, (item + 1) * c - 1]     in local memory, a barrier
      sum = part[0] + .. + part[item - 1];  for k in range(c): sum += x[r, ..]; y[r, ..] = sum

Where there are many rows, or short ones, a work-item takes a row from end to end. TVM 0.27's own
form for the last axis (`gpu_2d_continuous_cumsum`) lets work-items read what others write without a
barrier between: on PoCL and under Oclgrind its sums are wrong for most lengths.
"""

from __future__ import annotations

import math
from typing import Any

import tvm
from tvm import relax
from tvm.script import tirx as T

from tvm_dnnfusion.codegen.gpu_rows import GROUP
from tvm_dnnfusion.schedules.gpu.common import ScheduleFailed

LEAST_ELEMENTS = 4
"""Elements that each work-item of a group should have: fewer do not pay for the barrier."""

MANY_ROWS = 1024
"""Rows from which a work-item each keeps a GPU busy: 64 for each of 16 compute units."""


def group_of(rows: int, length: int) -> int:
    """Work-items that scan a row together; 1 where there are many rows, or short ones."""
    return GROUP if rows < MANY_ROWS and length >= GROUP * LEAST_ELEMENTS else 1


def scan(builder: Any, call: Any) -> Any:
    """A call of the kernel for a scan, between views of its operand and result as three axes.

    Raises ScheduleFailed where their length is not known.
    """
    (x,), attrs = call.args, call.attrs
    shape: Any = x.ty.shape
    if shape is None or not all(isinstance(n, tvm.tirx.IntImm) for n in shape):
        raise ScheduleFailed(f"{call.op.name} on a GPU needs a shape that is known: give sizes")
    dims = [int(n) for n in shape]
    axis = int(attrs.axis) % len(dims) if attrs.axis is not None else None
    outer, length, inner = (
        (1, math.prod(dims), 1) if axis is None
        else (math.prod(dims[:axis]), dims[axis], math.prod(dims[axis + 1 :]))
    )  # fmt: skip
    source, made = str(x.ty.dtype), str(call.ty.dtype)
    product, exclusive = call.op.name == "relax.cumprod", bool(attrs.exclusive)
    rows = (outer, length, inner)
    three: Any = rows
    if 0 in rows:
        return relax.op.zeros(relax.ShapeExpr(list(call.ty.shape)), made)
    func = kernel(rows, source, made, product, exclusive)
    name = builder.add_func(func, str(call.op.name).split(".")[1])
    given = builder.emit(view(x, relax.ShapeExpr(three), source))
    out = builder.emit(relax.call_tir(name, given, relax.TensorType(three, made)))
    return view(out, call.ty.shape, made)


def view(x: Any, shape: Any, dtype: str) -> Any:
    """A tensor in another shape, without a copy."""
    return relax.call_pure_packed(
        "vm.builtin.reshape", x, shape, ty_args=relax.TensorType(shape, dtype)
    )


def kernel(
    rows: tuple[int, int, int], source: str, made: str, product: bool, exclusive: bool
) -> tvm.tirx.PrimFunc:
    """The scan of the middle axis of [outer, length, inner], scheduled.

    `source` and `made` are the dtypes of operand and result; an exclusive scan leaves out the
    element itself.
    """
    outer, _, inner = rows
    items = group_of(outer * inner, rows[1])
    one = T.Cast(made, 1 if product else 0)

    def step(a: Any, b: Any) -> Any:
        return a * b if product else a + b

    make = _by_items if items == 1 else _by_groups
    func = make(rows, source, made, one, step, exclusive)
    return func.with_attr("dnnfusion.schedule", "scan").with_attr("op_pattern", 8)


def _by_items(
    rows: tuple[int, int, int], source: str, made: str, start: Any, step: Any, exclusive: bool
) -> Any:
    outer, length, inner = rows
    total = outer * inner
    group = min(GROUP, total)

    @T.prim_func(private=True, s_tir=True)
    def scan(given: T.handle, result: T.handle):
        x = T.match_buffer(given, rows, source)
        y = T.match_buffer(result, rows, made)
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        for b in T.thread_binding(-(-total // group), thread="blockIdx.x"):
            for t in T.thread_binding(group, thread="threadIdx.x"):
                with T.sblock():
                    acc = T.sblock_alloc_buffer((1,), made, scope="local")
                    if b * group + t < total:
                        acc[0] = start
                        for k in T.serial(length):
                            i: T.let[T.int32] = (b * group + t) // inner
                            j: T.let[T.int32] = (b * group + t) % inner
                            if exclusive:
                                y[i, k, j] = acc[0]
                            acc[0] = step(acc[0], T.Cast(made, x[i, k, j]))
                            if not exclusive:
                                y[i, k, j] = acc[0]

    return scan


def _by_groups(
    rows: tuple[int, int, int], source: str, made: str, start: Any, step: Any, exclusive: bool
) -> Any:
    outer, length, inner = rows
    chunk = -(-length // GROUP)

    @T.prim_func(private=True, s_tir=True)
    def scan(given: T.handle, result: T.handle):
        x = T.match_buffer(given, rows, source)
        y = T.match_buffer(result, rows, made)
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        for b in T.thread_binding(outer * inner, thread="blockIdx.x"):
            for t in T.thread_binding(GROUP, thread="threadIdx.x"):
                with T.sblock():
                    acc = T.sblock_alloc_buffer((1,), made, scope="local")
                    part = T.sblock_alloc_buffer((GROUP,), made, scope="shared")
                    acc[0] = start
                    for k in T.serial(chunk):
                        if t * chunk + k < length:
                            acc[0] = step(
                                acc[0], T.Cast(made, x[b // inner, t * chunk + k, b % inner])
                            )
                    part[t] = acc[0]
                    acc[0] = start
                    for k in T.serial(GROUP):
                        if k < t:
                            acc[0] = step(acc[0], part[k])
                    for k in T.serial(chunk):
                        if t * chunk + k < length:
                            if exclusive:
                                y[b // inner, t * chunk + k, b % inner] = acc[0]
                            acc[0] = step(
                                acc[0], T.Cast(made, x[b // inner, t * chunk + k, b % inner])
                            )
                            if not exclusive:
                                y[b // inner, t * chunk + k, b % inner] = acc[0]

    return scan
