"""Random networks and random groups of them: what the validity classifier learns from.

Networks are drawn block by block from the kinds that image networks are made of; no network of a
paper or a benchmark is among them, so that all of those are networks that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.planners.get.blocks import Blocks
from tvm_dnnfusion.planners.get.space import Mask, Space, members

SIZES = (128, 160, 192, 224, 224, 224, 256, 300, 320, 384, 513)
"""Rows and columns of the input image; the paper's networks have 224, 300 and 513."""
SMALLEST = 7
ACTS = ("relu", "relu", "relu6", "swish", "hswish")
MAX_GROUP = 40
"""Nodes of a group; larger ones rarely fit, and the sum over their nodes says so."""

Step = Callable[[Blocks, str, int, int, Random], str]
"""(blocks, map, channels wanted, stride, random numbers) -> map."""


def random_network(seed: int) -> Graph:
    """A network of three to six stages, each of one or two kinds of block."""
    rng = Random(seed)
    net = Blocks(bias=rng.random() < 0.5)
    x = net.image(rng.choice(SIZES))
    width = rng.choice((16, 24, 32, 40, 48, 64))
    x = net.conv_act(x, width, rng.choice((3, 3, 5, 7)), rng.choice((1, 2, 2)), rng.choice(ACTS))
    family = rng.sample(sorted(STEPS), k=rng.choice((1, 1, 2)))
    for _ in range(rng.randint(3, 6)):
        if net.shape(x)[2] >= 2 * SMALLEST and rng.random() < 0.15:
            x = net.pool(x, 3 if rng.random() < 0.7 else 2, 2, 1)
        width = min(2048, max(8, int(width * rng.choice((1, 1.25, 1.5, 2, 2)) / 8) * 8))
        stride = 2 if net.shape(x)[2] >= 2 * SMALLEST and rng.random() < 0.6 else 1
        for _ in range(rng.randint(1, 4)):
            x = STEPS[rng.choice(family)](net, x, width, stride, rng)
            stride = 1
    if rng.random() < 0.5:
        x = net.conv_act(x, 2 * net.channels(x), 1, act=rng.choice(ACTS))
    return net.graph(x)


def _plain(net: Blocks, x: str, width: int, stride: int, rng: Random) -> str:
    return net.conv_act(x, width, rng.choice((1, 3, 3, 3, 5)), stride, rng.choice(ACTS[:3]))


def _basic(net: Blocks, x: str, width: int, stride: int, rng: Random) -> str:
    return net.basic(x, width, stride)


def _bottleneck(net: Blocks, x: str, width: int, stride: int, rng: Random) -> str:
    mid = max(8, width // 4)
    return net.bottleneck(x, mid, stride, groups=8 if mid % 8 == 0 and rng.random() < 0.1 else 1)


def _inverted(net: Blocks, x: str, width: int, stride: int, rng: Random) -> str:
    act = rng.choice(("relu6", "relu", "swish", "hswish"))
    mid = net.channels(x) * rng.choice((1, 3, 4, 6, 6))
    squeeze = rng.choice((0, 1, 1)) if act in ("swish", "hswish") else rng.choice((0, 0, 0, 1))
    gate = "hsigmoid" if act == "hswish" else "sigmoid"
    hidden = max(4, rng.choice((net.channels(x), mid)) // 4) if squeeze else 0
    narrow = max(8, width // 2)
    return net.inverted(x, mid, narrow, rng.choice((3, 3, 5)), stride, act, hidden, gate)


def _separable(net: Blocks, x: str, width: int, stride: int, rng: Random) -> str:
    return net.separable(x, width, stride, rng.choice(ACTS[:3]))


def _fire(net: Blocks, x: str, width: int, stride: int, rng: Random) -> str:
    y = net.fire(x, max(8, width // 8), max(8, width // 2))
    return net.pool(y, 3, 2, 1) if stride == 2 else y


def _inception(net: Blocks, x: str, width: int, stride: int, rng: Random) -> str:
    part = max(8, width // 8 // 8 * 8)
    y = net.inception(x, 2 * part, (2 * part, 3 * part), (max(8, part // 2), part), part)
    return net.pool(y, 3, 2, 1) if stride == 2 else y


def _dense(net: Blocks, x: str, width: int, stride: int, rng: Random) -> str:
    y = net.dense(x, rng.choice((12, 16, 24, 32)))
    return net.pool(net.conv(y, max(8, net.channels(y) // 2), 1), 2, 2, 0, "avg") if stride == 2 \
        else y  # fmt: skip


def _parallel(net: Blocks, x: str, width: int, stride: int, rng: Random) -> str:
    """Branches of unequal length and reach, side by side or added up."""
    added = rng.random() < 0.4
    count = rng.randint(2, 4)
    out = max(8, width // (1 if added else count))
    ends: list[str] = []
    for _ in range(count):
        y = x
        for _ in range(rng.randint(1, 3)):
            kernel = rng.choice((1, 3, 3, 5))
            wide = rng.choice((1, 1, 2, 4)) if kernel == 3 else 1
            y = net.conv_act(y, out, kernel, 1, rng.choice(ACTS[:3]), dilation=wide)
        ends.append(y)
    y = ends[0]
    for other in ends[1:] if added else ():
        y = net.add(y, other)
    y = y if added else net.concat(*ends)
    return net.pool(y, 3, 2, 1) if stride == 2 else y


STEPS: dict[str, Step] = {
    "plain": _plain,
    "basic": _basic,
    "bottleneck": _bottleneck,
    "inverted": _inverted,
    "inverted-more": _inverted,
    "separable": _separable,
    "fire": _fire,
    "inception": _inception,
    "dense": _dense,
    "parallel": _parallel,
}
"""Kinds of block by name; inverted residuals stand twice, being the most varied."""


def random_group(space: Space, rng: Random, largest: int = MAX_GROUP) -> Mask | None:
    """A random group that a plan may hold: connected, convex, two nodes or more; None if none came.

    Grows from a random node by random neighbours; what lies on a path that would leave the group
    and come back is taken in.
    """
    wanted = int(2 * (largest / 2) ** rng.random())
    free = space.all & ~space.fixed
    starts = members(free)
    if not starts:
        return None
    group = 1 << rng.choice(starts)
    while group.bit_count() < wanted:
        near = 0
        for v in members(group):
            near |= space.after[v] | space.before[v]
        options = members(near & free & ~group)
        if not options:
            break
        grown = closed(space, group | 1 << rng.choice(options))
        if grown & space.fixed or grown.bit_count() > largest:
            break
        group = grown
    return group if group.bit_count() > 1 else None


def closed(space: Space, group: Mask) -> Mask:
    """The group with everything on paths that leave it and come back."""
    down = up = 0
    for v in members(group):
        down |= space.below[v]
        up |= space.above[v]
    return group | (down & up)
