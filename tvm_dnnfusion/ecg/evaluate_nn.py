"""The interpreter's entries for windows, norms, resizing and attention (part of `evaluate.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tvm_dnnfusion.ecg.evaluate import Array, NotEvaluated, Run
from tvm_dnnfusion.ecg.shapes_nn import SPATIAL, window


def _front(x: Array, layout: str, head: str) -> Array:
    """Axes in the order head, D, H, W."""
    order = head + "".join(c for c in SPATIAL if c in layout)
    return x.transpose([layout.index(c) for c in order])


def _back(x: Array, layout: str, r: Run) -> Array:
    """From NC + spatial to the output layout (of the data where the op names none)."""
    target = str(r.call.attrs.get("out_layout") or layout)
    order = "NC" + "".join(c for c in SPATIAL if c in layout)
    return x.transpose([order.index(c) for c in target])


def _windows(
    x: Array,
    kernel: tuple[int, ...],
    r: Run,
    fill: float,
    strides: tuple[int, ...],
    extra: tuple[int, ...] = (),
) -> Array:
    """[N, C, out..., kernel...]: every window of the padded input [N, C, in...]."""
    n = len(kernel)
    pad, dilation = r.call.ints("padding") or (), r.call.ints("dilation") or (1,) * n
    more = extra or (0,) * n
    x = np.pad(
        x,
        [(0, 0), (0, 0), *((pad[i], pad[n + i] + more[i]) for i in range(n))],
        constant_values=fill,
    )
    size = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel))
    found = sliding_window_view(x, size, axis=tuple(range(2, 2 + n)))
    keep = (slice(None),) * 2 + tuple(slice(None, None, s) for s in strides)
    return found[keep + tuple(slice(None, None, d) for d in dilation)]


def _correlate(windows: Array, weight: Array, groups: int) -> Array:
    """Windows [N, C, out..., k...] with weight [O, C/groups, k...] -> [N, O, out...]."""
    n = weight.ndim - 2
    parts = []
    for win, w in zip(np.split(windows, groups, 1), np.split(weight, groups, 0)):
        part = np.tensordot(win, w, ([1, *range(2 + n, 2 + 2 * n)], [1, *range(2, 2 + n)]))
        parts.append(np.moveaxis(part, -1, 1))
    return np.concatenate(parts, 1)


def _conv(r: Run) -> Array:
    layout, kernel = str(r.call.attrs["data_layout"]), str(r.call.attrs["kernel_layout"])
    x, w = _front(r.x(0), layout, "NC"), _front(r.x(1), kernel, "OI")
    win = _windows(x, w.shape[2:], r, 0.0, r.call.ints("strides") or ())
    return _back(_correlate(win, w, r.call.int("groups", 1)), layout, r)


def _conv_transpose(r: Run) -> Array:
    layout, kernel = str(r.call.attrs["data_layout"]), str(r.call.attrs["kernel_layout"])
    x, w = _front(r.x(0), layout, "NC"), _front(r.x(1), kernel, "IO")
    n, groups = x.ndim - 2, r.call.int("groups", 1)
    strides, dilation, pad = (r.call.ints(k) or () for k in ("strides", "dilation", "padding"))
    extra = r.call.ints("output_padding") or (0,) * n
    full = np.zeros(
        (
            x.shape[0],
            w.shape[1] * groups,
            *(
                (d - 1) * s + dl * (k - 1) + 1 + e
                for d, s, dl, k, e in zip(x.shape[2:], strides, dilation, w.shape[2:], extra)
            ),
        ),
        x.dtype,
    )
    for tap in np.ndindex(*w.shape[2:]):
        where = tuple(
            slice(t * dl, t * dl + (d - 1) * s + 1, s)
            for t, dl, d, s in zip(tap, dilation, x.shape[2:], strides)
        )
        parts = [
            np.moveaxis(np.tensordot(xs, ws[(slice(None), slice(None), *tap)], (1, 0)), -1, 1)
            for xs, ws in zip(np.split(x, groups, 1), np.split(w, groups, 0))
        ]
        full[(slice(None), slice(None), *where)] += np.concatenate(parts, 1)
    crop = tuple(slice(pad[i], full.shape[2 + i] - pad[n + i]) for i in range(n))
    return _back(full[(slice(None), slice(None), *crop)], layout, r)


def _pool(r: Run) -> Array:
    layout, kernel = str(r.call.attrs["layout"]), r.call.ints("pool_size") or ()
    strides = r.call.ints("strides") or ()
    x = _front(r.x(), layout, "NC")
    n = len(kernel)
    # with ceil_mode the last window may reach past the padding
    out = window(r.call, x.shape[2:], kernel)
    pad, dilation = r.call.ints("padding") or (), r.call.ints("dilation") or ()
    extra = tuple(
        max(0, (o - 1) * s + d * (k - 1) + 1 - (e + pad[i] + pad[n + i]))
        for i, (o, s, d, k, e) in enumerate(zip(out, strides, dilation, kernel, x.shape[2:]))
    )
    axes = tuple(range(2 + n, 2 + 2 * n))
    if r.call.kind.startswith("nn.max"):
        lowest = np.finfo(x.dtype).min if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        return _back(_windows(x, kernel, r, float(lowest), strides, extra).max(axes), layout, r)
    total = _windows(x, kernel, r, 0.0, strides, extra).sum(axes)
    ones = np.ones_like(x[:1, :1])
    if r.flag("count_include_pad"):
        ones = np.ones(
            (1, 1, *(e + pad[i] + pad[n + i] for i, e in enumerate(x.shape[2:]))), x.dtype
        )
        view = sliding_window_view(
            np.pad(ones, [(0, 0), (0, 0), *((0, e) for e in extra)]),
            tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel)),
            axis=tuple(range(2, 2 + n)),
        )
        keep = (slice(None),) * 2 + tuple(slice(None, None, s) for s in strides)
        count = view[keep + tuple(slice(None, None, d) for d in dilation)].sum(axes)
    else:
        count = _windows(ones, kernel, r, 0.0, strides, extra).sum(axes)
    return _back(total / np.maximum(count, 1), layout, r)


def _adaptive(r: Run) -> Array:
    layout = str(r.call.attrs["layout"])
    x = _front(r.x(), layout, "NC")
    for axis, size in enumerate(r.call.ints("output_size") or x.shape[2:], start=2):
        d = x.shape[axis]
        cuts = [(i * d // size, -(-(i + 1) * d // size)) for i in range(size)]
        x = np.stack([x.take(range(b, e), axis).mean(axis) for b, e in cuts], axis)
    return _back(x, layout, r)


def _normal(x: Array, axes: tuple[int, ...], epsilon: Any) -> Array:
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + epsilon)


def _affine(x: Array, r: Run, gamma: Array, beta: Array) -> Array:
    x = x * gamma if r.flag("scale") else x
    return x + beta if r.flag("center") else x


def _per_axis(v: Array, axis: int, rank: int) -> Array:
    return v.reshape([-1 if i == axis else 1 for i in range(rank)])


def _layer_norm(r: Run) -> Array:
    axes = r.axes("axes")
    shape = [d if i in axes else 1 for i, d in enumerate(r.x().shape)]
    x = _normal(r.x(), axes, r.call.attrs["epsilon"])
    return _affine(x, r, r.x(1).reshape(shape), r.x(2).reshape(shape))


def _rms_norm(r: Run) -> Array:
    x, axes = r.x(), r.axes("axes")
    shape = [d if i in axes else 1 for i, d in enumerate(x.shape)]
    scale = 1 / np.sqrt((x * x).mean(axes, keepdims=True) + r.call.attrs["epsilon"])
    return x * scale * r.x(1).reshape(shape)


def _group_norm(r: Run) -> Array:
    x, axis = r.x(), r.call.axis(r.call.int("channel_axis", 1), r.x().ndim)
    groups = r.call.int("num_groups", 1)
    split = x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])
    inner = {a + 1 if a > axis else a for a in r.axes("axes") if a != axis} | {axis + 1}
    y = _normal(split, tuple(sorted(inner)), r.call.attrs["epsilon"]).reshape(x.shape)
    return _affine(y, r, _per_axis(r.x(1), axis, x.ndim), _per_axis(r.x(2), axis, x.ndim))


def _instance_norm(r: Run) -> Array:
    x, axis = r.x(), r.call.axis(r.call.int("channel_axis", 1), r.x().ndim)
    y = _normal(x, r.axes("axes"), r.call.attrs["epsilon"])
    return _affine(y, r, _per_axis(r.x(1), axis, x.ndim), _per_axis(r.x(2), axis, x.ndim))


def _batch_norm(r: Run) -> tuple[Array, ...]:
    if r.flag("training"):
        raise NotEvaluated("nn.batch_norm: training mode")
    x, axis = r.x(), r.call.axis(r.call.int("axis", 1), r.x().ndim)
    gamma, beta, mean, var = (_per_axis(r.x(i), axis, x.ndim) for i in range(1, 5))
    y = (x - mean) / np.sqrt(var + r.call.attrs["epsilon"])
    return _affine(y, r, gamma, beta), r.x(3), r.x(4)


def _pixel_shuffle(r: Run) -> Array:
    x, k = r.x(), r.call.int("upscale_factor", 1)
    *lead, c, h, w = x.shape
    n = len(lead)
    x = x.reshape(*lead, c // (k * k), k, k, h, w)
    x = x.transpose(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return x.reshape(*lead, c // (k * k), h * k, w * k)


def _attention(r: Run) -> Array:
    if r.call.attrs.get("causal_mask") or r.call.attrs.get("window_size"):
        raise NotEvaluated("nn.attention: masks")
    q, k, v = (r.x(i).transpose(0, 2, 1, 3) for i in range(3))
    scale = r.call.attrs.get("scale")
    scores = q @ k.swapaxes(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    scores = scores + r.x(3) if len(r.call.args) > 3 else scores
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return (e / e.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3)


def _source(size: int, extent: int, mode: str) -> Array:
    """Coordinate in the input of each output position, along one axis."""
    at = np.arange(size, dtype="float64")
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and size > 1):
        return (at + 0.5) * extent / size - 0.5
    if mode == "align_corners":
        return at * (extent - 1) / max(1, size - 1)
    if mode == "asymmetric":
        return at * extent / size
    raise NotEvaluated(f"image.resize: coordinates by {mode}")


def _resize(r: Run) -> Array:
    a = r.call.attrs
    layout, method = str(a["layout"]), str(a["method"])
    x = _front(r.x(), layout, "NC")
    for axis, size in enumerate(r.call.numbers(1), start=2):
        at = _source(size, x.shape[axis], str(a["coordinate_transformation_mode"]))
        if method == "nearest_neighbor":
            pick = _nearest(at, str(a["rounding_method"]))
            x = x.take(np.clip(pick, 0, x.shape[axis] - 1), axis)
        elif method == "linear":
            low = np.floor(at).astype(int)
            share = (at - low).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
            a0, a1 = (x.take(np.clip(i, 0, x.shape[axis] - 1), axis) for i in (low, low + 1))
            x = a0 * (1 - share) + a1 * share
        else:
            raise NotEvaluated(f"image.resize: method {method}")
    return _back(x, layout, r)


def _nearest(at: Array, rounding: str) -> Array:
    if rounding == "floor":
        return np.floor(at + 1e-5).astype(int)
    if rounding == "ceil":
        return np.ceil(at - 1e-5).astype(int)
    if rounding in ("round_prefer_floor", "round"):
        return np.ceil(at - 0.5).astype(int) if "floor" in rounding else np.round(at).astype(int)
    raise NotEvaluated(f"image.resize: rounding by {rounding}")


NN_TABLE: dict[str, Callable[[Run], Any]] = {
    **{f"nn.conv{n}d": _conv for n in (1, 2, 3)},
    **{f"nn.conv{n}d_transpose": _conv_transpose for n in (1, 2, 3)},
    **{f"nn.{k}_pool{n}d": _pool for n in (1, 2, 3) for k in ("max", "avg")},
    **{f"nn.adaptive_avg_pool{n}d": _adaptive for n in (1, 2, 3)},
    "nn.layer_norm": _layer_norm,
    "nn.rms_norm": _rms_norm,
    "nn.group_norm": _group_norm,
    "nn.instance_norm": _instance_norm,
    "nn.batch_norm": _batch_norm,
    "nn.pixel_shuffle": _pixel_shuffle,
    "nn.attention": _attention,
    "nn.attention_bias": _attention,
    "image.resize2d": _resize,
    "image.resize3d": _resize,
}
