"""The operators that random graphs are made of, by mapping type: each step appends one or a few."""

from __future__ import annotations

import math

from tests.e2e.dags import Maker
from tvm_dnnfusion.ecg.graph import GraphError

SMOOTH = ("sigmoid", "tanh", "erf", "nn.gelu", "nn.gelu_tanh", "nn.silu", "cos", "atan",
          "nn.softplus", "nn.selu")  # fmt: skip
EXACT = ("nn.relu", "abs", "negative")


def unary(m: Maker) -> None:
    if m.c.flag():
        m.add(m.c.pick(EXACT), m.operand(), exact=True)
    else:
        m.add(m.c.pick(SMOOTH), m.operand())


def guarded(m: Maker) -> None:
    """Functions with a domain: exp of what is bounded, roots of what is positive."""
    kind = m.c.pick(("exp", "sqrt", "rsqrt", "log", "divide"))
    x = m.operand()
    if kind == "exp":
        m.add("exp", m.add("tanh", x))
        return
    positive = m.add("add", m.add("abs", x, exact=True), 0.5)
    if kind == "divide":
        m.add("divide", m.partner(positive), positive)
    else:
        m.add(kind, positive)


def parametric(m: Maker) -> None:
    kind, x = m.c.pick(("clip", "leaky", "prelu", "cast", "triu")), m.operand()
    if kind == "clip":
        m.add("clip", x, -0.5, 1.0, exact=True)
    elif kind == "leaky":
        m.add("nn.leakyrelu", x, alpha=0.1)
    elif kind == "prelu":
        axis = m.axis(x)
        m.add("nn.prelu", x, m.weight((m.shape(x)[axis],)), axis=axis % len(m.shape(x)))
    elif kind == "cast":
        m.add("astype", m.add("astype", x, dtype="float64", exact=True), dtype="float32")
    elif len(m.shape(x)) >= 2:
        m.add(m.c.pick(("triu", "tril")), x, m.c.number(-1, 1), exact=True)


def binary(m: Maker) -> None:
    x = m.operand()
    kind = m.c.pick(("add", "subtract", "maximum", "minimum", "multiply"))
    y = m.partner(x)
    if kind == "multiply" and y in m.pool:
        y = m.add("tanh", y)
    operands = (x, y) if m.c.flag() else (y, x)
    m.add(kind, *operands, exact=kind in ("maximum", "minimum"))


def shared(m: Maker) -> None:
    """One value read by several ops of what is likely one block."""
    x = m.operand()
    gate = m.add("sigmoid", x)
    m.add("add", m.add("multiply", x, gate), m.add("nn.relu", gate, exact=True))


def choose(m: Maker) -> None:
    x = m.operand(exact=True)
    y = m.partner(x)
    condition = m.add(m.c.pick(("greater", "less_equal")), x, 0.1, exact=True)
    m.add("where", condition, x, y, exact=True)


def whole(m: Maker) -> None:
    """Discontinuous, and other dtypes, over exact values."""
    x = m.operand(exact=True)
    kind = m.c.pick(("floor", "round", "sign", "int", "argmax", "count"))
    if kind in ("floor", "round", "sign"):
        m.add(kind, m.add("multiply", x, 4.0, exact=True), exact=True)
    elif kind == "int":
        i = m.add("astype", m.add("multiply", x, 8.0, exact=True), dtype="int32", exact=True)
        j = m.add("add", i, m.add("maximum", i, m.partner(i), exact=True), exact=True)
        m.add("astype", j, dtype="float32", exact=True)
    elif kind == "argmax":
        m.add("argmax", x, axis=m.axis(x), keepdims=m.c.flag(), exact=True)
    else:
        seen = m.add("astype", m.add("greater", x, 0.0, exact=True), dtype="int32", exact=True)
        m.add("sum", seen, axis=m.axis(seen), keepdims=m.c.flag(), exact=True)


def spread(m: Maker) -> None:
    """broadcast_to: along an axis of 1, or along new leading axes."""
    x = m.operand()
    shape = m.shape(x)
    wide = tuple(m.c.pick((2, 3, 16)) if n == 1 and m.c.flag() else n for n in shape)
    if m.c.number(0, 2) == 0 and len(shape) < 5:
        wide = (m.c.number(1, 3), *wide)
    _limit(math.prod(wide))
    m.add("broadcast_to", x, wide, exact=True)


def gather(m: Maker) -> None:
    x = m.operand()
    axis = m.axis(x)
    n = m.shape(x)[axis]
    kind = m.c.pick(("take", "take", "scalar", "elements", "tile", "repeat"))
    if kind == "take":
        m.add("take", x, m.indices((m.c.number(1, 2 * n),), n), axis=axis, exact=True)
    elif kind == "scalar" and len(m.shape(x)) > 1:
        m.add("take", x, m.indices((), n), axis=axis, exact=True)
    elif kind == "elements":
        shape = tuple(m.c.number(1, d) for d in m.shape(x))
        m.add("gather_elements", x, m.indices(shape, n), axis=axis % len(shape), exact=True)
    elif kind == "tile":
        repeats = tuple(m.c.number(1, 2) for _ in m.shape(x))
        _limit(math.prod(repeats) * math.prod(m.shape(x)))
        m.add("tile", x, repeats=repeats, exact=True)
    else:
        m.add("repeat", x, repeats=2, axis=axis, exact=True)


def resize(m: Maker) -> None:
    x = m.operand((4,))
    size = tuple(max(1, n * m.c.pick((2, 2, 3, 1)) // m.c.pick((1, 1, 2))) for n in m.shape(x)[2:])
    method, mode, rounding = m.c.pick((
        ("nearest_neighbor", "asymmetric", "floor"), ("nearest_neighbor", "half_pixel", "round"),
        ("linear", "half_pixel", ""), ("linear", "align_corners", ""),
    ))  # fmt: skip
    if mode == "align_corners" and 1 in size:
        mode = "half_pixel"  # TVM divides by size - 1
    m.add("image.resize2d", x, size, method=method, coordinate_transformation_mode=mode,
          rounding_method=rounding, exact=method == "nearest_neighbor")  # fmt: skip


def reduce(m: Maker) -> None:
    x = m.operand()
    rank = len(m.shape(x))
    axes = tuple(a for a in range(rank) if m.c.flag()) or (m.axis(x),)
    kind = m.c.pick(("sum", "mean", "max", "min", "variance", "std"))
    if kind == "std":  # its slope is infinite at zero
        m.add("sqrt", m.add("add", m.add("variance", x, axis=axes, keepdims=m.c.flag()), 0.5))
        return
    if kind == "sum":
        x = m.add("multiply", x, 1 / math.sqrt(math.prod(m.shape(x)[a] for a in axes)))
    m.add(kind, x, axis=axes, keepdims=m.c.flag(), exact=kind in ("max", "min"))


def normalise(m: Maker) -> None:
    kind = m.c.pick(("nn.softmax", "nn.log_softmax", "nn.layer_norm", "nn.rms_norm",
                     "nn.group_norm", "nn.instance_norm", "written out"))  # fmt: skip
    x = m.operand((3, 4, 5) if kind in ("nn.group_norm", "nn.instance_norm") else ())
    shape, axis = m.shape(x), m.axis(x)
    space = tuple(range(2, len(shape)))
    if kind in ("nn.softmax", "nn.log_softmax"):
        m.add(kind, x, axis=axis)
    elif kind in ("nn.layer_norm", "nn.rms_norm"):
        last = m.c.number(1, min(2, len(shape)))
        axes = tuple(range(-last, 0))
        scale = [m.weight(shape[-last:]) for _ in range(2)]
        m.add(kind, x, *scale[: 2 if kind == "nn.layer_norm" else 1], axes=axes, epsilon=0.1)
    elif kind == "nn.group_norm":
        groups = m.c.pick([g for g in (1, 2, 4) if shape[1] % g == 0])
        scale = [m.weight(shape[1:2]) for _ in range(2)]
        m.add(kind, x, *scale, num_groups=groups, channel_axis=1, axes=space, epsilon=0.1)
    elif kind == "nn.instance_norm":
        scale = [m.weight(shape[1:2]) for _ in range(2)]
        m.add(kind, x, *scale, channel_axis=1, axes=space, epsilon=0.1)
    else:
        high = m.add("max", x, axis=axis, keepdims=True, exact=True)
        power = m.add("exp", m.add("subtract", x, high))
        m.add("divide", power, m.add("sum", power, axis=axis, keepdims=True))


def scan(m: Maker) -> None:
    x = m.operand()
    if m.c.flag():
        m.add("cumsum", m.add("multiply", x, 0.2), axis=m.axis(x))
    else:
        m.add("sort", x, axis=m.axis(x) % len(m.shape(x)), descending=m.c.flag(), exact=True)


def reorganise(m: Maker) -> None:
    x = m.operand()
    shape = m.shape(x)
    kind = m.c.pick(("reshape", "reshape", "flatten", "squeeze", "expand", "batch_flatten"))
    if kind == "reshape":
        m.add("reshape", x, _factors(m, math.prod(shape)), exact=True)
    elif kind == "flatten":
        m.add("flatten", x, exact=True)
    elif kind == "squeeze":
        m.add("squeeze", x, exact=True)
    elif kind == "expand" and len(shape) < 5:
        m.add("expand_dims", x, axis=m.c.number(-len(shape) - 1, len(shape)), exact=True)
    elif len(shape) > 1:
        m.add("nn.batch_flatten", x, exact=True)


def _factors(m: Maker, count: int) -> tuple[int, ...]:
    """A random factorisation into one to four dimensions."""
    out: list[int] = []
    for _ in range(m.c.number(0, 3)):
        divisors = [d for d in range(1, min(count, 64) + 1) if count % d == 0]
        out.append(m.c.pick(divisors))
        count //= out[-1]
    return (*out, count)


def shuffle(m: Maker) -> None:
    x = m.operand()
    shape = m.shape(x)
    kind = m.c.pick(("permute", "permute", "flip"))
    if kind == "permute":
        left, axes = list(range(len(shape))), []
        while left:
            axes.append(left.pop(m.c.number(0, len(left) - 1)))
        m.add("permute_dims", x, axes=tuple(axes), exact=True)
    else:
        m.add("flip", x, axis=m.axis(x), exact=True)


def joined(m: Maker) -> None:
    x = m.operand()
    axis, shape = m.axis(x) % len(m.shape(x)), m.shape(x)
    same = [
        t
        for t in m.pool
        if m.dtype(t) == "float32"
        and len(m.shape(t)) == len(shape)
        and all(a == b for i, (a, b) in enumerate(zip(m.shape(t), shape)) if i != axis)
    ]
    parts = (x, *(m.c.pick(same[-5:]) for _ in range(m.c.number(1, 2))))
    _limit(sum(math.prod(m.shape(t)) for t in parts))
    if m.c.number(0, 3) == 0 and len({m.shape(t) for t in parts}) == 1 and len(shape) < 5:
        m.add("stack", parts, axis=m.axis(x), exact=True)
    else:
        m.add("concat", parts, axis=m.axis(x) if m.c.number(0, 4) == 0 else axis, exact=True)


def cut(m: Maker) -> None:
    x = m.operand()
    axis, shape = m.axis(x), m.shape(x)
    n = shape[axis]
    kind = m.c.pick(("sections", "indices", "slice", "reverse", "pad", "mirror"))
    if kind == "sections":
        sections = m.c.pick([s for s in (1, 2, 3, 4) if n % s == 0])
        m.add("split", x, indices_or_sections=sections, axis=axis, exact=True)
    elif kind == "indices" and n > 1:
        at = m.c.number(1, n - 1)
        m.add("split", x, indices_or_sections=(at,), axis=axis, exact=True)
    elif kind == "slice":
        low = m.c.number(-n, n - 1)
        high = m.c.number((low % n) + 1, n + 2)
        m.add("strided_slice", x, (axis,), (low,), (high,), (m.c.number(1, 3),), exact=True)
    elif kind == "reverse":
        m.add("strided_slice", x, (axis,), (n - 1,), (-n - 1,), (-m.c.number(1, 2),), exact=True)
    elif len(shape) > 1:
        width = [0] * (2 * len(shape))
        for i in range(len(width)):
            width[i] = m.c.number(0, 2) if shape[i // 2] > 2 else 0
        mode = "constant" if kind == "pad" else "reflect"
        value = m.c.pick((0.75, -1.5)) if kind == "pad" else 0.0  # fresh memory is often zero
        m.add("nn.pad", x, pad_width=tuple(width), pad_mode=mode, pad_value=value, exact=True)


def _limit(elements: int) -> None:
    if elements > 1 << 15:
        raise GraphError("too large")
