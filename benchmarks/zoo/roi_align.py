"""RoiAlign (He et al., 2017) as a torch operator of its own, which exports as ONNX's RoiAlign.

Bilinear interpolation is a product with hat functions along each axis, so that the whole operator
is two small matrix products per box: right, but not fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

SAMPLES = 2
"""Sampled points per cell and axis; a cell is their mean."""


@torch.library.custom_op("dnnfusion_zoo::roi_align", mutates_args=())
def roi_align(features: Tensor, boxes: Tensor, batch: Tensor, size: int, scale: float) -> Tensor:
    """[1, C, H, W], boxes [R, 4] as corners in pixels, batch [R] zeros -> [R, C, size, size]

    `scale` is the side of the map over that of the picture. Boxes lie within the picture.
    """
    height, width = features.shape[-2:]
    across = _weights(boxes[:, 0] * scale, boxes[:, 2] * scale, size, width)
    down = _weights(boxes[:, 1] * scale, boxes[:, 3] * scale, size, height)
    return torch.einsum("rsh,chw,rtw->rcst", down, features[0], across).contiguous()


@roi_align.register_fake
def _(features: Tensor, boxes: Tensor, batch: Tensor, size: int, scale: float) -> Tensor:
    return features.new_empty((boxes.shape[0], features.shape[1], size, size))


def _weights(low: Tensor, high: Tensor, size: int, extent: int) -> Tensor:
    """What each position [extent] adds to each cell of each box: [R, size, extent]"""
    length = (high - low).clamp_min(1.0)
    steps = (torch.arange(size * SAMPLES, dtype=low.dtype) + 0.5) / (size * SAMPLES)
    points = (low[:, None] + steps * length[:, None]).clamp(0, extent - 1)
    distance = (points[..., None] - torch.arange(extent, dtype=low.dtype)).abs()
    hats = (1 - distance).clamp_min(0)
    return hats.unflatten(1, (size, SAMPLES)).mean(2)


def translations() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """What the exporter needs to know."""
    from onnxscript import opset18 as op

    def translate(features: Any, boxes: Any, batch: Any, size: int, scale: float) -> Any:
        return op.RoiAlign(
            features,
            boxes,
            batch,
            output_height=size,
            output_width=size,
            sampling_ratio=SAMPLES,
            spatial_scale=scale,
            coordinate_transformation_mode="output_half_pixel",
        )

    return {torch.ops.dnnfusion_zoo.roi_align.default: translate}
