"""Rows for pooling, padding and the exchange of space against channels.

nn.global_avg_pool2d    = mean over H and W
nn.adaptive_max_pool    = max over each output's own window, axis by axis
nn.upsampling           = image.resize2d to the scaled size
nn.space_to_depth       = reshape, permute_dims, reshape
nn.mirror_pad SYMMETRIC = take with the mirrored places, axis by axis
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tvm import relax

from tvm_dnnfusion.relay.entry import Call, Entry, Unsupported, Value, ints, relax_op
from tvm_dnnfusion.relay.layouts import to_layout
from tvm_dnnfusion.relay.table_nn import SPATIAL

MAX_WINDOWS = 256
"""Windows of an adaptive pooling along one axis that are written out one by one."""


def _pool(kind: str, rank: int) -> Any:
    def make(call: Call) -> Value:
        plain = "NC" + SPATIAL[rank]
        layout = call.get("layout", plain)
        named = {
            "strides": ints(call.get("strides", (1,) * rank)),
            "padding": ints(call.get("padding", (0,) * rank)),
            "dilation": ints(call.get("dilation", (1,) * rank)),
            "ceil_mode": bool(call.get("ceil_mode", False)),
        }
        if kind == "avg":
            named["count_include_pad"] = bool(call.get("count_include_pad", False))
        x = to_layout(call, call.x, layout, plain)
        size = ints(call.attrs["pool_size"])
        made = call.emit(relax_op(f"nn.{kind}_pool{rank}d")(x, size, **named))
        return to_layout(call, made, plain, call.get("out_layout") or layout)

    return make


def _global(op: str) -> Any:
    def make(call: Call) -> Value:
        layout = call.get("layout", "NCHW")
        if sorted(layout) != sorted("NCHW"):
            raise Unsupported(f"layout is {layout!r}")
        made = call.do(op, call.x, [layout.index("H"), layout.index("W")], True)
        return to_layout(call, made, layout, call.get("out_layout") or layout)

    return make


def _adaptive(kind: str, rank: int) -> Any:
    def make(call: Call) -> Value:
        plain = "NC" + SPATIAL[rank]
        layout = call.get("layout", plain)
        x = to_layout(call, call.x, layout, plain)
        sizes = ints(call.get("output_size", ()))
        sizes = sizes * rank if len(sizes) == 1 else sizes or list(call.dims(x)[2:])
        if len(sizes) != rank or min(sizes) < 1:
            raise Unsupported(f"output_size is {sizes}")
        if kind == "avg":
            made = call.do(f"nn.adaptive_avg_pool{rank}d", x, sizes)
        else:
            made = _adaptive_max(call, x, sizes)
        return to_layout(call, made, plain, call.get("out_layout") or layout)

    return make


def _adaptive_max(call: Call, x: relax.Expr, sizes: list[int]) -> relax.Expr:
    """Output i sees inputs floor(i I / O) to ceil((i + 1) I / O)."""
    for axis, out in enumerate(sizes, start=2):
        extent = call.dims(x)[axis]
        if out == extent:
            continue
        if out > MAX_WINDOWS:
            raise Unsupported(f"{out} windows along an axis, of at most {MAX_WINDOWS}")
        parts = []
        for i in range(out):
            low, high = i * extent // out, -(-(i + 1) * extent // out)
            part = call.do("strided_slice", x, [axis], [low], [high])
            parts.append(call.do("max", part, [axis], True))
        x = call.do("concat", parts, axis) if out > 1 else parts[0]
    return x


def _pairs(call: Call, name: str) -> list[tuple[int, int]]:
    pairs = [(int(a), int(b)) for a, b in call.attrs[name]]
    if len(pairs) > call.rank(call.x) or min((min(p) for p in pairs), default=0) < 0:
        raise Unsupported(f"{name} is {pairs}")
    return pairs


_PAD = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}


def _pad(call: Call) -> Value:
    value = float(call.get("pad_value", 0.0))
    if len(call.args) > 1:
        value = float(call.known(1, "the value that is padded with"))
    widths = [w for pair in _pairs(call, "pad_width") for w in pair]
    return call.do("nn.pad", call.x, widths, _PAD[call.get("pad_mode", "constant")], value)


def _dyn_pad(call: Call) -> Value:
    widths = [int(w) for w in call.known(1, "the widths").ravel()]
    value = float(call.known(2, "the value that is padded with"))
    return call.do("nn.pad", call.x, widths, _PAD[call.get("pad_mode", "constant")], value)


def _mirror_pad(call: Call) -> Value:
    pairs = _pairs(call, "pad_width")
    if call.get("mode", "SYMMETRIC") == "REFLECT":
        return call.do("nn.pad", call.x, [w for pair in pairs for w in pair], "reflect")
    x = call.x
    for axis, pair in enumerate(pairs):
        if max(pair) > call.dims(x)[axis]:
            raise Unsupported(f"pad_width is {pair} for {call.dims(x)[axis]} elements")
        if any(pair):
            places = np.pad(call.places(call.dims(x)[axis], 1, 0), pair, mode="symmetric")
            x = call.do("take", x, call.const(places, "int64"), axis)
    return x


def _sub_pixel(call: Call) -> tuple[relax.Expr, int, str]:
    layout, block = call.get("layout", "NCHW"), int(call.attrs["block_size"])
    if block < 1:
        raise Unsupported(f"block_size is {block}")
    return to_layout(call, call.x, layout, "NCHW"), block, layout


def _space_to_depth(call: Call) -> Value:
    """[n, c, h/b, b, w/b, b] -> [n, b, b, c, h/b, w/b]."""
    x, b, layout = _sub_pixel(call)
    n, c, h, w = call.dims(x)
    x = call.do("reshape", x, [n, c, h // b, b, w // b, b])
    x = call.do("permute_dims", x, [0, 3, 5, 1, 2, 4])
    return to_layout(call, call.do("reshape", x, [n, c * b * b, h // b, w // b]), "NCHW", layout)


def _depth_to_space(call: Call) -> Value:
    """DCR: [n, b, b, c, h, w]; CRD: [n, c, b, b, h, w]; both -> [n, c, h, b, w, b]."""
    x, b, layout = _sub_pixel(call)
    n, c, h, w = call.dims(x)
    deep = call.get("mode", "DCR") != "CRD"
    split = [n, b, b, c // (b * b), h, w] if deep else [n, c // (b * b), b, b, h, w]
    x = call.do("reshape", x, split)
    x = call.do("permute_dims", x, [0, 3, 4, 1, 5, 2] if deep else [0, 1, 4, 2, 5, 3])
    return to_layout(call, call.do("reshape", x, [n, c // (b * b), h * b, w * b]), "NCHW", layout)


def _space_to_batch(call: Call) -> Value:
    """Padded [n, d1, d2, r] -> [n, d1/b1, b1, d2/b2, b2, r] -> [b1, b2, n, d1/b1, d2/b2, r]."""
    blocks = ints(call.attrs["block_shape"])
    pads = [(0, 0), *((int(a), int(b)) for a, b in call.attrs["paddings"])]
    value = float(call.get("pad_value", 0.0))
    rank, k = call.rank(call.x), len(blocks)
    pads += [(0, 0)] * (rank - len(pads))
    x = call.do("nn.pad", call.x, [w for pair in pads for w in pair], "constant", value)
    n, *dims = call.dims(x)
    split = [n, *(v for d, b in zip(dims, blocks, strict=False) for v in (d // b, b)), *dims[k:]]
    x = call.do("reshape", x, split)
    inner, outer = list(range(2, 2 * k + 1, 2)), list(range(1, 2 * k, 2))
    x = call.do("permute_dims", x, [*inner, 0, *outer, *range(2 * k + 1, len(split))])
    small = [d // b for d, b in zip(dims, blocks, strict=False)]
    return call.do("reshape", x, [n * math.prod(blocks), *small, *dims[k:]])


def _batch_to_space(call: Call) -> Value:
    """[b1, b2, n, d1, d2, r] -> [n, d1, b1, d2, b2, r] -> [n, d1 b1, d2 b2, r], then cropped."""
    blocks = ints(call.attrs["block_shape"])
    crops = [(int(a), int(b)) for a, b in call.attrs["crops"]]
    batch, *dims = call.dims(call.x)
    k, n = len(blocks), batch // math.prod(blocks)
    x = call.do("reshape", call.x, [*blocks, n, *dims])
    mixed = [v for i in range(k) for v in (k + 1 + i, i)]
    x = call.do("permute_dims", x, [k, *mixed, *range(2 * k + 1, k + 1 + len(dims))])
    large = [d * b for d, b in zip(dims, blocks, strict=False)]
    x = call.do("reshape", x, [n, *large, *dims[k:]])
    axes = list(range(1, len(crops) + 1))
    ends = [large[i] - crops[i][1] for i in range(len(crops))]
    return call.do("strided_slice", x, axes, [a for a, _ in crops], ends)


def _dilate(call: Call) -> Value:
    """Each axis: [n] -> [n, 1] -> padded to [n, s] -> [n s] -> cut to [(n - 1) s + 1]."""
    x, fill = call.x, float(call.get("dilation_value", 0.0))
    for axis, step in enumerate(ints(call.attrs["strides"])):
        if step == 1:
            continue
        dims = list(call.dims(x))
        wide = call.do("expand_dims", x, [axis + 1])
        widths = [0] * (2 * len(dims) + 2)
        widths[2 * axis + 3] = step - 1
        wide = call.do("nn.pad", wide, widths, "constant", fill)
        extent = dims[axis]
        flat = call.do("reshape", wide, [*dims[:axis], extent * step, *dims[axis + 1 :]])
        x = call.do("strided_slice", flat, [axis], [0], [(extent - 1) * step + 1])
    return x


_POOL = ("pool_size", "strides", "padding", "dilation", "ceil_mode", "layout", "out_layout")
ENTRIES: tuple[Entry, ...] = (
    *(
        Entry(f"nn.max_pool{r}d", f"nn.max_pool{r}d", _pool("max", r), f"MaxPool{r}DAttrs",
              used=_POOL)
        for r in (1, 2, 3)
    ),
    *(
        Entry(f"nn.avg_pool{r}d", f"nn.avg_pool{r}d", _pool("avg", r), f"AvgPool{r}DAttrs",
              used=(*_POOL, "count_include_pad"))
        for r in (1, 2, 3)
    ),
    Entry("nn.global_avg_pool2d", "mean", _global("mean"), "GlobalPool2DAttrs",
          used=("layout", "out_layout")),
    Entry("nn.global_max_pool2d", "max", _global("max"), "GlobalPool2DAttrs",
          used=("layout", "out_layout")),
    *(
        Entry(f"nn.adaptive_avg_pool{r}d", f"nn.adaptive_avg_pool{r}d", _adaptive("avg", r),
              f"AdaptivePool{r}DAttrs", used=("output_size", "layout", "out_layout"))
        for r in (1, 2, 3)
    ),
    *(
        Entry(f"nn.adaptive_max_pool{r}d", "strided_slice, max, concat", _adaptive("max", r),
              f"AdaptivePool{r}DAttrs", used=("output_size", "layout", "out_layout"))
        for r in (1, 2, 3)
    ),
    Entry("nn.pad", "nn.pad", _pad, "PadAttrs", used=("pad_width",),
          must={"pad_mode": tuple(_PAD)}),
    Entry("dyn.nn.pad", "nn.pad", _dyn_pad, "PadAttrs", must={"pad_mode": tuple(_PAD)},
          ignored={"pad_width": "the operand says it"}, note="the widths must be constants"),
    Entry("nn.mirror_pad", "nn.pad; take", _mirror_pad, "MirrorPadAttrs", used=("pad_width",),
          must={"mode": ("REFLECT", "SYMMETRIC")}),
    Entry("nn.space_to_depth", "reshape, permute_dims", _space_to_depth, "SubPixelAttrs",
          used=("block_size", "layout"), ignored={"mode": "of depth_to_space"}),
    Entry("nn.depth_to_space", "reshape, permute_dims", _depth_to_space, "SubPixelAttrs",
          used=("block_size", "layout"), must={"mode": ("DCR", "CRD")}),
    Entry("nn.space_to_batch_nd", "nn.pad, reshape, permute_dims", _space_to_batch,
          "SpaceToBatchNDAttrs", used=("block_shape", "paddings", "pad_value")),
    Entry("nn.batch_to_space_nd", "reshape, permute_dims, strided_slice", _batch_to_space,
          "BatchToSpaceNDAttrs", used=("block_shape", "crops")),
    Entry("nn.dilate", "expand_dims, nn.pad, reshape, strided_slice", _dilate, "DilateAttrs",
          used=("strides", "dilation_value")),
)  # fmt: skip
"""The rows of this file."""
