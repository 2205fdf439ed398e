"""Rows for pooling, padding, resizing and the exchange of space against channels.

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
from tvm_dnnfusion.relay.table_nn import SPATIAL
from tvm_dnnfusion.relay.table_shape import to_layout

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


def _resize(call: Call, x: relax.Expr, size: list[int], layout: str, **named: Any) -> relax.Expr:
    return call.do("image.resize2d", x, tuple(size), layout=layout, **named)


def _rounding(mode: str) -> str:
    """Relay's own choice where rounding_method is left empty."""
    return "round" if mode == "align_corners" else "floor"


def _resize_attrs(call: Call) -> dict[str, Any]:
    mode = call.get("coordinate_transformation_mode", "half_pixel")
    roi = [float(v) for v in call.get("roi", ())]
    if len(roi) not in (0, 2 * (call.rank(call.x) - 2)):
        raise Unsupported(f"roi is {roi}")
    if mode == "tf_crop_and_resize" and not any(roi):
        raise Unsupported("it crops to nothing")
    return {
        "roi": tuple(roi) or None,
        "method": call.get("method", "linear"),
        "coordinate_transformation_mode": mode,
        "rounding_method": call.get("rounding_method") or _rounding(mode),
        "cubic_alpha": float(call.get("cubic_alpha", -0.5)),
        "cubic_exclude": int(call.get("cubic_exclude", 0)),
        "extrapolation_value": float(call.get("extrapolation_value", 0.0)),
    }


def _resize2d(call: Call) -> Value:
    size = call.attrs.get("size")
    size = call.known(1, "the size").tolist() if size is None else size
    return _resized(call, call.x, [int(s) for s in size])


def _dyn_resize2d(call: Call) -> Value:
    return _resized(call, call.x, [int(s) for s in call.known(1, "the size")])


def _resized(call: Call, x: relax.Expr, size: list[int]) -> Value:
    made = _resize(call, x, size, call.get("layout", "NCHW"), **_resize_attrs(call))
    wanted = call.get("out_dtype") or call.dtype(made)
    return made if wanted == call.dtype(made) else call.do("astype", made, wanted)


def _resize1d(call: Call) -> Value:
    """A picture of one row."""
    mode = call.get("coordinate_transformation_mode", "half_pixel")
    if call.get("layout", "NCW") != "NCW" or mode in ("align_corners", "tf_crop_and_resize"):
        raise Unsupported(f"layout {call.get('layout')}, mode {mode}")
    n, c, _ = call.dims(call.x)
    row = call.do("expand_dims", call.x, [2])
    width = ints(call.attrs["size"])[0]
    named = {**_resize_attrs(call), "roi": None}
    made = _resize(call, row, [1, width], "NCHW", **named)
    return call.do("reshape", made, [n, c, width])


def _resize3d(call: Call) -> Value:
    made = call.do(
        "image.resize3d",
        call.x,
        tuple(ints(call.attrs["size"])),
        layout=call.get("layout", "NCDHW"),
        **_resize_attrs(call),
    )
    return made


def _method(call: Call) -> str:
    return str(call.get("method", "nearest_neighbor")).removeprefix("bi").removeprefix("tri")


def _upsampling(call: Call) -> Value:
    return _upsampled(call, float(call.get("scale_h", 1.0)), float(call.get("scale_w", 1.0)))


def _dyn_upsampling(call: Call) -> Value:
    return _upsampled(call, float(call.known(1, "scale_h")), float(call.known(2, "scale_w")))


def _upsampled(call: Call, scale_h: float, scale_w: float) -> Value:
    layout = call.get("layout", "NCHW")
    if layout not in ("NCHW", "NHWC"):
        raise Unsupported(f"layout is {layout!r}")
    dims = call.dims(call.x)
    scales = (("H", scale_h), ("W", scale_w))
    size = [math.floor(dims[layout.index(a)] * scale + 0.5) for a, scale in scales]
    mode = "align_corners" if call.get("align_corners", False) else "asymmetric"
    return _resize(
        call, call.x, size, layout, method=_method(call), coordinate_transformation_mode=mode,
        rounding_method=_rounding(mode), cubic_alpha=-0.5,
    )  # fmt: skip


def _upsampling3d(call: Call) -> Value:
    layout = call.get("layout", "NCDHW")
    dims = call.dims(call.x)
    scales = [float(call.get(f"scale_{a}", 1.0)) for a in "dhw"]
    size = [math.floor(dims[layout.index(a)] * s + 0.5) for a, s in zip("DHW", scales, strict=True)]
    mode = call.get("coordinate_transformation_mode", "half_pixel")
    return call.do(
        "image.resize3d", call.x, tuple(size), layout=layout, method=_method(call),
        coordinate_transformation_mode=mode, rounding_method=_rounding(mode), cubic_alpha=-0.5,
    )  # fmt: skip


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


def _grid_sample(call: Call) -> Value:
    named = ("method", "layout", "padding_mode", "align_corners")
    return call.do("image.grid_sample", *call.args, **{n: call.attrs[n] for n in named})


def _affine_grid(call: Call) -> Value:
    return call.do("image.affine_grid", call.x, tuple(ints(call.attrs["target_shape"])))


def _roi(op: str, *names: str) -> Any:
    def make(call: Call) -> Value:
        named = {n: call.attrs[n] for n in names if n in call.attrs}
        size = tuple(ints(call.attrs["pooled_size"]))
        return call.do(op, *call.args, size, float(call.attrs["spatial_scale"]), **named)

    return make


_POOL = ("pool_size", "strides", "padding", "dilation", "ceil_mode", "layout", "out_layout")
_RESIZE = ("size", "roi", "method", "coordinate_transformation_mode", "rounding_method",
           "cubic_alpha", "cubic_exclude", "extrapolation_value", "layout")  # fmt: skip
_METHODS = {"method": ("nearest_neighbor", "linear", "cubic")}

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
    Entry("nn.upsampling", "image.resize2d", _upsampling, "UpSamplingAttrs",
          used=("scale_h", "scale_w", "layout", "align_corners"),
          must={"method": ("nearest_neighbor", "bilinear", "bicubic")}),
    Entry("dyn.nn.upsampling", "image.resize2d", _dyn_upsampling, "UpSamplingAttrs",
          used=("layout", "align_corners"),
          ignored=dict.fromkeys(("scale_h", "scale_w"), "the operands say it"),
          must={"method": ("nearest_neighbor", "bilinear", "bicubic")},
          note="the scales must be constants"),
    Entry("nn.upsampling3d", "image.resize3d", _upsampling3d, "UpSampling3DAttrs",
          used=("scale_d", "scale_h", "scale_w", "coordinate_transformation_mode"),
          must={"method": ("nearest_neighbor", "trilinear"), "layout": ("NCDHW",)}),
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
    Entry("image.resize1d", "image.resize2d", _resize1d, "Resize1DAttrs", used=_RESIZE,
          must={**_METHODS, "out_dtype": ("",)}),
    Entry("image.resize2d", "image.resize2d", _resize2d, "Resize2DAttrs",
          used=(*_RESIZE, "out_dtype"), must=_METHODS,
          note="cubic_alpha is -0.5 by default; Relax: -0.75"),
    Entry("dyn.image.resize2d", "image.resize2d", _dyn_resize2d, "Resize2DAttrs",
          used=(*_RESIZE, "out_dtype"), must=_METHODS, note="the size must be a constant"),
    Entry("image.resize3d", "image.resize3d", _resize3d, "Resize3DAttrs", used=_RESIZE,
          must={**_METHODS, "out_dtype": ("",)}),
    Entry("image.grid_sample", "image.grid_sample", _grid_sample, "GridSampleAttrs",
          used=("method", "layout", "padding_mode", "align_corners")),
    Entry("image.affine_grid", "image.affine_grid", _affine_grid, "AffineGridAttrs",
          used=("target_shape",)),
    Entry("vision.roi_align", "vision.roi_align",
          _roi("vision.roi_align", "sample_ratio", "layout", "mode"), "ROIAlignAttrs",
          used=("pooled_size", "spatial_scale", "sample_ratio", "layout", "mode")),
    Entry("vision.roi_pool", "vision.roi_pool", _roi("vision.roi_pool", "layout"),
          "ROIPoolAttrs", used=("pooled_size", "spatial_scale", "layout")),
)  # fmt: skip
"""The rows of this file."""
