"""What is known of a tensor's values: an interval that holds all of them.

Guards of rules that could change the domain ask here: sqrt(B) * sqrt(B) -> B needs B >= 0. Interval
arithmetic over the producers, DEPTH ops deep; what is not known is (-inf, inf). NaN is left out:
an operand that is NaN is NaN before and after a rule. exp and sigmoid may underflow, so their lower
end 0 belongs to the interval.

Integers wrap, so of them only the kinds in _INTEGERS are known, which do no arithmetic: int8 x * x
may be negative, and so may abs(x). What a floating type cannot hold is an infinity or 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.rewrite.work import Work

DEPTH = 8
"""Producers that are followed; enough for softmax(q k / sqrt(d)) written out."""

INF = math.inf


@dataclass(frozen=True, slots=True)
class Interval:
    """All values lie in [low, high]."""

    low: float = -INF
    high: float = INF

    @property
    def nonnegative(self) -> bool:
        """Never below 0."""
        return self.low >= 0

    @property
    def positive(self) -> bool:
        """Always above 0."""
        return self.low > 0

    @property
    def nonzero(self) -> bool:
        """Never 0."""
        return self.low > 0 or self.high < 0


ANY = Interval()
_FIXED = {
    "abs": Interval(0),
    "square": Interval(0),
    "exp": Interval(0),
    "sqrt": Interval(0),
    "rsqrt": Interval(0),
    "nn.relu": Interval(0),
    "nn.softplus": Interval(0),
    "sigmoid": Interval(0, 1),
    "nn.softmax": Interval(0, 1),
    "nn.log_softmax": Interval(-INF, 0),
    "tanh": Interval(-1, 1),
    "erf": Interval(-1, 1),
    "sin": Interval(-1, 1),
    "cos": Interval(-1, 1),
    "cosh": Interval(1),
    "acos": Interval(0, math.pi + 1e-6),
    "variance": Interval(0),
    "std": Interval(0),
    "sign": Interval(-1, 1),
    "acosh": Interval(0),
    "argmax": Interval(0),
    "argmin": Interval(0),
    "one_hot": ANY,
}
_SAME = frozenset(
    "reshape permute_dims expand_dims squeeze flatten nn.batch_flatten broadcast_to strided_slice "
    "split take gather_elements gather_nd tile repeat flip mean max min nn.max_pool1d "
    "nn.max_pool2d nn.max_pool3d nn.avg_pool1d nn.avg_pool2d nn.avg_pool3d "
    "nn.adaptive_avg_pool1d nn.adaptive_avg_pool2d nn.adaptive_avg_pool3d nn.pixel_shuffle "
    "nn.dropout".split()
)
"""Kinds whose results are elements, averages or extremes of the first operand's."""

_INTEGERS = _SAME - {k for k in _SAME if k == "mean" or "avg_pool" in k} | frozenset(
    "maximum minimum nn.relu clip where concat stack nn.pad argmax argmin sign".split()
)
"""Kinds whose integer results are elements, extremes or positions: no arithmetic, no wrapping."""

_RANGES = {
    "float16": (6.1e-5, 65504.0),
    "bfloat16": (1.2e-38, 3.3e38),
    "float32": (1.2e-38, 3.4e38),
}
"""Smallest normal and largest number, rounded to the safe side (float64 has Python's own)."""


def interval(work: Work, tensor: str, depth: int = DEPTH) -> Interval:
    """The interval of a tensor."""
    data = work.constants.get(tensor)
    if data is not None:
        return _of_data(data)
    op = work.producer.get(tensor)
    if op is None or depth == 0 or op.barrier is not None:
        return ANY
    dtype = work.tensors[tensor].dtype
    if dtype.startswith(("int", "uint")) and op.kind not in _INTEGERS:
        return ANY
    return _held(_computed(work, op, depth), dtype)


def _computed(work: Work, op: Op, depth: int) -> Interval:
    if op.kind in _SAME:
        return interval(work, op.inputs[0], depth - 1)
    entry = _TABLE.get(op.kind)
    base = _FIXED.get(op.kind, ANY)
    if entry is None:
        return base
    found = entry(op, [interval(work, t, depth - 1) for t in op.inputs])
    if math.isnan(found.low) or math.isnan(found.high):
        return base
    return Interval(max(base.low, found.low), min(base.high, found.high))


def _held(x: Interval, dtype: str) -> Interval:
    """The interval with room for underflow to 0 and overflow to an infinity."""
    tiny, largest = _RANGES.get(dtype, (0.0, INF))
    low = -INF if x.low < -largest else 0.0 if 0 < x.low < tiny else x.low
    high = INF if x.high > largest else 0.0 if -tiny < x.high < 0 else x.high
    return Interval(low, high)


def _of_data(data: np.ndarray) -> Interval:
    if data.size == 0 or data.dtype.kind not in "fiub":
        return ANY
    low, high = float(data.min()), float(data.max())
    return ANY if math.isnan(low) or math.isnan(high) else Interval(low, high)


def _products(a: Interval, b: Interval) -> Interval:
    # 0 * inf is 0 here: an end that is infinite is never reached
    ends = [0.0 if x == 0 or y == 0 else x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return Interval(min(ends), max(ends))


def _multiply(op: Op, x: list[Interval]) -> Interval:
    found = _products(x[0], x[1])
    if op.inputs[0] == op.inputs[1]:
        return Interval(max(0.0, found.low), found.high)
    return found


def _divide(op: Op, x: list[Interval]) -> Interval:
    if not x[1].nonzero:
        # the sign is known even where the divisor may be 0, from one side
        return Interval(0) if x[0].nonnegative and x[1].nonnegative else ANY
    inverse = [0.0 if math.isinf(v) else 1 / v for v in (x[1].low, x[1].high)]
    return _products(x[0], Interval(min(inverse), max(inverse)))


def _exp(op: Op, x: list[Interval]) -> Interval:
    low = math.exp(min(x[0].low, 80.0)) * (1 - 1e-6) if x[0].low > -80 else 0.0
    return Interval(low, math.exp(x[0].high) * (1 + 1e-6) if x[0].high < 80 else INF)


def _sqrt(op: Op, x: list[Interval]) -> Interval:
    high = math.sqrt(max(0.0, x[0].high)) * (1 + 1e-6) if x[0].high < INF else INF
    return Interval(math.sqrt(max(0.0, x[0].low)) * (1 - 1e-6), high)


def _square(op: Op, x: list[Interval]) -> Interval:
    ends = sorted((abs(x[0].low), abs(x[0].high)))
    return Interval(ends[0] ** 2 if x[0].nonzero else 0.0, ends[1] ** 2)


def _abs(op: Op, x: list[Interval]) -> Interval:
    ends = sorted((abs(x[0].low), abs(x[0].high)))
    return Interval(ends[0] if x[0].nonzero else 0.0, ends[1])


def _sum(op: Op, x: list[Interval]) -> Interval:
    return Interval(0 if x[0].nonnegative else -INF, 0 if x[0].high <= 0 else INF)


def _prod(op: Op, x: list[Interval]) -> Interval:
    return Interval(0) if x[0].nonnegative else ANY


def _power(op: Op, x: list[Interval]) -> Interval:
    even = x[1].low == x[1].high and x[1].low % 2 == 0
    return Interval(0) if x[0].nonnegative or even else ANY


def _clip(op: Op, x: list[Interval]) -> Interval:
    low, high = (getattr(a, "value", None) for a in op.args[1:3])
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        return ANY
    return Interval(max(float(low), min(x[0].low, float(high))), min(float(high), x[0].high))


def _pad(op: Op, x: list[Interval]) -> Interval:
    fill = float(str(op.attr("pad_value", 0.0)))
    return Interval(min(x[0].low, fill), max(x[0].high, fill))


def _union(op: Op, x: list[Interval]) -> Interval:
    return Interval(min(i.low for i in x), max(i.high for i in x))


_TABLE: dict[str, Callable[[Op, list[Interval]], Interval]] = {
    "add": lambda op, x: Interval(x[0].low + x[1].low, x[0].high + x[1].high),
    "subtract": lambda op, x: Interval(x[0].low - x[1].high, x[0].high - x[1].low),
    "multiply": _multiply,
    "divide": _divide,
    "negative": lambda op, x: Interval(-x[0].high, -x[0].low),
    "maximum": lambda op, x: Interval(max(i.low for i in x), max(i.high for i in x)),
    "minimum": lambda op, x: Interval(min(i.low for i in x), min(i.high for i in x)),
    "nn.relu": lambda op, x: Interval(max(0.0, x[0].low), max(0.0, x[0].high)),
    "exp": _exp,
    "sqrt": _sqrt,
    "square": _square,
    "abs": _abs,
    "sum": _sum,
    "prod": _prod,
    "power": _power,
    "clip": _clip,
    "where": lambda op, x: _union(op, x[1:]),
    "concat": _union,
    "stack": _union,
    "astype": lambda op, x: x[0],
    "nn.pad": _pad,
}
"""Kind -> the interval of the result from those of the operands."""
