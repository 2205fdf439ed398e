"""Steps with a heavy operator: convolutions, poolings, products, and the patterns around them."""

from __future__ import annotations

import math

from tests.e2e.dags import Maker, Step
from tests.e2e.steps import (
    binary,
    choose,
    cut,
    gather,
    guarded,
    joined,
    normalise,
    parametric,
    reduce,
    reorganise,
    resize,
    scan,
    shared,
    shuffle,
    spread,
    unary,
    whole,
)
from tvm_dnnfusion.ecg.graph import GraphError

OUT_CHANNELS = (1, 2, 3, 4, 6, 8, 16, 17, 24, 32, 48)
MAX_PRODUCTS = 1 << 20


def convolution(m: Maker) -> str:
    """Any rank, groups, strides, dilations, one-sided padding; sometimes with a bias and a relu."""
    x = m.operand((3, 4, 4, 5))
    shape, rank = m.shape(x), len(m.shape(x)) - 2
    channels = shape[1]
    groups = m.c.pick([g for g in (1, 1, 1, 2, 4, channels) if channels % g == 0])
    wide = m.c.pick((1, 1, 2)) * channels if groups == channels else m.c.pick(OUT_CHANNELS)
    wide = -(-wide // groups) * groups
    kernel = tuple(m.c.pick((1, 2, 3, 3, 5)) for _ in range(rank))
    padding = tuple(m.c.pick((k // 2, k // 2, 0, 1)) for k in kernel * 2)
    strides = tuple(m.c.pick((1, 1, 1, 2, 3)) for _ in range(rank))
    dilation = tuple(m.c.pick((1, 1, 1, 2)) for _ in range(rank))
    fan_in = channels // groups * math.prod(kernel)
    _affordable(math.prod(shape[2:]) * wide * fan_in)
    for n, k, d, low, high in zip(shape[2:], kernel, dilation, padding, padding[rank:]):
        if n + low + high < (k - 1) * d + 1:
            raise GraphError("the window is larger than the image")
    w = m.weight((wide, channels // groups, *kernel), fan_in)
    y = m.add(f"nn.conv{rank}d", x, w, padding=padding, strides=strides, dilation=dilation,
              groups=groups)  # fmt: skip
    return _epilogue(m, y, wide, rank)


def _epilogue(m: Maker, y: str, channels: int, rank: int) -> str:
    if m.c.flag():
        y = m.add("add", y, m.weight((1, channels, *(1,) * rank)))
    return m.add("nn.relu", y) if m.c.flag() else y


def transposed(m: Maker) -> None:
    x = m.operand((3, 4, 4))
    shape, rank = m.shape(x), len(m.shape(x)) - 2
    groups = m.c.pick([g for g in (1, 1, 2) if shape[1] % g == 0])
    wide = m.c.pick((1, 2, 3, 8, 16))
    kernel = tuple(m.c.pick((1, 2, 3)) for _ in range(rank))
    strides = tuple(m.c.pick((1, 2)) for _ in range(rank))
    padding = tuple(m.c.number(0, (k - 1) // 2) for k in kernel * 2)
    extra = tuple(m.c.number(0, s - 1) for s in strides)
    _affordable(math.prod(shape) * wide * math.prod(kernel))
    w = m.weight((shape[1], wide, *kernel), shape[1] // groups * math.prod(kernel))
    y = m.add(f"nn.conv{rank}d_transpose", x, w, strides=strides, padding=padding, groups=groups,
              output_padding=extra)  # fmt: skip
    _epilogue(m, y, wide * groups, rank)


def pooling(m: Maker) -> None:
    x = m.operand((3, 4, 4, 5))
    shape, rank = m.shape(x), len(m.shape(x)) - 2
    kind = m.c.pick(("max", "max", "avg", "adaptive"))
    if kind == "adaptive":
        size = tuple(m.c.pick([1, max(1, n // 2), n]) for n in shape[2:])
        m.add(f"nn.adaptive_avg_pool{rank}d", x, output_size=size)
        return
    window = tuple(m.c.pick((1, 2, 3)) for _ in range(rank))
    strides = tuple(m.c.pick((1, 2, 2, 3)) for _ in range(rank))
    padding = tuple(m.c.number(0, k // 2) for k in window * 2)
    for n, k, low, high in zip(shape[2:], window, padding, padding[rank:]):
        if n + low + high < k:
            raise GraphError("the window is larger than the image")
    # with ceil_mode TVM drops a last window that starts in the padding, and still counts it
    ceil = m.c.number(0, 3) == 0 and all(
        -(-(n + low + high - k) // s) * s < n + low
        for n, k, s, low, high in zip(shape[2:], window, strides, padding, padding[rank:])
    )
    more = {"count_include_pad": m.c.flag()} if kind == "avg" else {}
    m.add(f"nn.{kind}_pool{rank}d", x, pool_size=window, strides=strides, padding=padding,
          ceil_mode=ceil, exact=kind == "max", **more)  # fmt: skip


def product(m: Maker) -> None:
    """matmul by a constant, by another tensor, of vectors, batched; then often a bias."""
    x = m.operand((1, 2, 3, 4))
    k = m.shape(x)[-1]
    found = [t for t in m.pool if m.dtype(t) == "float32" and len(m.shape(t)) > 1
             and m.shape(t)[-2] == k]  # fmt: skip
    if m.c.number(0, 2) == 0 and found:
        y = m.add("multiply", m.c.pick(found), 1 / math.sqrt(k))
    elif m.c.number(0, 3) == 0:
        y = m.add("permute_dims", m.add("multiply", x, 1 / math.sqrt(k)),
                  axes=(*range(len(m.shape(x)) - 2), -1, -2)[-len(m.shape(x)):])  # fmt: skip
    else:
        lead = m.shape(x)[:-2] if m.c.number(0, 4) == 0 else ()
        y = m.weight((*lead, k, m.c.pick(OUT_CHANNELS)), k)
    _affordable(math.prod(m.shape(x)) * m.shape(y)[-1])
    out = m.add("matmul", x, y)
    if m.c.flag() and m.shape(out):
        m.add("add", out, m.weight(m.shape(out)[-1:]))


def heads(m: Maker) -> None:
    """A projection cut into heads: matmul, reshape, transpose, and the scores of attention."""
    x = m.operand((2, 3))
    *lead, rows, width = m.shape(x)
    count, depth = m.c.pick((1, 2, 4)), m.c.pick((2, 3, 8))
    if math.prod(lead) != 1:
        raise GraphError("one sequence at a time")
    q, k = (m.add("matmul", x, m.weight((width, count * depth), width)) for _ in range(2))
    q, k = (m.add("reshape", t, (1, rows, count, depth)) for t in (q, k))
    q, k = m.add("permute_dims", q, axes=(0, 2, 1, 3)), m.add("permute_dims", k, axes=(0, 2, 3, 1))
    scores = m.add("multiply", m.add("matmul", q, k), 1 / math.sqrt(depth))
    mixed = m.add("matmul", m.add("nn.softmax", scores, axis=-1),
                  m.add("permute_dims", k, axes=(0, 1, 3, 2)))  # fmt: skip
    m.add("reshape", m.add("permute_dims", mixed, axes=(0, 2, 1, 3)), (1, rows, count * depth))


def squeeze_excite(m: Maker) -> None:
    x = m.operand((4,))
    channels = m.shape(x)[1]
    _affordable(channels * channels)
    pooled = m.add("nn.adaptive_avg_pool2d", x, output_size=(1, 1))
    gate = m.add("nn.conv2d", pooled, m.weight((channels, channels, 1, 1), channels))
    m.add("multiply", x, m.add("sigmoid", gate))


def stem(m: Maker) -> None:
    """A convolution and the pooling behind it, as one strip-wise kernel takes them."""
    y = convolution(m)
    rank = len(m.shape(y)) - 2
    k = m.c.pick((2, 3))
    if min(m.shape(y)[2:]) < k:
        raise GraphError("too small")
    kind = m.c.pick(("max", "avg"))
    m.add(f"nn.{kind}_pool{rank}d", y, pool_size=(k,) * rank, strides=(2,) * rank,
          padding=(m.c.number(0, k // 2),) * 2 * rank)  # fmt: skip


def _affordable(products: int) -> None:
    if products > MAX_PRODUCTS:
        raise GraphError("too much work")


STEPS: tuple[Step, ...] = (
    unary, unary, unary, guarded, parametric, binary, binary, binary, shared, choose, whole,
    spread, gather, resize, reduce, reduce, normalise, scan, reorganise, reorganise, shuffle,
    shuffle, joined, cut, cut, convolution, convolution, convolution, transposed, pooling, pooling,
    product, product, heads, squeeze_excite, stem,
)  # fmt: skip
"""What a random graph is drawn from; what stands twice comes twice as often."""
