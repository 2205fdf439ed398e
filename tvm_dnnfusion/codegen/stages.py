"""The stages of a block under construction: what is computed once and read by others.

A stage is a te.Tensor; its name says its role, and schedules find it by that name:

    pad*     an operand laid out for the anchor: padding and prologue applied
    pack*    an operand of a matmul that is not a constant, packed for the register tile
    query*, key*, value*, mask*   the operands of attention, packed for its two products
    anchor   the convolution, matmul or pooling, in the shape of its register tiles
    border   what the windows of a GPU's pooling cover
    mid      the epilogue between a convolution and the pooling that follows it; attention's result
    part*    vector-wide partial results of a reduction,  red* its result
    meet*    partial results of a GPU's many work-items, folded into fewer
    hold*    a row that several stages read
    out*     an output of the kernel
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tvm import te, tirx

from tvm_dnnfusion.codegen.gpu_rows import beside_anchor, meeting, row_items
from tvm_dnnfusion.codegen.layout import PLAIN, Layout
from tvm_dnnfusion.codegen.params import Choices
from tvm_dnnfusion.codegen.tiles import Tile
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute, load, store
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Op


class NotLowerable(Exception):
    """The block has a form that no template covers; it is lowered in the plain way."""


@dataclass(frozen=True)
class Packed:
    """A constant in the form in which a kernel reads it: packed at compile time."""

    name: str
    data: np.ndarray


@dataclass
class Stages:
    """Collects the arguments and stages of one kernel."""

    device: DeviceSpec
    kind: str = "map"
    arguments: list[tuple[str | Packed, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    anchored: bool = False
    width: int = 0  # columns that the anchor computes
    domain: tuple[int, ...] = ()  # the extents of the anchor's own axes
    planes: bool = False  # the anchor computes some places twice: outputs keep to its order
    tail: Op | None = None  # the pooling that follows the anchor, if the block has one
    tile: Tile | None = None  # the register tile of a convolution
    winograd: int = 0  # the largest F(m, r) that convolutions may take, 0 for none
    attrs: dict[str, Any] = field(default_factory=dict)  # what the schedule must know, by name
    choices: Choices = field(default_factory=Choices)  # the template's parameters

    def name(self, role: str) -> str:
        """A fresh stage name: pad0, pad1, ..."""
        k = self.counts.get(role, 0)
        self.counts[role] = k + 1
        return f"{role}{k}"

    def argument(self, source: str | Packed, shape: tuple[int, ...], dtype: str) -> Any:
        """A kernel argument."""
        tensor = te.placeholder(shape, dtype, f"p{len(self.arguments)}")
        self.arguments.append((source, tensor))
        return tensor

    def sums(self, dtype: str) -> str:
        """The dtype in which sums of products of `dtype` are kept, "" for its own."""
        return self.device.sums if dtype == "float16" else ""

    def hold(self, value: Value, role: str = "hold", layout: Layout = PLAIN) -> Value:
        """The value as a stage of its own."""
        stage = store(self.name(role), value, layout)
        out = load(stage, value.shape, layout)
        out.readers, out.push = value.readers, value.push
        return out

    def resident(self, value: Value) -> Value:
        """The value, held if a read of it is more than a load."""
        return value if value.resident else self.hold(value)

    def anchor(self, kind: str) -> None:
        """Declare the block's heavy op. Raises NotLowerable if it has one already."""
        if self.anchored:
            raise NotLowerable(f"a second heavy op ({kind}) after {self.kind}")
        self.anchored, self.kind = True, kind

    def reduce(
        self,
        value: Value,
        axes: tuple[int, ...],
        combine: Callable[..., Any],
        identity: Callable[[str], Any],
        role: str = "red",
    ) -> Value:
        """Fold axes of a value: [.., n, ..] -> [.., 1, ..], as one stage or two.

        Where the innermost axis is folded, lane-wise partial results come first, so that the loop
        over it is a vector loop: part[r, l] = fold_k x[r, k * f + l], red[r] = fold_l part[r, l].
        """
        if self.kind == "map":
            self.kind = "rows"
        shape, last = value.shape, len(value.shape) - 1
        kept = tuple(1 if a in axes else n for a, n in enumerate(shape))
        lanes = self.device.lanes(value.dtype if value.dtype != "bool" else "int8")
        if last in axes and not value.layout.blocked and shape[last] >= 2 * lanes:
            return self._reduce_lanes(value, axes, kept, lanes, combine, identity, role)
        layout = value.layout if value.layout.blocked and value.layout.axis not in axes else PLAIN
        extents = tuple(shape[a] for a in axes)

        def expr(body: Body, index: Index) -> Any:
            place, folded = index[: -len(axes)], index[-len(axes) :]
            logical = list(layout.logical(tuple(place)))
            for a, i in zip(axes, folded):
                logical[a] = i
            return body.read(value, tuple(logical))

        stage = compute(self.name(role), layout.shape(kept), expr, extents, combine)
        return load(stage, kept, layout)

    def _reduce_lanes(
        self,
        value: Value,
        axes: tuple[int, ...],
        kept: tuple[int, ...],
        lanes: int,
        combine: Callable[..., Any],
        identity: Callable[[str], Any],
        role: str,
    ) -> Value:
        row = self._row_axes(value, axes)
        n = math.prod(value.shape[a] for a in row)
        whole, width = n % lanes == 0, lanes
        if self.anchored:  # one schedule of theirs holds the rows with what the anchor makes
            lanes *= beside_anchor(self.device, n, lanes)
        else:
            lanes *= row_items(self.device, math.prod(kept), n, lanes)
        others = tuple(a for a in axes if a not in row)
        extents = (*(value.shape[a] for a in others), -(-n // lanes))

        def partial(body: Body, index: Index) -> Any:
            place = list(index[: len(kept)])
            for a, i in zip(others, index[len(kept) + 1 :]):
                place[a] = i
            rest = k = index[-1] * lanes + index[len(kept)]
            for a in reversed(row):
                place[a] = rest if a == row[0] else tirx.indexmod(rest, value.shape[a])
                rest = rest if a == row[0] else tirx.indexdiv(rest, value.shape[a])
            if n % lanes == 0:
                return body.read(value, tuple(place))
            # one condition for a vector, where the row ends with one
            inside = tirx.indexdiv(k, width) < n // width if whole else k < n
            return body.where(
                inside, lambda: body.read(value, tuple(place)), lambda: identity(value.dtype)
            )

        part = compute(self.name("part"), (*kept, lanes), partial, extents, combine)
        middle = 0 if self.anchored or self.device.kind != "gpu" else meeting(lanes)
        if middle:
            all_of, steps = part, lanes // middle

            def meet(body: Body, index: Index) -> Any:
                return all_of(*index[: len(kept)], index[-1] * middle + index[len(kept)])

            part = compute(self.name("meet"), (*kept, middle), meet, (steps,), combine)
            lanes = middle
        stage = compute(self.name(role), kept, lambda body, index: part(*index), (lanes,), combine)
        return load(stage, kept)

    def _row_axes(self, value: Value, axes: tuple[int, ...]) -> tuple[int, ...]:
        """The folded axes that are one row: the last, on GPUs with those just before it."""
        first = len(value.shape) - 1
        while self.device.kind == "gpu" and not self.anchored and first - 1 in axes:
            first -= 1
        return tuple(range(first, len(value.shape)))


def zero(dtype: str) -> Any:
    """Identity of sums."""
    return tirx.const(0, dtype)


def lowest(dtype: str) -> Any:
    """Identity of maxima: minus infinity where the dtype has it, so that it is kept."""
    return tirx.const(float("-inf"), dtype) if dtype.startswith("float") else te.min_value(dtype)


def highest(dtype: str) -> Any:
    """Identity of minima."""
    return tirx.const(float("inf"), dtype) if dtype.startswith("float") else te.max_value(dtype)


MAX = te.comm_reducer(lambda a, b: tirx.max(a, b), lowest, name="max")
MIN = te.comm_reducer(lambda a, b: tirx.min(a, b), highest, name="min")


def one(dtype: str) -> Any:
    """Identity of products."""
    return tirx.const(1, dtype)
