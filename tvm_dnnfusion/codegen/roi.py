"""Region-of-interest pooling by bilinear samples (Mask R-CNN, He et al., ICCV'17, section 3).

Where a sample lies depends on the region, on its bin and on the axis, and on nothing else: places
and weights are stages of [R, bins * samples] for each axis. What remains for an element are four
loads a sample and the multiply-adds between them, along whole vectors of channels.

    y = start + (bin + (s + 1/2) / S) * size / bins       of region r, all scaled to the image
    out[r, c, i, j] = mean over s, t of sum over the four neighbours of (y, x) of weight * x[b, c]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from tvm_dnnfusion.codegen.pointwise import MAX_WEIGHT
from tvm_dnnfusion.codegen.stages import NotLowerable, Stages
from tvm_dnnfusion.codegen.value import Body, Index, Value
from tvm_dnnfusion.ecg.graph import Op

MAX_SAMPLES = 3
"""Samples along each axis of a bin that are written out; more make long kernels."""


@dataclass(frozen=True)
class _Axis:
    """The samples along one axis: the two neighbours of each, and their weights."""

    low: Value
    high: Value
    near: Value
    far: Value

    def at(self, body: Body, region: Any, sample: Any) -> tuple[Any, Any, Any, Any]:
        """(low, high, weight of low, weight of high) of a sample of a region."""
        place = (region, sample)
        low, high = (body.position(v, place) for v in (self.low, self.high))
        return low, high, body.read(self.near, place), body.read(self.far, place)


def roi_align(op: Op, inputs: list[Value], shape: tuple[int, ...], stages: Stages) -> Value:
    """vision.roi_align(x [N, C, H, W], regions [R, 5]: image, x1, y1, x2, y2) -> [R, C, h, w].

    Raises NotLowerable for NHWC and for sample counts that depend on the region, or are many.
    """
    samples = int(op.attr("sample_ratio", -1) or -1)  # type: ignore[arg-type]
    if op.attr("layout") != "NCHW" or not 1 <= samples <= MAX_SAMPLES:
        raise NotLowerable(f"{op.kind} in {op.attr('layout')} with {samples} samples")
    x, regions = (stages.resident(v) for v in inputs)
    if x.dtype != "float32" or regions.dtype != "float32":
        raise NotLowerable(f"{op.kind} of {x.dtype} and {regions.dtype}")
    down = _axis(op, regions, 2, shape[2], samples, x.shape[2], stages)
    across = _axis(op, regions, 1, shape[3], samples, x.shape[3], stages)
    mean = op.attr("mode") == "avg"

    def at(body: Body, index: Index) -> Any:
        r, c, i, j = index
        image = tirx.Cast("int32", body.position(regions, (r, 0))) if x.shape[0] > 1 else 0
        rows = [down.at(body, r, i * samples + s) for s in range(samples)]
        columns = [across.at(body, r, j * samples + s) for s in range(samples)]

        def line(y: Any, column: tuple[Any, Any, Any, Any]) -> Any:
            left, right, near, far = column
            ends = (body.read(x, (image, c, y, at)) for at in (left, right))
            return next(ends) * near + next(ends) * far

        found = [
            line(top, column) * near + line(bottom, column) * far
            for top, bottom, near, far in rows
            for column in columns
        ]
        return _folded(found, mean)

    # nothing that another op would write out in its own expression, or in another order
    return Value(shape, x.dtype, at, layout=x.layout, weight=MAX_WEIGHT + 1)


def _folded(values: list[Any], mean: bool) -> Any:
    total = values[0]
    for value in values[1:]:
        total = total + value if mean else tirx.max(total, value)
    return total * tirx.const(1.0 / len(values), "float32") if mean else total


def _axis(
    op: Op, regions: Value, first: int, bins: int, samples: int, extent: int, stages: Stages
) -> _Axis:
    """The samples of an axis; `first` is the column of `regions` where the axis begins."""
    scale = _number(float(op.attr("spatial_scale", 1.0)))  # type: ignore[arg-type]
    aligned = bool(op.attr("aligned"))

    def place(body: Body, index: Index) -> Any:
        r, k = index
        start, end = (body.read(regions, (r, first + n)) * scale for n in (0, 2))
        size = end - start if aligned else tirx.max(end - start, _number(1.0))
        part = size / _number(bins)
        within = (_real(k % samples) + _number(0.5)) * part / _number(samples)
        return start + _real(k // samples) * part + within

    shape = (regions.shape[0], bins * samples)
    where = stages.hold(Value(shape, "float32", place))

    def inside(body: Body, index: Index) -> Any:
        y = body.read(where, index)
        return tirx.min(tirx.max(y, _number(0.0)), _number(extent - 1))

    clamped = stages.hold(Value(shape, "float32", inside))

    def low(body: Body, index: Index) -> Any:
        return tirx.Cast("int32", body.read(clamped, index))

    def weight(far: bool) -> Callable[[Body, Index], Any]:
        def at(body: Body, index: Index) -> Any:
            y, all_of_it = body.read(where, index), body.read(clamped, index)
            part = all_of_it - _real(low(body, index))
            used = tirx.all(y >= _number(-1.0), y <= _number(extent))
            return tirx.Select(used, part if far else _number(1.0) - part, _number(0.0))

        return at

    below = stages.hold(Value(shape, "int32", low))

    def high(body: Body, index: Index) -> Any:
        return tirx.min(body.read(below, index) + 1, tirx.const(extent - 1, "int32"))

    return _Axis(
        below,
        stages.hold(Value(shape, "int32", high)),
        stages.hold(Value(shape, "float32", weight(far=False))),
        stages.hold(Value(shape, "float32", weight(far=True))),
    )


def _number(value: float) -> Any:
    return tirx.const(value, "float32")


def _real(value: Any) -> Any:
    return tirx.Cast("float32", value)


KINDS = {"vision.roi_align": roi_align}
