"""Small networks for tests of memory models: made by hand, and at random."""

from __future__ import annotations

import random

from benchmarks.planners.networks import Net
from tvm_dnnfusion.cost.memory import Network, network_of
from tvm_dnnfusion.ecg.graph import Graph


def residual(size: int = 8, channels: int = 4) -> Graph:
    """conv - conv - conv - add with the first, then a pooling."""
    n = Net(size, channels)
    x = n.conv(n.x, channels, 3)
    y = n.conv(n.conv(n.conv(x, channels, 3), channels, 3), channels, 3, act=None)
    return n.done(n.pool(n.add(x, y), 2, 2))


def squeeze(size: int = 8, channels: int = 8) -> Graph:
    """A depthwise layer with a squeeze-and-excite block, and a projection."""
    n = Net(size, channels)
    x = n.squeeze_excite(n.depthwise(n.x, 3), 2, "relu", "sigmoid")
    return n.done(n.conv(x, 4, act=None))


def random_network(seed: int, layers: int = 7) -> Network:
    """Convolutions, poolings, additions and concatenations with strides, kernels and branches."""
    gen = random.Random(seed)
    n = Net(gen.choice((8, 9, 12, 16)), gen.choice((2, 3, 8)))
    values = [n.x]
    while len(values) <= layers:
        x = gen.choice(values[-3:])
        kind = gen.choice(("conv", "conv", "depthwise", "pool", "add", "concat"))
        same = [v for v in values if n.b.tensors[v].dims[2:] == n.b.tensors[x].dims[2:] and v != x]
        if kind == "add":
            same = [v for v in same if n.channels(v) == n.channels(x)]
        if kind in ("add", "concat") and not same:
            kind = "conv"
        s = gen.choice((1, 1, 2)) if n.rows(x) > 4 else 1
        if kind == "conv":
            r = gen.choice((1, 3, 3, 5)) if n.rows(x) > 3 else 1
            p = gen.choice((r // 2, r // 2, 0)) if n.rows(x) >= 2 * r else r // 2
            values.append(n.conv(x, gen.choice((2, 4, 40)), r, s, None, p=p))
        elif kind == "depthwise":
            values.append(n.depthwise(x, 3, s, None))
        elif kind == "pool":
            values.append(n.pool(x, gen.choice((2, 3)) if n.rows(x) > 3 else 1, s, 0))
        elif kind == "add":
            values.append(n.b.op("add", x, gen.choice(same)))
        else:
            values.append(n.cat(x, gen.choice(same)))
    used = {t for op in n.b.ops for t in op.inputs}
    return network_of(n.done(*[v for v in values[1:] if v not in used] or [values[-1]]))
