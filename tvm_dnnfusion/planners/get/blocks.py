"""Building blocks of convolutional networks without weights, for the networks to train on.

A weight is a constant whose elements are all one float in memory: only shapes matter to memory
models. Batch normalisation is folded, as in a graph that is ready for inference.
"""

from __future__ import annotations

import numpy as np

from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph


class Blocks:
    """A network that is being built; methods take and return names of [1, C, H, W] tensors.

    `bias`: each convolution is followed by the addition of one.
    """

    def __init__(self, bias: bool = False) -> None:
        self.b = GraphBuilder()
        self.bias = bias

    def image(self, size: int, channels: int = 3) -> str:
        """The network's input."""
        return self.b.input("image", (1, channels, size, size))

    def graph(self, *outputs: str) -> Graph:
        """The network that returns these."""
        return self.b.output(*outputs).build()

    def channels(self, x: str) -> int:
        """Channels of a map."""
        return self.b.tensors[x].dims[1]

    def shape(self, x: str) -> tuple[int, ...]:
        """Shape of a map."""
        return self.b.tensors[x].dims

    def weight(self, *shape: int) -> str:
        """A constant that takes no memory."""
        return self.b.constant("w", np.broadcast_to(np.float32(0), shape))

    def conv(
        self,
        x: str,
        out: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
    ) -> str:
        """A convolution, padded so that stride 1 keeps the size."""
        pad = (kernel - 1) * dilation // 2
        w = self.weight(out, self.channels(x) // groups, kernel, kernel)
        y = self.b.op(
            "nn.conv2d", x, w, strides=(stride, stride), padding=(pad,) * 4,
            groups=groups, dilation=(dilation, dilation),
        )  # fmt: skip
        return self.b.op("add", y, self.weight(1, out, 1, 1)) if self.bias else y

    def depthwise(self, x: str, kernel: int = 3, stride: int = 1, dilation: int = 1) -> str:
        """A depthwise convolution."""
        c = self.channels(x)
        return self.conv(x, c, kernel, stride, groups=c, dilation=dilation)

    def act(self, x: str, kind: str) -> str:
        """An activation as exporters write it: relu, relu6, swish, hswish, hsigmoid, sigmoid."""
        b = self.b
        if kind == "relu":
            return b.op("nn.relu", x)
        if kind == "relu6":
            return b.op("clip", x, 0.0, 6.0)
        if kind == "sigmoid":
            return b.op("sigmoid", x)
        if kind == "swish":
            return b.op("multiply", x, b.op("sigmoid", x))
        gate = b.op("multiply", b.op("clip", b.op("add", x, 3.0), 0.0, 6.0), 1 / 6)
        return gate if kind == "hsigmoid" else b.op("multiply", x, gate)

    def conv_act(self, x: str, out: int, kernel: int = 3, stride: int = 1, act: str = "relu",
                 **more: int) -> str:  # fmt: skip
        """A convolution and its activation."""
        return self.act(self.conv(x, out, kernel, stride, **more), act)

    def pool(self, x: str, size: int = 3, stride: int = 2, pad: int = 1, kind: str = "max") -> str:
        """A pooling."""
        return self.b.op(f"nn.{kind}_pool2d", x, pool_size=(size, size), strides=(stride, stride),
                         padding=(pad, pad, pad, pad))  # fmt: skip

    def add(self, x: str, y: str) -> str:
        """A residual addition."""
        return self.b.op("add", x, y)

    def concat(self, *maps: str) -> str:
        """Channels side by side."""
        return self.b.op("concat", tuple(maps), axis=1)

    def squeeze_excite(self, x: str, hidden: int, act: str = "relu", gate: str = "sigmoid") -> str:
        """Channels scaled by a gate that sees the whole map."""
        y = self.b.op("mean", x, axis=(2, 3), keepdims=True)
        y = self.act(self.conv(y, hidden, 1), act)
        y = self.act(self.conv(y, self.channels(x), 1), gate)
        return self.b.op("multiply", x, y)

    def basic(self, x: str, out: int, stride: int = 1) -> str:
        """Two 3x3 convolutions with a skip connection (ResNet-18)."""
        y = self.conv(self.conv_act(x, out, 3, stride), out)
        return self.act(self.add(y, self._skip(x, out, stride)), "relu")

    def bottleneck(self, x: str, mid: int, stride: int = 1, groups: int = 1, widen: int = 4) -> str:
        """1x1, 3x3, 1x1 with a skip connection (ResNet-50)."""
        y = self.conv_act(self.conv_act(x, mid, 1), mid, 3, stride, groups=groups)
        y = self.conv(y, mid * widen, 1)
        return self.act(self.add(y, self._skip(x, mid * widen, stride)), "relu")

    def _skip(self, x: str, out: int, stride: int) -> str:
        same = stride == 1 and self.channels(x) == out
        return x if same else self.conv(x, out, 1, stride)

    def inverted(
        self,
        x: str,
        mid: int,
        out: int,
        kernel: int = 3,
        stride: int = 1,
        act: str = "relu6",
        squeeze: int = 0,
        gate: str = "sigmoid",
        dilation: int = 1,
    ) -> str:
        """Expand, depthwise, project; a skip where shapes allow (MobileNet, EfficientNet)."""
        y = x if mid == self.channels(x) else self.conv_act(x, mid, 1, act=act)
        y = self.act(self.depthwise(y, kernel, stride, dilation), act)
        if squeeze:
            y = self.squeeze_excite(y, squeeze, "relu" if gate == "hsigmoid" else act, gate)
        y = self.conv(y, out, 1)
        return self.add(y, x) if self.shape(x) == self.shape(y) else y

    def separable(self, x: str, out: int, stride: int = 1, act: str = "relu") -> str:
        """Depthwise and pointwise (MobileNet-v1)."""
        return self.conv_act(self.act(self.depthwise(x, 3, stride), act), out, 1, act=act)

    def fire(self, x: str, squeeze: int, expand: int) -> str:
        """A squeeze and two parallel expansions (SqueezeNet)."""
        y = self.conv_act(x, squeeze, 1)
        return self.concat(self.conv_act(y, expand, 1), self.conv_act(y, expand, 3))

    def inception(self, x: str, a: int, b: tuple[int, int], c: tuple[int, int], d: int) -> str:
        """Four parallel branches (GoogLeNet)."""
        return self.concat(
            self.conv_act(x, a, 1),
            self.conv_act(self.conv_act(x, b[0], 1), b[1], 3),
            self.conv_act(self.conv_act(x, c[0], 1), c[1], 5),
            self.conv_act(self.pool(x, 3, 1, 1), d, 1),
        )

    def dense(self, x: str, growth: int) -> str:
        """A bottleneck whose result stands beside its input (DenseNet)."""
        return self.concat(x, self.conv(self.conv_act(x, 4 * growth, 1), growth, 3))
