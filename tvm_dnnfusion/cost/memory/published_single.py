"""One convolution alone as Optimus models it: five kinds of reuse, in closed form.

A block holds k output channels, c input channels and bhw pixels of results; the buffer S bounds
R D k c + k bhw + s^2 c bhw. With f = R D / s^2 (weights per operand), DRAM words are

    kept      operands          results                weights
    results   MAC s^2/(R D k)   O                      MAC / bhw
    weights   MAC s^2/(R D k)   2 MAC/(R D c) - O      F
    operands  I                 2 MAC/(R D c) - O      MAC / bhw
    all c     I                 O                      MAC / bhw
    all k     I                 O                      MAC / bhw

`single_dram` takes the best block of each kind by DRAM words, as the authors' closed forms do.
`single_energy` is the output-stationary kind alone at the least energy, which their baselines use;
it searches blocks where they call a solver. Layers count batch in bhw.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, sqrt

import numpy as np

from tvm_dnnfusion.cost.memory.network import Layer
from tvm_dnnfusion.cost.memory.setting import Setting
from tvm_dnnfusion.devices.accelerators import Accelerator


@dataclass(frozen=True, slots=True)
class Shape:
    """A convolution as its loops: N, K, C, H, W, R, D, the area of a stride, and its groups."""

    n: int
    k: int
    c: int
    h: int
    w: int
    r: int
    d: int
    area: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole batch."""
        return self.n * self.k * self.c * self.h * self.w * self.r * self.d

    @property
    def pixels(self) -> int:
        """Pixels of the result, all images."""
        return self.n * self.h * self.w

    @property
    def weights(self) -> int:
        """Elements of the kernel."""
        return self.k * self.c * self.r * self.d

    @property
    def operands(self) -> int:
        """Elements of the operand, as the model counts them."""
        return self.c * self.pixels * self.area

    @property
    def results(self) -> int:
        """Elements of the result."""
        return self.k * self.pixels


@dataclass(frozen=True, slots=True)
class Bounds:
    """Least extents that the PE array asks of a block."""

    k: int
    c: int
    b: int
    h: int
    w: int

    @property
    def pixels(self) -> int:
        """Least pixels of a block."""
        return self.b * self.h * self.w


def single_dram(layer: Layer, setting: Setting, batch: int) -> tuple[int, int]:
    """Least DRAM words of the layer alone, and the words of buffer its block takes."""
    shape = _shape(layer, batch)
    found = _cheapest(shape, _bounds(shape, setting.accelerator), setting.words)
    return found[0] * max(1, layer.groups), found[1]


def single_energy(layer: Layer, setting: Setting, batch: int) -> tuple[int, float]:
    """DRAM words and energy of the layer alone, output-stationary at least energy."""
    shape, spec = _shape(layer, batch), setting.accelerator
    dram, spent = _stationary(shape, _bounds(shape, spec), setting.words, spec.dram_energy,
                              spec.buffer_energy)  # fmt: skip
    return dram * max(1, layer.groups), spent * max(1, layer.groups)


def single_stationary(layer: Layer, setting: Setting, batch: int) -> int:
    """DRAM words of the layer alone, output-stationary at least DRAM words."""
    shape = _shape(layer, batch)
    found = _keep_results(shape, _bounds(shape, setting.accelerator), setting.words)
    return (2 * shape.macs if found is None else found[0]) * max(1, layer.groups)


def _shape(layer: Layer, batch: int) -> Shape:
    use, g = layer.uses[0], max(1, layer.groups)
    k, c = layer.channels // g, max(1, layer.in_channels // g)
    if use.whole or not layer.weights:
        return Shape(batch, k, c, layer.rows, layer.cols, 1, 1, 1)
    return Shape(batch, k, c, layer.rows, layer.cols, *use.kernel, use.stride[0] * use.stride[1])


def _bounds(s: Shape, spec: Accelerator) -> Bounds:
    flow = spec.dataflow
    return Bounds(
        min(s.k, flow.bound("K")), min(s.c, flow.bound("C")), min(s.n, flow.bound("B")),
        min(s.h, flow.bound("H")), min(s.w, flow.bound("W")),
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _cheapest(s: Shape, low: Bounds, room: int) -> tuple[int, int]:
    ways = (_all_inputs, _all_outputs, _keep_weights, _keep_operands, _keep_results)
    found = [way(s, low, room) for way in ways]
    real = [f for f in found if f is not None]
    if not real:  # not even one block: a pixel at a time
        return s.macs * 2, room
    return min(real)


Way = tuple[int, int] | None
"""DRAM words and words of buffer, or None where no block of the kind fits."""


def _all_inputs(s: Shape, low: Bounds, room: int) -> Way:
    left = room - low.k * s.c * s.r * s.d
    pixels = _divided(min(ceil(left / (s.c * s.area + low.k)), s.pixels), s, low)
    if left < 0 or not pixels:
        return None
    return s.operands + ceil(s.macs / pixels) + s.results, min(room, pixels * s.c * s.area + 1)


def _all_outputs(s: Shape, low: Bounds, room: int) -> Way:
    left = room - s.k * low.c * s.r * s.d
    pixels = _divided(min(ceil(left / (low.c * s.area + s.k)), s.pixels), s, low)
    if left < 0 or not pixels:
        return None
    return s.operands + ceil(s.macs / pixels) + s.results, min(room, pixels * s.k + 1)


def _keep_weights(s: Shape, low: Bounds, room: int) -> Way:
    taps, f = s.r * s.d, s.r * s.d / s.area
    a = low.pixels * 3 / (4 * f)
    k: float = max(sqrt(room / (2 * f) + a * a) - a, 1)
    c: float = ceil(2 * k / s.area)
    if k > s.k and c > s.c:
        k, c = s.k, s.c
    elif k > s.k:
        k = s.k
        c = min(ceil((room - low.pixels * k) / (taps * k + low.pixels * s.area)), s.c)
    elif c > s.c:
        c = s.c
        k = min(ceil((room - low.pixels * s.area * c) / (taps * c + low.pixels)), s.k)
    if k * c > low.k * low.c:
        if k < low.k and c > low.c:
            k = low.k
            c = min(ceil((room - low.pixels * k) / (taps * k + low.pixels * s.area)), s.c)
        elif k > low.k and c < low.c:
            c = low.c
            k = min(ceil((room - low.pixels * s.area * c) / (taps * c + low.pixels)), s.k)
    k = floor(k)
    if k <= 0 or c <= 0:
        return None
    rate = c * k * taps / (c * s.area + 2 * k - 1)
    return s.weights + ceil(s.macs / rate), min(room, int(taps * k * c))


def _keep_operands(s: Shape, low: Bounds, room: int) -> Way:
    taps, f = s.r * s.d, s.r * s.d / s.area
    a = low.k * 3 * f / 4
    pixels: float = max(ceil(sqrt(room * f / 2 + a * a) - a), 1)
    c: float = ceil(2 * pixels / taps)
    if pixels > s.pixels:
        c = s.c if c > s.c else c
        pixels = s.pixels
        c = min(ceil((room - pixels * low.k) / (taps * low.k + pixels * s.area)), s.c)
    elif c > s.c:
        c = s.c
        pixels = min(ceil((room - taps * c * low.k) / (low.k + c * s.area)), s.pixels)
    if pixels * c > low.pixels * low.c:
        if pixels < low.pixels and c > low.c:
            pixels = low.pixels
            c = min(ceil((room - pixels * low.k) / (taps * low.k + pixels * s.area)), s.c)
        elif pixels > low.pixels and c < low.c:
            c = low.c
            pixels = min(ceil((room - taps * c * low.k) / (low.k + c * s.area)), s.pixels)
    block = _divided(int(pixels), s, low)
    if not block or c <= 0:
        return None
    rate = block * c * taps / (c * taps + 2 * block - 1)
    return s.operands + ceil(s.macs / rate), min(room, int(block * c * s.area))


def _keep_results(s: Shape, low: Bounds, room: int) -> Way:
    taps, c = s.r * s.d, low.c
    a = s.area * (c + 1) / 2
    root: float = max(sqrt(room * s.area / taps + a * a) - a, 1)
    pixels: float = floor(root * taps / a)
    k: float = floor(root)
    if k > s.k and pixels > s.pixels:
        k, pixels = s.k, s.pixels
    elif k > s.k:
        k = s.k
        pixels = min((room - taps * c * k) // (k + c * s.area), s.pixels)
    elif pixels > s.pixels:
        pixels = s.pixels
        k = min((room - pixels * c * s.area) // (pixels + taps * c), s.k)
    if k * pixels > low.k * low.pixels:
        if k < low.k and pixels > low.pixels:
            k = low.k
            pixels = min((room - taps * c * k) // (k + c * s.area), s.pixels)
        elif k > low.k and pixels < low.pixels:
            pixels = low.pixels
            k = min((room - pixels * c * s.area) // (pixels + taps * c), s.k)
    block = _divided(int(pixels), s, low)
    if not block or k <= 0:
        return None
    rate = block * k * taps / (block * s.area + k * taps)
    return ceil(s.macs / rate) + s.results, min(room, int(block * k))


@lru_cache(maxsize=4096)
def _stationary(s: Shape, low: Bounds, room: int, dram: float, buffer: float) -> tuple[int, float]:
    """Blocks of all k and c (a grid where there are many), with the pixels that then fit."""
    taps = s.r * s.d
    q0, q1, q2 = (dram + buffer) * s.area / taps, 2 * buffer / taps, dram + buffer
    k, c = np.meshgrid(_grid(low.k, s.k), _grid(low.c, s.c), indexing="ij")
    pixels = np.minimum((room - taps * k * c) / (k + s.area * c), s.pixels)
    cost = np.where(pixels >= low.pixels, q0 / k + q1 / c + q2 / np.maximum(pixels, 1), np.inf)
    i, j = np.unravel_index(int(np.argmin(cost)), cost.shape)
    best = int(k[i, j])
    block = _divided(int(max(1.0, float(pixels[i, j]))), s, low) or 1
    words = ceil(s.macs * s.area / (taps * best)) + ceil(s.macs / block) + s.results
    spent = (q0 / best + q1 / float(c[i, j]) + q2 / block) * s.macs
    return words, float(spent + (dram - buffer) * s.results)


def _grid(low: int, high: int) -> np.ndarray:
    """All whole numbers of a range, or some 400 of a wide one."""
    every = np.arange(low, high + 1, dtype=np.float64)
    return every if len(every) <= 700 else np.unique(np.round(np.linspace(low, high, 400)))


@lru_cache(maxsize=65536)
def _divided(pixels: int, s: Shape, low: Bounds) -> int:
    """The most pixels, up to a number, that are images x rows x columns of whole blocks."""
    for n in range(pixels, 0, -1):
        for b in range(low.b, min(s.n, n) + 1):
            if n % b:
                continue
            rest = n // b
            for w in range(min(s.w, rest), low.w - 1, -1):
                if rest % w == 0 and low.h <= rest // w <= s.h:
                    return n
    return 0
