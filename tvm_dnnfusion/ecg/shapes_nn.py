"""Shape rules of convolutions, pools, resizes, norms and attention (part of `shapes.py`).

Layouts are strings of axis letters ("NCHW", "OIHW"); spatial extents are read in the order of the
data layout.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm_dnnfusion.ecg.shapes import Call, Result, Shape, same, same_dtype

SPATIAL = "DHW"


def spatial(layout: str) -> list[int]:
    """Positions of the spatial axes in a layout: spatial("NHWC") == [1, 2]."""
    return [i for i, c in enumerate(layout) if c in SPATIAL]


def _layout(call: Call, name: str, shape: Shape) -> str:
    layout = str(call.attrs[name])
    if len(layout) != len(shape) or not layout.isalpha():
        call.fail(f"layout {layout} for shape {shape}")
    return layout


def window(call: Call, extents: Shape, kernel: Shape) -> Shape:
    """Extents after a sliding window with the op's strides, padding, dilation and ceil_mode."""
    n = len(extents)
    strides, dilation, pad = (call.ints(k) or () for k in ("strides", "dilation", "padding"))
    out = []
    for i, (d, k) in enumerate(zip(extents, kernel)):
        room = d + pad[i] + pad[n + i] - dilation[i] * (k - 1) - 1
        room += strides[i] - 1 if call.attrs.get("ceil_mode") else 0
        if room < 0:
            call.fail(f"window {kernel} is larger than the padded input {extents}")
        out.append(room // strides[i] + 1)
    return tuple(out)


def _placed(shape: Shape, layout: str, channels: int, extents: Shape) -> Shape:
    out = list(shape)
    out[layout.index("C")] = channels
    for i, d in zip(spatial(layout), extents):
        out[i] = d
    return tuple(out)


def relayout(shape: Shape, source: str, target: str | None) -> Shape:
    """A shape in another order of the same axes; None keeps it."""
    return shape if not target else tuple(shape[source.index(c)] for c in target)


def _conv(call: Call) -> Result:
    data, weight = call.shape(0), call.shape(1)
    layout, kernel = _layout(call, "data_layout", data), _layout(call, "kernel_layout", weight)
    channels, groups = data[layout.index("C")], call.int("groups", 1)
    transposed = call.kind.endswith("_transpose")
    inner = weight[kernel.index("I")]
    if channels != (inner if transposed else inner * groups):
        call.fail(f"data {data} ({layout}) and weight {weight} ({kernel}) with {groups} groups")
    outer = weight[kernel.index("O")] * (groups if transposed else 1)
    extents = tuple(data[i] for i in spatial(layout))
    size = tuple(weight[kernel.index(layout[i])] for i in spatial(layout))
    grow = _stretched if transposed else window
    out = _placed(data, layout, outer, grow(call, extents, size))
    dtype = call.attrs.get("out_dtype") or same_dtype(call, call.tensor(0), call.tensor(1))
    target = call.attrs.get("out_layout")
    return ((relayout(out, layout, str(target) if target else None), str(dtype)),)


def _stretched(call: Call, extents: Shape, kernel: Shape) -> Shape:
    n = len(extents)
    strides, dilation, pad = (call.ints(k) or () for k in ("strides", "dilation", "padding"))
    extra = call.ints("output_padding") or (0,) * n
    return tuple(
        (d - 1) * strides[i] - pad[i] - pad[n + i] + dilation[i] * (k - 1) + extra[i] + 1
        for i, (d, k) in enumerate(zip(extents, kernel))
    )


def _pool(call: Call) -> Result:
    data = call.shape(0)
    layout = _layout(call, "layout", data)
    extents = tuple(data[i] for i in spatial(layout))
    out = _placed(
        data, layout, data[layout.index("C")], window(call, extents, call.ints("pool_size") or ())
    )
    target = call.attrs.get("out_layout")
    return ((relayout(out, layout, str(target) if target else None), call.dtype(0)),)


def _adaptive(call: Call) -> Result:
    data = call.shape(0)
    layout = _layout(call, "layout", data)
    wanted = call.ints("output_size") or tuple(data[i] for i in spatial(layout))
    return ((_placed(data, layout, data[layout.index("C")], wanted), call.dtype(0)),)


def _resize(call: Call) -> Result:
    data, size = call.shape(0), call.numbers(1)
    layout = _layout(call, "layout", data)
    dtype = str(call.attrs.get("out_dtype") or call.dtype(0))
    return ((_placed(data, layout, data[layout.index("C")], size), dtype),)


def _grid_sample(call: Call) -> Result:
    data, grid = call.shape(0), call.shape(1)
    layout = _layout(call, "layout", data)
    return ((_placed(data, layout, data[layout.index("C")], grid[2:]), call.dtype(0)),)


def _batch_norm(call: Call) -> Result:
    shape = call.shape(0)
    channels = (shape[call.axis(call.int("axis", 1), len(shape))],)
    for i in range(1, 5):
        if call.shape(i) != channels:
            call.fail(f"argument {i} has shape {call.shape(i)}, not {channels}")
    dtype = call.dtype(0)
    return ((shape, dtype), (channels, dtype), (channels, dtype))


def _channel_norm(call: Call) -> Result:
    shape = call.shape(0)
    axis = call.axis(call.int("channel_axis", 1), len(shape))
    if call.shape(1) != (shape[axis],):
        call.fail(f"scale of shape {call.shape(1)} for axis {axis} of {shape}")
    return same(call)


def _axes_norm(call: Call) -> Result:
    shape = call.shape(0)
    wanted = tuple(shape[a] for a in call.axes("axes", len(shape)))
    if call.shape(1) != wanted:
        call.fail(f"scale of shape {call.shape(1)} for axes of extents {wanted}")
    return same(call)


def _dropout(call: Call) -> Result:
    return same(call) * 2


def _pad(call: Call) -> Result:
    shape, width = call.shape(0), call.ints("pad_width") or ()
    if len(width) != 2 * len(shape):
        call.fail(f"pad_width of {len(width)} numbers for {len(shape)} dimensions")
    return (
        (tuple(d + width[2 * i] + width[2 * i + 1] for i, d in enumerate(shape)), call.dtype(0)),
    )


def _pixel_shuffle(call: Call) -> Result:
    shape, r = call.shape(0), call.int("upscale_factor", 1)
    if len(shape) < 3 or shape[-3] % (r * r):
        call.fail(f"upscale_factor {r} for shape {shape}")
    c, h, w = shape[-3:]
    return ((shape[:-3] + (c // (r * r), h * r, w * r), call.dtype(0)),)


def _attention(call: Call) -> Result:
    query, key, value = call.shape(0), call.shape(1), call.shape(2)
    if query[0] != key[0] or query[3] != key[3] or key[:3] != value[:3]:
        call.fail(f"query {query}, key {key}, value {value}")
    return ((query[:3] + value[3:], call.dtype(0)),)


NN_RULES: dict[str, Callable[[Call], Result]] = {
    **dict.fromkeys((f"nn.conv{n}d{t}" for n in (1, 2, 3) for t in ("", "_transpose")), _conv),
    **dict.fromkeys((f"nn.{k}_pool{n}d" for n in (1, 2, 3) for k in ("max", "avg")), _pool),
    **dict.fromkeys((f"nn.adaptive_avg_pool{n}d" for n in (1, 2, 3)), _adaptive),
    **dict.fromkeys(
        ("nn.softmax", "nn.log_softmax", "nn.leakyrelu", "nn.softplus", "nn.prelu"), same
    ),
    **dict.fromkeys(("image.resize2d", "image.resize3d"), _resize),
    **dict.fromkeys(("nn.attention", "nn.attention_bias"), _attention),
    **dict.fromkeys(("nn.layer_norm", "nn.rms_norm"), _axes_norm),
    **dict.fromkeys(("nn.group_norm", "nn.instance_norm"), _channel_norm),
    "image.grid_sample": _grid_sample,
    "nn.batch_norm": _batch_norm,
    "nn.dropout": _dropout,
    "nn.pad": _pad,
    "nn.pixel_shuffle": _pixel_shuffle,
}
