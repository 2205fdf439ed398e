"""Rows for resizing, sampling and regions of pictures.

nn.upsampling  = image.resize2d to the scaled size
image.resize1d = image.resize2d of a picture of one row
"""

from __future__ import annotations

import math
from typing import Any

from tvm import relax

from tvm_dnnfusion.relay.entry import Call, Entry, Unsupported, Value, ints


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


_RESIZE = ("size", "roi", "method", "coordinate_transformation_mode", "rounding_method",
           "cubic_alpha", "cubic_exclude", "extrapolation_value", "layout")  # fmt: skip
_METHODS = {"method": ("nearest_neighbor", "linear", "cubic")}

ENTRIES: tuple[Entry, ...] = (
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
