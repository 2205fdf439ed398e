"""Kernels that write into a part of a larger tensor (`planners/places.py`).

An output stage is made as if its tensor had memory of its own. When the function is there, the
output becomes a part of its buffer: the parameter takes the buffer's shape, and every index moves:

    for c, h, w: out[0, c, h, w] = ...      ->      for c, h, w: buffer[0, c + 4, h, w] = ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad, TensorRegion

from tvm_dnnfusion.codegen.stages import NotLowerable


@dataclass(frozen=True)
class Slot:
    """The physical part of a buffer that an output takes: its first index in `shape`."""

    buffer: str
    shape: tuple[int, ...]
    start: tuple[int, ...]


def write_into(func: Any, outputs: Sequence[Slot | None]) -> Any:
    """The function with its last parameters, the outputs, written into these slots.

    Raises NotLowerable for two parts of one buffer: a schedule takes each output for a whole one.
    """
    params = list(func.params)
    first = len(params) - len(outputs)
    used = [slot.buffer for slot in outputs if slot is not None]
    if len(set(used)) < len(used):
        raise NotLowerable("two parts of one joined tensor")
    moved: dict[Any, tuple[Any, tuple[int, ...]]] = {}
    for i, slot in enumerate(outputs, first):
        if slot is not None:
            old = params[i]
            params[i] = tirx.decl_buffer(slot.shape, old.ty.dtype, old.name)
            moved[old] = params[i], slot.start
    if not moved:
        return func
    return tirx.PrimFunc(params, _moved(func.body, moved), func.ret_type, func.attrs)


def _moved(body: Any, moved: Mapping[Any, tuple[Any, tuple[int, ...]]]) -> Any:
    """The statement with reads and writes of these buffers moved into others."""

    def load(node: Any) -> Any:
        if node.source not in moved:
            return node
        buffer, start = moved[node.source]
        return tirx.BufferLoad(buffer, _plus(node.indices, start))

    def store(node: Any) -> Any:
        if node.buffer not in moved:
            return node
        buffer, start = moved[node.buffer]
        return tirx.BufferStore(buffer, node.value, _plus(node.indices, start))

    def region(node: Any) -> Any:
        if node.source not in moved:
            return node
        buffer, start = moved[node.source]
        ranges = [
            tvm.ir.Range.from_min_extent(r.min + s if s else r.min, r.extent)
            for r, s in zip(node.region, start)
        ]
        return tirx.BufferRegion(buffer, ranges)

    changes = [(TensorLoad, load), (tirx.BufferStore, store), (TensorRegion, region)]
    return tvm_ffi.structural_map(body, changes)


def _plus(indices: Any, start: tuple[int, ...]) -> list[Any]:
    return [i + s if s else i for i, s in zip(indices, start)]
