"""Transpositions: stages that read along another axis than they write.

Their innermost axis strides through what they read, one cache line for every element. In square
tiles, each line that is read is used up while it is in the first cache:

    for i, j: out[i, j] = x[j, i]
->  for io, jo in parallel: for ii: for ji in 16: out[...] = x[...]
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import sym, tirx

from tvm_dnnfusion.codegen.params import divisors
from tvm_dnnfusion.schedules.cpu.places import loads

# Elements of a tile along both axes: a cache line of float32.
TILE = 16

# Shorter axes make no tiles worth the loops.
MIN_TILE = 4


def crossed(block: Any) -> int | None:
    """The axis along which a block reads neighbours while its last axis strides; None: no such."""
    axes = [iv.var for iv in block.iter_vars]
    for load in loads(block):
        steps = [step_of(load, v) for v in axes]
        if steps and steps[-1] is not None and abs(steps[-1]) >= TILE and 1 in steps[:-1]:
            return steps.index(1)
    return None


def tile_length(extent: int) -> int | None:
    """A divisor of an axis that fits a tile; None where there is none."""
    return max((d for d in divisors(extent) if MIN_TILE <= d <= TILE), default=None)


def step_of(load: Any, axis: Any) -> int | None:
    """How far in memory the next element along an axis is; None where that is no number."""
    address: Any = tirx.const(0, "int32")
    for index, extent in zip(load.indices, load.source.ty.shape):
        address = address * extent + index

    def forward(v: Any) -> Any:
        return v + 1 if v.same_as(axis) else v

    further = tvm_ffi.structural_map(address, [(tirx.Var, forward)])
    step = sym.Analyzer().simplify(further - address)
    return int(step) if isinstance(step, tirx.IntImm) else None
