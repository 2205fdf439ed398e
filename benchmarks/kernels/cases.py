"""The kernels that are measured: one-operator ONNX models with their FLOPs and bytes.

Convolutions have a bias and end in Relu, products a bias, as in the networks they are from. FLOPs
count two per multiply-add of the direct algorithm; bytes are those of all operands and results.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import onnx

from benchmarks.built import Net

TOKENS, WIDTH, HEADS = 128, 768, 12
"""BERT-base on 128 tokens."""

PATCHES = 197
"""ViT-base: 14 x 14 patches and a class token, a prime number of rows."""


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel. `bound` is "compute" or "memory": which of the two limits is the nearer one."""

    name: str
    bound: str
    flops: int
    bytes: int
    build: Callable[[], onnx.ModelProto]


def cases() -> tuple[Case, ...]:
    """All kernels, by group."""
    return (
        *(_matmul(k, n) for k, n in ((768, 768), (768, 2304), (768, 3072), (3072, 768))),
        _matmul(768, 768, rows=PATCHES),
        _matmul(768, 3072, rows=1),
        *(_conv(*shape) for shape in POINTWISE),
        *(_conv(*shape) for shape in SPATIAL),
        *(_conv(*shape, depthwise=True) for shape in DEPTHWISE),
        _attention(),
        *(_rows("softmax", rows) for rows in (HEADS * TOKENS, 64 * HEADS * TOKENS)),
        *(_rows("layer_norm", rows) for rows in (TOKENS, 128 * TOKENS)),
        *(_rows("gelu", rows) for rows in (TOKENS, 32 * TOKENS)),
    )


POINTWISE = (
    (64, 256, 56, 1),
    (256, 64, 56, 1),
    (512, 128, 28, 1),
    (256, 1024, 14, 1),
    (1024, 256, 14, 1),
    (2048, 512, 7, 1),
    (512, 2048, 7, 1),
    (256, 512, 56, 1, 2),
)
"""ResNet-50: channels in and out, height and width, kernel, stride."""

SPATIAL = (
    (3, 64, 224, 7, 2),
    (64, 64, 56, 3),
    (128, 128, 28, 3),
    (256, 256, 14, 3),
    (512, 512, 7, 3),
    (128, 128, 56, 3, 2),
)
"""ResNet-50, in the same columns."""

DEPTHWISE = (
    (32, 32, 112, 3),
    (96, 96, 112, 3, 2),
    (144, 144, 56, 3),
    (192, 192, 28, 3),
    (384, 384, 14, 3),
    (960, 960, 7, 3),
    (240, 240, 28, 5),
)
"""MobileNetV2, and one 5x5 of EfficientNet-B0."""


def _matmul(inner: int, outer: int, rows: int = TOKENS) -> Case:
    name = f"matmul-{rows}x{inner}x{outer}"

    def build() -> onnx.ModelProto:
        net = Net(name)
        y = net.linear(net.input("x", (1, rows, inner)), (inner, outer), "fc")
        net.output(y, (1, rows, outer))
        return net.build()

    elements = rows * inner + inner * outer + outer + rows * outer
    bound = "compute" if rows > 1 else "memory"
    return Case(name, bound, 2 * rows * inner * outer, 4 * elements, build)


def _conv(
    inner: int, outer: int, size: int, kernel: int, stride: int = 1, depthwise: bool = False
) -> Case:
    kind = "depthwise" if depthwise else "conv"
    step = f"-s{stride}" if stride > 1 else ""
    name = f"{kind}{kernel}x{kernel}-{inner}-{outer}-{size}{step}"
    groups, made = inner if depthwise else 1, -(-size // stride)

    def build() -> onnx.ModelProto:
        net = Net(name)
        x = net.input("x", (1, inner, size, size))
        taps, steps = (kernel, kernel), [stride, stride]
        y = net.conv(x, (inner, outer), "conv", kernel=taps, strides=steps, group=groups)
        net.output(net.node("Relu", [y], "relu"), (1, outer, made, made))
        return net.build()

    weights = outer * (inner // groups) * kernel * kernel
    elements = inner * size * size + weights + outer + outer * made * made
    bound = "memory" if depthwise else "compute"
    return Case(name, bound, 2 * weights * made * made, 4 * elements, build)


def _attention() -> Case:
    """softmax(q k^T / 8) v per head; q, k and v come as [1, heads, tokens, 64]."""
    depth = WIDTH // HEADS
    shape = (1, HEADS, TOKENS, depth)

    def build() -> onnx.ModelProto:
        net = Net("attention")
        q, k, v = (net.input(part, shape) for part in "qkv")
        turned = net.node("Transpose", [k], "turn", perm=[0, 1, 3, 2])
        scores = net.node("MatMul", [q, turned], "scores")
        scaled = net.node("Div", [scores, net.scalar("root", math.sqrt(depth))], "scale")
        y = net.node("MatMul", [net.node("Softmax", [scaled], "softmax", axis=-1), v], "mix")
        net.output(y, shape)
        return net.build()

    flops = 4 * HEADS * TOKENS * TOKENS * depth
    return Case("attention", "compute", flops, 4 * 4 * math.prod(shape), build)


def _rows(kind: str, rows: int) -> Case:
    """An operator on rows, at BERT's size and at one beyond the caches."""
    width = {"softmax": TOKENS, "layer_norm": WIDTH, "gelu": 4 * WIDTH}[kind]
    name = f"{kind}-{rows}x{width}"
    flops = {"softmax": 5, "layer_norm": 8, "gelu": 5}[kind] * rows * width
    build = partial(_build_rows, kind, name, (1, rows, width))
    return Case(name, "memory", flops, 4 * 2 * rows * width, build)


def _build_rows(kind: str, name: str, shape: tuple[int, int, int]) -> onnx.ModelProto:
    net = Net(name)
    x = net.input("x", shape)
    if kind == "softmax":
        y = net.node("Softmax", [x], "softmax", axis=-1)
    elif kind == "gelu":
        y = net.gelu(x, "gelu")
    else:
        width = shape[-1:]
        scale = net.weight("scale", width, "Mul")
        y = net.node("LayerNormalization", [x, scale, net.weight("shift", width, "Add")], "norm")
    net.output(y, shape)
    return net.build()
