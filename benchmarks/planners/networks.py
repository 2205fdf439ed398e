"""The networks of both papers as graphs, by shape alone: weights are views of one zero.

`build(name)` gives the graph. Networks marked "-optimus" are as Optimus' authors model them (227
columns for SqueezeNet, two towers for AlexNet, no dense layer at the end of ResNet-18, strides in
the first convolution of a bottleneck); the others are as torchvision and timm have them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from math import ceil

import numpy as np

from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph

Activation = str | None


class Net:
    """A builder with the layers that these networks are made of; x is the name of a tensor."""

    def __init__(self, size: int = 224, channels: int = 3) -> None:
        self.b = GraphBuilder()
        self.x = self.b.input("x", (1, channels, size, size))

    def channels(self, x: str) -> int:
        """Channels of a map."""
        return self.b.tensors[x].dims[1]

    def rows(self, x: str) -> int:
        """Rows of a map."""
        return self.b.tensors[x].dims[2]

    def weight(self, *shape: int) -> str:
        """A constant that takes no memory."""
        return self.b.constant("w", np.broadcast_to(np.float32(0), shape))

    def conv(self, x: str, k: int, r: int = 1, s: int = 1, act: Activation = "relu", *,
             p: int | Sequence[int] | None = None, groups: int = 1, bias: bool = True,
             dilation: int = 1) -> str:  # fmt: skip
        """Convolution, "same" padding unless given, bias, activation."""
        pad = ((r - 1) * dilation) // 2 if p is None else p
        padding = tuple(pad) if isinstance(pad, Sequence) else (pad,) * 4
        w = self.weight(k, self.channels(x) // groups, r, r)
        y = self.b.op("nn.conv2d", x, w, strides=(s, s), padding=padding, groups=groups,
                      dilation=(dilation, dilation), name="conv")  # fmt: skip
        y = self.b.op("add", y, self.weight(1, k, 1, 1)) if bias else y
        return self.act(y, act)

    def depthwise(self, x: str, r: int = 3, s: int = 1, act: Activation = "relu", **more: int
                  ) -> str:  # fmt: skip
        """Depthwise convolution."""
        c = self.channels(x)
        return self.conv(x, c, r, s, act, groups=c, dilation=more.get("dilation", 1))

    def act(self, x: str, kind: Activation) -> str:
        """An activation by name; swish and hard swish as ONNX writes them out."""
        b = self.b
        if kind is None:
            return x
        if kind == "swish":
            return b.op("multiply", x, b.op("sigmoid", x))
        if kind == "hswish":
            return b.op("multiply", x, self.act(x, "hsigmoid"))
        if kind == "hsigmoid":
            return b.op("divide", b.op("clip", b.op("add", x, 3.0), 0.0, 6.0), 6.0)
        if kind == "relu6":
            return b.op("clip", x, 0.0, 6.0)
        return b.op("nn.relu", x)

    def pool(self, x: str, r: int, s: int, p: int = 0, ceil_mode: bool = False, kind: str = "max"
             ) -> str:  # fmt: skip
        """Pooling."""
        return self.b.op(f"nn.{kind}_pool2d", x, pool_size=(r, r), strides=(s, s),
                         padding=(p, p, p, p), ceil_mode=ceil_mode)  # fmt: skip

    def average(self, x: str) -> str:
        """Global average pooling."""
        return self.b.op("nn.adaptive_avg_pool2d", x, output_size=(1, 1))

    def dense(self, x: str, k: int, act: Activation = None) -> str:
        """A dense layer; a map is flattened."""
        b = self.b
        y = b.op("nn.batch_flatten", x) if len(b.tensors[x].dims) > 2 else x
        w = self.weight(b.tensors[y].dims[1], k)
        return self.act(b.op("add", b.op("matmul", y, w), self.weight(1, k)), act)

    def add(self, x: str, y: str, act: Activation = "relu") -> str:
        """A residual addition."""
        return self.act(self.b.op("add", x, y), act)

    def cat(self, *xs: str) -> str:
        """Concatenation of channels."""
        return self.b.op("concat", xs, axis=1)

    def squeeze_excite(self, x: str, k: int, first: Activation, gate: Activation) -> str:
        """A squeeze-and-excite block with 1 x 1 convolutions."""
        s = self.conv(self.average(x), k, act=first)
        s = self.conv(s, self.channels(x), act=None)
        s = self.b.op("sigmoid", s) if gate == "sigmoid" else self.act(s, gate)
        return self.b.op("multiply", x, s)

    def done(self, *xs: str) -> Graph:
        """The graph with these results."""
        return self.b.output(*xs).build()


def alexnet_optimus() -> Graph:
    """Two towers of half the channels, no dense layers."""
    n = Net(227)
    towers = []
    for _ in range(2):
        x = n.pool(n.conv(n.x, 48, 11, 4, p=0), 3, 2)
        towers.append(n.pool(n.conv(x, 128, 5), 3, 2))
    x = n.cat(*towers)
    out = []
    for _ in range(2):
        y = n.conv(n.conv(n.conv(x, 192, 3), 192, 3), 128, 3)
        out.append(n.pool(y, 3, 2))
    return n.done(*out)


def alexnet() -> Graph:
    """torchvision's, with its dense layers."""
    n = Net()
    x = n.pool(n.conv(n.x, 64, 11, 4, p=2), 3, 2)
    x = n.pool(n.conv(x, 192, 5), 3, 2)
    x = n.conv(n.conv(n.conv(x, 384, 3), 256, 3), 256, 3)
    x = n.dense(n.pool(x, 3, 2), 4096, "relu")
    return n.done(n.dense(n.dense(x, 4096, "relu"), 1000))


def _vgg(blocks: Sequence[int], dense: bool) -> Graph:
    n = Net()
    x = n.x
    for channels, count in zip((64, 128, 256, 512, 512), blocks):
        for _ in range(count):
            x = n.conv(x, channels, 3)
        x = n.pool(x, 2, 2)
    if dense:
        x = n.dense(n.dense(n.dense(x, 4096, "relu"), 4096, "relu"), 1000)
    return n.done(x)


def squeezenet(size: int = 224, padded: bool = False) -> Graph:
    """SqueezeNet 1.0, without the layers after the last pooling."""
    n = Net(size)
    x = n.pool(n.conv(n.x, 96, 7, 2, p=0), 3, 2, ceil_mode=padded)

    def fire(x: str, squeeze: int, expand: int) -> str:
        s = n.conv(x, squeeze)
        return n.cat(n.conv(s, expand), n.conv(s, expand, 3))

    for squeeze, expand in ((16, 64), (16, 64), (32, 128)):
        x = fire(x, squeeze, expand)
    x = n.pool(x, 3, 2, ceil_mode=padded)
    for squeeze, expand in ((32, 128), (48, 192), (48, 192), (64, 256)):
        x = fire(x, squeeze, expand)
    x = fire(n.pool(x, 3, 2, ceil_mode=padded), 64, 256)
    return n.done(n.average(n.conv(x, 1000)))


def mobilenet_v1() -> Graph:
    """MobileNet v1."""
    n = Net()
    x = n.conv(n.x, 32, 3, 2)
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
            (1024, 2), (1024, 1)]  # fmt: skip
    for channels, stride in plan:
        x = n.conv(n.depthwise(x, 3, stride), channels)
    return n.done(n.dense(n.average(x), 1000))


def mobilenet_v2() -> Graph:
    """MobileNet v2."""
    n = Net()
    x = n.depthwise(n.conv(n.x, 32, 3, 2, "relu6"), 3, 1, "relu6")
    x = n.conv(x, 16, act=None)
    rows = ((6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
            (6, 320, 1, 1))  # fmt: skip
    for expand, channels, count, stride in rows:
        for i in range(count):
            y = n.conv(x, n.channels(x) * expand, act="relu6")
            y = n.depthwise(y, 3, stride if i == 0 else 1, "relu6")
            y = n.conv(y, channels, act=None)
            x = n.add(x, y, None) if i else y
    return n.done(n.dense(n.average(n.conv(x, 1280, act="relu6")), 1000))


_V3_LARGE = (
    (3, 16, 16, 0, "relu", 1), (3, 64, 24, 0, "relu", 2), (3, 72, 24, 0, "relu", 1),
    (5, 72, 40, 1, "relu", 2), (5, 120, 40, 1, "relu", 1), (5, 120, 40, 1, "relu", 1),
    (3, 240, 80, 0, "hswish", 2), (3, 200, 80, 0, "hswish", 1), (3, 184, 80, 0, "hswish", 1),
    (3, 184, 80, 0, "hswish", 1), (3, 480, 112, 1, "hswish", 1), (3, 672, 112, 1, "hswish", 1),
    (5, 672, 160, 1, "hswish", 2), (5, 960, 160, 1, "hswish", 1), (5, 960, 160, 1, "hswish", 1),
)  # fmt: skip
_V3_SMALL = (
    (3, 16, 16, 1, "relu", 2), (3, 72, 24, 0, "relu", 2), (3, 88, 24, 0, "relu", 1),
    (5, 96, 40, 1, "hswish", 2), (5, 240, 40, 1, "hswish", 1), (5, 240, 40, 1, "hswish", 1),
    (5, 120, 48, 1, "hswish", 1), (5, 144, 48, 1, "hswish", 1), (5, 288, 96, 1, "hswish", 2),
    (5, 576, 96, 1, "hswish", 1), (5, 576, 96, 1, "hswish", 1),
)  # fmt: skip


def _eighth(value: float) -> int:
    found = max(8, int(value + 4) // 8 * 8)
    return found + 8 if found < 0.9 * value else found


def _v3_trunk(n: Net, rows: Sequence[tuple[int, int, int, int, str, int]], stride: int = 32
              ) -> tuple[str, str]:  # fmt: skip
    """The blocks of MobileNet v3, dilated where the stride would pass `stride`; (low, high)."""
    x = n.conv(n.x, 16, 3, 2, "hswish")
    low, reached, dilation = x, 2, 1
    for kernel, wide, channels, excite, act, s in rows:
        if s == 2 and reached == stride:
            s, dilation = 1, dilation * 2
        reached *= s
        y = n.conv(x, wide, act=act) if wide != n.channels(x) else x
        y = n.depthwise(y, kernel, s, act, dilation=dilation if kernel == 5 else 1)
        y = n.squeeze_excite(y, _eighth(wide / 4), "relu", "hsigmoid") if excite else y
        y = n.conv(y, channels, act=None)
        same = s == 1 and channels == n.channels(x) and n.rows(x) == n.rows(y)
        x = n.add(x, y, None) if same else y
        low = x if channels == 40 else low
    return low, x


def _mobilenet_v3(rows: Sequence[tuple[int, int, int, int, str, int]], last: int) -> Graph:
    n = Net()
    x = n.conv(_v3_trunk(n, rows)[1], 6 * n.channels(n.b.ops[-1].output), act="hswish")
    return n.done(n.dense(n.dense(n.average(x), last, "hswish"), 1000))


def deeplab_v3() -> Graph:
    """DeepLabV3 with MobileNet v3 large at 513 x 513, output stride 16."""
    n = Net(513)
    x = n.conv(_v3_trunk(n, _V3_LARGE, 16)[1], 960, act="hswish")
    side = n.rows(x)
    parts = [n.conv(x, 256), *(n.conv(x, 256, 3, dilation=d) for d in (12, 24, 36))]
    top = n.conv(n.average(x), 256)
    parts.append(n.b.op("broadcast_to", top, (1, 256, side, side)))
    x = n.conv(n.conv(n.cat(*parts), 256), 256, 3)
    x = n.conv(x, 21, act=None)
    return n.done(n.b.op("image.resize2d", x, (513, 513), method="linear"))


def _resnet(blocks: Sequence[int], bottleneck: bool, first: bool = False, dense: bool = True
            ) -> Graph:  # fmt: skip
    """`first`: the stride is in the first 1 x 1 convolution, and each stage begins with one."""
    n = Net()
    x = n.pool(n.conv(n.x, 64, 7, 2), 3, 2, 1)
    for stage, count in enumerate(blocks):
        k = 64 << stage
        for i in range(count):
            s = 2 if stage and i == 0 else 1
            if bottleneck:
                y = n.conv(x, k, 1, s if first else 1)
                y = n.conv(y, k, 3, 1 if first else s)
                y = n.conv(y, 4 * k, act=None)
            else:
                y = n.conv(n.conv(x, k, 3, s), k, 3, act=None)
            changes = s > 1 or n.channels(x) != n.channels(y) or (first and i == 0)
            x = n.add(n.conv(x, n.channels(y), 1, s, None) if changes else x, y)
    x = n.average(x)
    return n.done(n.dense(x, 1000) if dense else x)


_INCEPTIONS = (
    (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), None,
    (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128), None,
    (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
)  # fmt: skip


def googlenet(pools: bool = True) -> Graph:
    """GoogLeNet; `pools`: with the pooling before the projection, which Optimus leaves out."""
    n = Net()
    x = n.pool(n.conv(n.x, 64, 7, 2), 3, 2, 1)
    x = n.pool(n.conv(n.conv(x, 64), 192, 3), 3, 2, 1)
    for row in _INCEPTIONS:
        if row is None:
            x = n.pool(x, 3, 2, 1)
            continue
        one, three_in, three, five_in, five, proj = row
        x = n.cat(
            n.conv(x, one), n.conv(n.conv(x, three_in), three, 3),
            n.conv(n.conv(x, five_in), five, 5),
            n.conv(n.pool(x, 3, 1, 1) if pools else x, proj),
        )  # fmt: skip
    return n.done(n.dense(n.average(x), 1000))


_B0 = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
       (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip


def efficientnet(width: float = 1.0, depth: float = 1.0, size: int = 224) -> Graph:
    """EfficientNet by its multipliers: B0 is (1, 1, 224), B3 (1.2, 1.4, 300)."""
    n = Net(size)
    x = n.conv(n.x, _eighth(32 * width), 3, 2, "swish")
    for expand, channels, count, stride, kernel in _B0:
        for i in range(ceil(count * depth)):
            c, s = n.channels(x), stride if i == 0 else 1
            y = n.conv(x, c * expand, act="swish") if expand > 1 else x
            y = n.squeeze_excite(n.depthwise(y, kernel, s, "swish"), max(1, c // 4), "swish",
                                 "sigmoid")  # fmt: skip
            y = n.conv(y, _eighth(channels * width), act=None)
            x = n.add(x, y, None) if s == 1 and n.channels(y) == c else y
    x = n.conv(x, _eighth(1280 * width), act="swish")
    return n.done(n.dense(n.average(x), 1000))


def randwire(nodes: int = 32, seed: int = 1, channels: int = 78) -> Graph:
    """RandWire's small regime: three stages of random graphs (Watts-Strogatz, k 4, p 0.75)."""
    n = Net()
    x = n.conv(n.conv(n.x, channels // 2, 3, 2), channels, 3, 2)
    for stage in range(3):
        x = _random_stage(n, x, nodes, channels << stage, seed + stage)
    return n.done(n.dense(n.average(n.conv(x, 1280)), 1000))


def _random_stage(n: Net, x: str, nodes: int, channels: int, seed: int) -> str:
    edges = _watts_strogatz(nodes, 4, 0.75, seed)
    made: list[str] = []
    for v in range(nodes):
        before = [u for u in range(v) if (u, v) in edges]
        total = made[before[0]] if before else x
        for u in before[1:]:
            total = n.b.op("add", total, made[u])
        y = n.depthwise(n.act(total, "relu"), 3, 1 if before else 2, None)
        made.append(n.conv(y, channels, act=None))
    ends = [made[u] for u in range(nodes) if not any((u, v) in edges for v in range(nodes))]
    out = ends[0]
    for y in ends[1:]:
        out = n.b.op("add", out, y)
    return out


def _watts_strogatz(nodes: int, near: int, p: float, seed: int) -> set[tuple[int, int]]:
    gen = np.random.default_rng(zlib.crc32(f"randwire/{seed}".encode()))
    edges: set[tuple[int, int]] = set()
    for step in range(1, near // 2 + 1):
        for v in range(nodes):
            w = (v + step) % nodes
            if gen.random() < p:
                free = [u for u in range(nodes) if u != v and (min(u, v), max(u, v)) not in edges]
                w = int(gen.choice(free))
            edges.add((min(v, w), max(v, w)))
    return edges


NETWORKS: dict[str, Callable[[], Graph]] = {
    "alexnet-optimus": alexnet_optimus,
    "vgg16-optimus": lambda: _vgg((2, 2, 3, 3, 3), dense=False),
    "squeezenet-optimus": lambda: squeezenet(227),
    "resnet18-optimus": lambda: _resnet((2, 2, 2, 2), False, first=True, dense=False),
    "resnet50-optimus": lambda: _resnet((3, 4, 6, 3), True, first=True),
    "resnet152-optimus": lambda: _resnet((3, 8, 36, 3), True, first=True),
    "googlenet-optimus": lambda: googlenet(pools=False),
    "alexnet": alexnet,
    "vgg16": lambda: _vgg((2, 2, 3, 3, 3), dense=True),
    "vgg19": lambda: _vgg((2, 2, 4, 4, 4), dense=True),
    "squeezenet": squeezenet,
    "mobilenet-v1": mobilenet_v1,
    "mobilenet-v2": mobilenet_v2,
    "mobilenet-v3-small": lambda: _mobilenet_v3(_V3_SMALL, 1024),
    "mobilenet-v3-large": lambda: _mobilenet_v3(_V3_LARGE, 1280),
    "resnet18": lambda: _resnet((2, 2, 2, 2), False),
    "resnet50": lambda: _resnet((3, 4, 6, 3), True),
    "resnet101": lambda: _resnet((3, 4, 23, 3), True),
    "resnet152": lambda: _resnet((3, 8, 36, 3), True),
    "googlenet": googlenet,
    "efficientnet-b0": efficientnet,
    "efficientnet-b3": lambda: efficientnet(1.2, 1.4, 300),
    "deeplab-v3": deeplab_v3,
    "randwire-a": randwire,
    "randwire-b": lambda: randwire(seed=101, channels=109),
}


def build(name: str) -> Graph:
    """The graph of that name. Raises KeyError with the names that exist."""
    if name not in NETWORKS:
        raise KeyError(f"no network {name!r}; there are {', '.join(NETWORKS)}")
    return NETWORKS[name]()
