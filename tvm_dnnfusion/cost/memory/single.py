"""One layer on its own: row tiles, blocks of output channels, or small tiles that re-read halos.

Three ways, the cheapest counts, with weights F, operands I and results O:

    rows      the group model: T * F + I + O
    channels  k of K output channels at a time, their weights kept: F + ceil(K / k) * I + O
    tiles     h x w x k blocks of sums; operands stream in slices, with their halos:
              T * F + I' * ceil(K / k) + O,  I' = T * C * ((h - 1) s + R) * ((w - 1) s + D)

The last always fits where a few words do. Elementwise layers, concatenations and poolings over
whole maps pass by pixel by pixel and hold nothing. A layer that wants whole maps (attention, a
transposition) is charged what it reads and writes once.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from tvm_dnnfusion.cost.memory.energy import energy
from tvm_dnnfusion.cost.memory.network import FeatureMap, Layer, LayerKind, Network, Use
from tvm_dnnfusion.cost.memory.setting import GroupCost, Setting, Why, refused


def single_layer(network: Network, index: int, setting: Setting, batch: int, rows: GroupCost
                 ) -> GroupCost:  # fmt: skip
    """The cheapest way to run one layer; `rows` is what row tiles cost, valid or not."""
    layer = network.layers[index]
    sources = network.external_inputs(1 << index)
    maps = [network.map_of(s) for s in sources]
    read = sum(m.elements for m in maps)
    if layer.kind is LayerKind.WHOLE:
        return _cost(layer, setting, batch, layer.extras, read, 1, 0)
    found = [rows] if rows.valid else []
    use = layer.uses[0]
    passes_by = layer.kind in (LayerKind.ELTWISE, LayerKind.CONCAT, LayerKind.MIX)
    if passes_by or (layer.kind is LayerKind.POOL and use.whole):
        used = 2 * layer.channels + layer.extras
        return _cost(layer, setting, batch, layer.extras, read, 1, used, rows=1)
    if layer.weights and layer.is_conv and not any(u.whole for u in layer.uses):
        found += _by_channels(network, layer, use, setting, batch, read)
    if (
        not rows.valid
        or rows.dram_bytes
        > (layer.weights + layer.extras + read * batch + layer.elements * batch)
        * setting.word_bytes
    ):
        found += _by_tiles(layer, use, maps[0], read, setting, batch)
    best = min(found, key=lambda c: (c.dram_bytes, c.energy), default=None)
    if best is None:
        return refused(Why.BUFFER, rows.buffer_bytes)
    needs = [c.buffer_bytes or c.used_bytes for c in found]
    return replace(best, buffer_bytes=min(needs))


def _cost(layer: Layer, setting: Setting, batch: int, weights: int, read: int, tiles: int,
          used: int, resident: bool = True, rows: int = 0) -> GroupCost:  # fmt: skip
    """The record of a way: `weights` in all, `read` words for each image."""
    word, written = setting.word_bytes, layer.elements * batch
    dram = weights + read * batch + written
    spent = energy(setting.accelerator, dram, dram + layer.macs * batch // 32, layer.macs * batch)
    return GroupCost(
        True, used * word, float(dram * word), spent, used_bytes=used * word,
        tile_rows=rows or layer.rows, tiles=tiles, resident=resident,
        weight_bytes=float(weights * word), input_bytes=float(read * batch * word),
        output_bytes=float(written * word),
    )  # fmt: skip


def _by_channels(network: Network, layer: Layer, use: Use, setting: Setting, batch: int, read: int
                 ) -> list[GroupCost]:  # fmt: skip
    """Blocks of output channels with their weights kept; all lines of the operand pass by."""
    m = network.map_of(use.source)
    lines = min(m.rows, use.kernel[0]) * m.cols * m.channels
    each = -(-(layer.weights + layer.extras) // layer.channels) + layer.cols
    k = min(layer.channels, (setting.words - 1 - lines) // each)
    if k < 1:
        return []
    blocks = -(-layer.channels // k)
    k = -(-layer.channels // blocks)
    return [_cost(layer, setting, batch, layer.weights + layer.extras, read * blocks, blocks,
                  lines + k * each, rows=1)]  # fmt: skip


def _by_tiles(
    layer: Layer, use: Use, operand: FeatureMap, read: int, setting: Setting, batch: int
) -> list[GroupCost]:
    """Blocks of rows, columns and output channels; operands and weights stream in slices."""
    spec = setting.accelerator
    weights = layer.weights + layer.extras
    inner = max(1, layer.in_channels // layer.groups)
    taps = max(1, layer.weights // max(1, layer.channels * inner))
    best: tuple[int, int, int, int, int] | None = None
    least = 0
    for deep, k, w in product({spec.slice_of(inner), 1}, _halves(layer.channels),
                              _halves(layer.cols)):  # fmt: skip
        staged = min(weights, spec.slice_of(k) * deep * taps)
        across = -(-layer.channels // k) if layer.is_conv else 1
        wide = min(operand.cols, (w - 1) * use.stride[1] + use.kernel[1])
        room = setting.words - staged - 1
        height = _tallest(layer.rows, k * w, deep * wide, use, operand.rows, room)
        if not height:
            continue
        tall = min(operand.rows, (height - 1) * use.stride[0] + use.kernel[0])
        tiles = -(-layer.rows // height) * -(-layer.cols // w)
        halo = tiles * tall * wide * layer.in_channels if tiles > 1 else 0
        again = tiles if layer.kind is LayerKind.MATMUL else 1  # the other operand, once a tile
        moved = max(halo, operand.elements) * across + (read - operand.elements) * again
        total = weights * tiles + moved
        if best is None or total < least:
            used = k * height * w + deep * tall * wide + staged
            best, least = (tiles, moved, across, used, height), total
    if best is None:
        return []
    tiles, moved, across, used, height = best
    return [_cost(layer, setting, batch, weights * tiles * batch, moved, tiles * across, used,
                  tiles * batch == 1, height)]  # fmt: skip


def _tallest(rows: int, result: int, operand: int, use: Use, most: int, room: int) -> int:
    """Rows of a tile: result * h + operand * min(most, (h - 1) s + R) words in `room`; 0 where
    none fit."""
    left = room - operand * (use.kernel[0] - use.stride[0])
    grown = left // (result + operand * use.stride[0])
    whole = (room - operand * most) // result
    return max(0, min(rows, max(grown, whole)))


def _halves(extent: int) -> list[int]:
    """The extent, and its halves down to one."""
    out = [extent]
    while out[-1] > 1:
        out.append(-(-out[-1] // 2))
    return out
