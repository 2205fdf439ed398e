"""Small ONNX models written out node by node, in the form in which exporters write them.

Each stands for a structure that the light models lack: a transformer encoder (LayerNorm and GELU in
pieces), squeeze-and-excitation, masked attention, a U-Net, a 3-D convolutional net.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.weights import Role, weight

OPSET = 17
IR_VERSION = 8


class Net:
    """Builds an ONNX graph one node at a time; methods return the name of the new tensor."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int], dtype: int = TensorProto.FLOAT) -> str:
        """A graph input."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """An initializer."""
        self._constants.append(numpy_helper.from_array(value, name))
        return name

    def scalar(self, name: str, value: float) -> str:
        """A float32 scalar initializer."""
        return self.constant(name, np.array(value, np.float32))

    def weight(
        self, name: str, shape: tuple[int, ...], op: str, index: int = 1, **role: bool
    ) -> str:
        """A random initializer for operand `index` of `op`."""
        return self.constant(name, weight(f"{self.name}/{name}", shape, Role(op, index, **role)))

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        """A node with one output, which bears the node's name."""
        self._nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def output(self, tensor: str, shape: Sequence[int]) -> None:
        """A float32 graph output."""
        self._outputs.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, shape))

    def build(self) -> onnx.ModelProto:
        """The checked model, with the shape of every tensor inferred."""
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, self._constants
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return onnx.shape_inference.infer_shapes(model)

    # Layers

    def conv(self, x: str, channels: tuple[int, int], name: str, **attributes: object) -> str:
        """Convolution (in, out channels) with bias; `kernel` as in kernel_shape, padding "same"."""
        kernel = attributes.pop("kernel", (3, 3))
        assert isinstance(kernel, tuple)
        inner = channels[0] // int(str(attributes.get("group", 1)))
        w = self.weight(f"{name}.weight", (channels[1], inner, *kernel), "Conv", rectified=True)
        b = self.weight(f"{name}.bias", (channels[1],), "Conv", 2)
        pads = [k // 2 for k in kernel] * 2
        return self.node("Conv", [x, w, b], name, kernel_shape=kernel, pads=pads, **attributes)

    def batch_norm(self, x: str, channels: int, name: str, residual: bool = False) -> str:
        """BatchNormalization in inference form."""
        parts = ("scale", "bias", "mean", "var")
        operands = [
            self.weight(
                f"{name}.{part}", (channels,), "BatchNormalization", i + 1, residual=residual
            )
            for i, part in enumerate(parts)
        ]
        return self.node("BatchNormalization", [x, *operands], name, epsilon=1e-5)

    def conv_bn_relu(
        self, x: str, channels: tuple[int, int], name: str, **attributes: object
    ) -> str:
        """Convolution, BatchNormalization, Relu."""
        y = self.conv(x, channels, f"{name}/conv", **attributes)
        return self.node("Relu", [self.batch_norm(y, channels[1], f"{name}/bn")], f"{name}/relu")

    def linear(self, x: str, width: tuple[int, int], name: str, final: bool = False) -> str:
        """MatMul with a weight [in, out], then Add of the bias: a torch Linear as exported."""
        w = self.weight(f"{name}.weight", width, "MatMul", final=final)
        b = self.weight(f"{name}.bias", width[1:], "Add")
        return self.node("Add", [self.node("MatMul", [x, w], f"{name}/MatMul"), b], f"{name}/Add")

    def layer_norm(self, x: str, width: int, name: str) -> str:
        """(x - mean) / sqrt(mean((x - mean) ** 2) + eps) * gamma + beta, in nine nodes."""
        mean = self.node("ReduceMean", [x], f"{name}/ReduceMean", axes=[-1])
        centred = self.node("Sub", [x, mean], f"{name}/Sub")
        power = self.node("Pow", [centred, self.scalar(f"{name}.two", 2.0)], f"{name}/Pow")
        var = self.node("ReduceMean", [power], f"{name}/ReduceMean_1", axes=[-1])
        shifted = self.node("Add", [var, self.scalar(f"{name}.eps", 1e-5)], f"{name}/Add")
        std = self.node("Sqrt", [shifted], f"{name}/Sqrt")
        normal = self.node("Div", [centred, std], f"{name}/Div")
        gamma = self.weight(f"{name}.gamma", (width,), "Mul")
        scaled = self.node("Mul", [normal, gamma], f"{name}/Mul")
        return self.node(
            "Add", [scaled, self.weight(f"{name}.beta", (width,), "Add")], f"{name}/Add_1"
        )

    def gelu(self, x: str, name: str) -> str:
        """x * (erf(x / sqrt(2)) + 1) * 0.5, in five nodes."""
        root = self.scalar(f"{name}.sqrt2", math.sqrt(2.0))
        inner = self.node("Erf", [self.node("Div", [x, root], f"{name}/Div")], f"{name}/Erf")
        shifted = self.node("Add", [inner, self.scalar(f"{name}.one", 1.0)], f"{name}/Add")
        product = self.node("Mul", [x, shifted], f"{name}/Mul")
        return self.node("Mul", [product, self.scalar(f"{name}.half", 0.5)], f"{name}/Mul_1")

    def heads(self, x: str, split: tuple[int, int, int], perm: list[int], name: str) -> str:
        """[N, S, heads * d] -> [N, S, heads, d], transposed by `perm`."""
        shape = self.constant(f"{name}.shape", np.array([1, *split], np.int64))
        return self.node(
            "Transpose", [self.node("Reshape", [x, shape], f"{name}/Reshape")], name, perm=perm
        )


def _attention(net: Net, x: str, sizes: tuple[int, int, int], bias: str | None = None) -> str:
    """Multi-head self-attention on [1, S, H]; `bias` is added to the scores before the softmax."""
    length, hidden, heads = sizes
    split = (length, heads, hidden // heads)
    parts = {n: net.linear(x, (hidden, hidden), f"attn/{n}") for n in ("q", "k", "v")}
    q = net.heads(parts["q"], split, [0, 2, 1, 3], "attn/q_heads")
    k = net.heads(parts["k"], split, [0, 2, 3, 1], "attn/k_heads")
    v = net.heads(parts["v"], split, [0, 2, 1, 3], "attn/v_heads")
    scores = net.node("MatMul", [q, k], "attn/scores")
    scores = net.node("Div", [scores, net.scalar("attn.scale", split[2] ** 0.5)], "attn/scaled")
    if bias is not None:
        scores = net.node("Add", [scores, bias], "attn/masked")
    weights = net.node("Softmax", [scores], "attn/softmax", axis=-1)
    mixed = net.node("MatMul", [weights, v], "attn/mixed")
    back = net.node("Transpose", [mixed], "attn/back", perm=[0, 2, 1, 3])
    shape = net.constant("attn.merge_shape", np.array([1, length, hidden], np.int64))
    merged = net.node("Reshape", [back, shape], "attn/merge")
    return net.linear(merged, (hidden, hidden), "attn/out")


def transformer(length: int = 64, hidden: int = 128, heads: int = 4) -> onnx.ModelProto:
    """One encoder block after BERT: attention, LayerNorm, two linear layers with GELU."""
    net = Net("transformer")
    x = net.input("x", (1, length, hidden))
    attended = net.node("Add", [_attention(net, x, (length, hidden, heads)), x], "residual")
    middle = net.layer_norm(attended, hidden, "norm1")
    inner = net.gelu(net.linear(middle, (hidden, 4 * hidden), "ffn/in"), "ffn/gelu")
    outer = net.linear(inner, (4 * hidden, hidden), "ffn/out", final=True)
    total = net.node("Add", [outer, middle], "residual_1")
    net.output(net.layer_norm(total, hidden, "norm2"), (1, length, hidden))
    return net.build()


def attention(length: int = 48, hidden: int = 96, heads: int = 6) -> onnx.ModelProto:
    """Masked multi-head attention: the int64 mask [1, S] puts -10000 on the scores it hides."""
    net = Net("attention")
    x = net.input("x", (1, length, hidden))
    mask = net.input("mask", (1, length), TensorProto.INT64)
    axes = net.constant("mask.axes", np.array([1, 2], np.int64))
    wide = net.node("Unsqueeze", [mask, axes], "mask/Unsqueeze")
    real = net.node("Cast", [wide], "mask/Cast", to=TensorProto.FLOAT)
    off = net.node("Sub", [net.scalar("mask.one", 1.0), real], "mask/Sub")
    bias = net.node("Mul", [off, net.scalar("mask.low", -10000.0)], "mask/Mul")
    net.output(_attention(net, x, (length, hidden, heads), bias), (1, length, hidden))
    return net.build()


def se_block(channels: int = 32, size: int = 28) -> onnx.ModelProto:
    """Squeeze-and-excitation on a residual block: channels weighed by a gate from their means."""
    net = Net("se_block")
    x = net.input("x", (1, channels, size, size))
    y = net.conv_bn_relu(x, (channels, channels), "conv1")
    y = net.batch_norm(net.conv(y, (channels, channels), "conv2/conv"), channels, "conv2/bn")
    pooled = net.node("GlobalAveragePool", [y], "se/pool")
    small = net.conv(pooled, (channels, channels // 4), "se/reduce", kernel=(1, 1))
    large = net.conv(
        net.node("Relu", [small], "se/relu"), (channels // 4, channels), "se/expand", kernel=(1, 1)
    )
    gated = net.node("Mul", [y, net.node("Sigmoid", [large], "se/gate")], "se/scale")
    total = net.node("Add", [gated, x], "residual")
    net.output(net.node("Relu", [total], "relu"), (1, channels, size, size))
    return net.build()


def unet(channels: int = 8, size: int = 64, depth: int = 2) -> onnx.ModelProto:
    """U-Net: `depth` halvings by MaxPool, as many doublings by ConvTranspose, skips by Concat."""
    net = Net("unet")
    y, width, skips = net.input("x", (1, 3, size, size)), 3, list[tuple[str, int]]()
    for level in range(depth):
        y, width = _double(net, y, (width, channels << level), f"down{level}"), channels << level
        skips.append((y, width))
        y = net.node("MaxPool", [y], f"down{level}/pool", kernel_shape=[2, 2], strides=[2, 2])
    y, width = _double(net, y, (width, channels << depth), "bottom"), channels << depth
    for level, (skip, narrow) in reversed(list(enumerate(skips))):
        w = net.weight(f"up{level}.weight", (width, narrow, 2, 2), "ConvTranspose")
        b = net.weight(f"up{level}.bias", (narrow,), "ConvTranspose", 2)
        y = net.node("ConvTranspose", [y, w, b], f"up{level}", kernel_shape=[2, 2], strides=[2, 2])
        y = net.node("Concat", [skip, y], f"up{level}/concat", axis=1)
        y, width = _double(net, y, (2 * narrow, narrow), f"up{level}/conv"), narrow
    y = net.conv(y, (width, 2), "head", kernel=(1, 1))
    net.output(net.node("Sigmoid", [y], "sigmoid"), (1, 2, size, size))
    return net.build()


def _double(net: Net, x: str, channels: tuple[int, int], name: str) -> str:
    y = net.conv_bn_relu(x, channels, f"{name}/a")
    return net.conv_bn_relu(y, (channels[1], channels[1]), f"{name}/b")


def conv3d(channels: int = 16, frames: int = 8, size: int = 32) -> onnx.ModelProto:
    """A small video classifier: 3-D convolutions [N, C, D, H, W], a residual, global pooling."""
    net = Net("conv3d")
    x = net.input("x", (1, 3, frames, size, size))
    kernel = (3, 3, 3)
    y = net.conv_bn_relu(x, (3, channels), "stem", kernel=kernel)
    y = net.node("MaxPool", [y], "pool", kernel_shape=[1, 2, 2], strides=[1, 2, 2])
    wide = net.conv_bn_relu(y, (channels, 2 * channels), "wide", kernel=kernel, strides=[2, 2, 2])
    branch = net.conv(wide, (2 * channels, 2 * channels), "res/conv", kernel=kernel)
    branch = net.batch_norm(branch, 2 * channels, "res/bn", residual=True)
    y = net.node("Relu", [net.node("Add", [branch, wide], "res/add")], "res/relu")
    flat = net.node("Flatten", [net.node("GlobalAveragePool", [y], "gap")], "flat", axis=1)
    w = net.weight("fc.weight", (10, 2 * channels), "Gemm", transposed=True)
    b = net.weight("fc.bias", (10,), "Gemm", 2)
    y = net.node("Gemm", [flat, w, b], "fc", transB=1)
    net.output(net.node("Softmax", [y], "softmax", axis=1), (1, 10))
    return net.build()


BUILT: dict[str, Callable[[], onnx.ModelProto]] = {
    "transformer": transformer,
    "attention": attention,
    "se_block": se_block,
    "unet": unet,
    "conv3d": conv3d,
}
