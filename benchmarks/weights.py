"""Random weights of sensible scale, the same on every machine: seeded by the weight's name.

Convolutions and matrix products are He-scaled, so that activations keep their size through a deep
net (He et al., "Delving Deep into Rectifiers", 2015); BatchNorm statistics lie around those of a
normalised activation. Nothing may saturate or die: a comparison of outputs would prove nothing.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

SCALE = 0.95
"""Middle of a BatchNorm scale: makes up for the mean of 1 / variance, which is 1.1, not 1."""

RESIDUAL_SCALE = 0.4
"""The same on a branch that is added to a shortcut: twelve such sums then grow sixfold."""

FINAL_GAIN = 0.4
"""Gain of the last layer: keeps a softmax after it far from one-hot and far from uniform."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a weight is used for: the operator and the operand's index in it.

    `transposed`: a Gemm weight is [N, K]. `residual`: the result goes straight into a sum.
    `final`: no activation follows. `rectified`: the other operand went through a Relu.
    """

    op: str
    index: int
    transposed: bool = False
    residual: bool = False
    final: bool = False
    rectified: bool = False


def rng(name: str, seed: int = 0) -> np.random.Generator:
    """A generator that depends on the name and the seed, not on Python's hash seed."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def weight(name: str, shape: tuple[int, ...], role: Role, seed: int = 0) -> np.ndarray:
    """A float32 weight of the given shape for the given role."""
    gen = rng(name, seed)
    if role.op == "BatchNormalization":
        return _batch_norm(gen, shape, role)
    if role.op == "Mul":
        return gen.uniform(0.8, 1.2, shape).astype(np.float32)
    if role.op in ("Conv", "ConvTranspose", "Gemm", "MatMul") and role.index == 1:
        scale = np.float32(_gain(role) / math.sqrt(fan_in(shape, role)))
        return gen.standard_normal(shape, dtype=np.float32) * scale
    return gen.uniform(-0.1, 0.1, shape).astype(np.float32)


def fan_in(shape: tuple[int, ...], role: Role) -> int:
    """Products that are summed into one output element.

    Conv weights are [O, I / groups, ...]; ConvTranspose weights [I, O / groups, ...], of whose taps
    a stride of their own size leaves one per output; Gemm [K, N], or [N, K] with transB.
    """
    if role.op == "Conv":
        return max(1, math.prod(shape[1:]))
    if role.op == "ConvTranspose":
        return shape[0]
    return shape[-1] if role.transposed else shape[-2]


def _gain(role: Role) -> float:
    if role.final:
        return FINAL_GAIN
    return math.sqrt(2.0) if role.rectified else 1.0


def _batch_norm(gen: np.random.Generator, shape: tuple[int, ...], role: Role) -> np.ndarray:
    """Operands 1..4 of BatchNormalization: scale, bias, mean, variance."""
    if role.index == 1:
        middle = RESIDUAL_SCALE if role.residual else SCALE
        return (middle * gen.uniform(0.8, 1.2, shape)).astype(np.float32)
    if role.index == 4:
        return gen.uniform(0.5, 1.5, shape).astype(np.float32)
    return gen.uniform(-0.1, 0.1, shape).astype(np.float32)
