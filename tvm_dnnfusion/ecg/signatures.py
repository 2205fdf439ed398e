"""The calling convention of each operator: positional parameters, attributes and their defaults.

A literal table of Relax's operators as TVM 0.27 registers them, so that graphs can be built and
changed without a compiler. `builder.py` fills defaults from it, `shapes.py` knows the results.
`tests/ecg/test_shapes.py` compares it with TVM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvm_dnnfusion.ecg.graph import Attr


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameters as (name, mark) and attributes as (name, default).

    Marks: "" a tensor, "*" a tuple of tensors, "#" a scalar, "@" a shape, "%" a tuple of int64,
    "%?" the same, but it may be absent.
    """

    params: tuple[tuple[str, str], ...]
    attrs: tuple[tuple[str, Attr], ...] = ()

    @property
    def defaults(self) -> dict[str, Attr]:
        """Attribute name -> Relax's default."""
        return dict(self.attrs)


def _sig(params: str, **attrs: Attr) -> Signature:
    words = params.split()
    names = tuple((w.rstrip("*#@%?"), w[len(w.rstrip("*#@%?")) :]) for w in words)
    return Signature(names, tuple(sorted(attrs.items())))


UNARY = (
    "abs acos acosh asin asinh atan atanh bitwise_not ceil cos cosh erf exp floor log logical_not "
    "negative round rsqrt sigmoid sign sin sinh sqrt square tan tanh trunc "
    "nn.gelu nn.gelu_tanh nn.relu nn.selu nn.silu"
).split()
PREDICATES = ("isfinite", "isinf", "isnan")
BINARY = (
    "add atan2 bitwise_and bitwise_or bitwise_xor divide floor_divide floor_mod left_shift "
    "log_add_exp logical_and logical_or logical_xor maximum minimum mod multiply power right_shift "
    "subtract"
).split()
COMPARE = ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal")
REDUCE = ("max", "mean", "min", "prod", "std", "sum", "variance")


def _conv(rank: int, transposed: bool = False) -> Signature:
    space = "DHW"[3 - rank :]
    layout = "NC" + space
    more: dict[str, Attr] = {"output_padding": (0,) * rank} if transposed else {}
    return _sig(
        "data weight",
        strides=(1,) * rank,
        padding=(0,) * 2 * rank,
        dilation=(1,) * rank,
        groups=1,
        data_layout=layout,
        kernel_layout=("IO" if transposed else "OI") + space,
        out_layout=None,
        out_dtype=None,
        **more,
    )


def _pool(rank: int, count_include_pad: bool = False) -> Signature:
    return _sig(
        "data",
        pool_size=(1,) * rank,
        strides=(1,) * rank,
        dilation=(1,) * rank,
        padding=(0,) * 2 * rank,
        ceil_mode=False,
        count_include_pad=count_include_pad,
        layout="NC" + "DHW"[3 - rank :],
        out_layout=None,
    )


def _resize(rank: int) -> Signature:
    return _sig(
        "data size@",
        roi=(0.0,) * 2 * rank,
        layout="NC" + "DHW"[3 - rank :],
        method="linear",
        coordinate_transformation_mode="half_pixel",
        rounding_method="round" if rank == 2 else "",
        cubic_alpha=-0.75,
        cubic_exclude=0,
        extrapolation_value=0.0,
        out_dtype=None,
    )


_NORM: dict[str, Attr] = {"epsilon": 1e-5, "center": True, "scale": True}
_ATTENTION: dict[str, Attr] = {"scale": None, "causal_mask": None, "window_size": None}

SIGNATURES: Mapping[str, Signature] = {
    **{kind: _sig("x") for kind in (*UNARY, *PREDICATES)},
    **{kind: _sig("x1 x2") for kind in (*BINARY, *COMPARE)},
    **{
        kind: _sig("x", axis=None, keepdims=False)
        for kind in (*REDUCE, "argmax", "argmin", "median")
    },
    "where": _sig("condition x1 x2"),
    "ewise_fma": _sig("x1 x2 x3"),
    "clip": _sig("x min# max#"),
    "astype": _sig("x", dtype="float32"),
    "cumsum": _sig("data", axis=None, dtype=None, exclusive=False),
    "cumprod": _sig("data", axis=None, dtype=None, exclusive=False),
    "matmul": _sig("x1 x2", out_dtype=None),
    "outer": _sig("x1 x2"),
    "einsum": _sig("operands*", subscripts=""),
    "nn.conv1d": _conv(1),
    "nn.conv2d": _conv(2),
    "nn.conv3d": _conv(3),
    "nn.conv1d_transpose": _conv(1, transposed=True),
    "nn.conv2d_transpose": _conv(2, transposed=True),
    "nn.conv3d_transpose": _conv(3, transposed=True),
    "nn.max_pool1d": _pool(1),
    "nn.max_pool2d": _pool(2),
    "nn.max_pool3d": _pool(3),
    "nn.avg_pool1d": _pool(1, count_include_pad=True),
    "nn.avg_pool2d": _pool(2),
    "nn.avg_pool3d": _pool(3, count_include_pad=True),
    "nn.adaptive_avg_pool1d": _sig("data", output_size=None, layout="NCW", out_layout=None),
    "nn.adaptive_avg_pool2d": _sig("data", output_size=None, layout="NCHW", out_layout=None),
    "nn.adaptive_avg_pool3d": _sig("data", output_size=None, layout="NCDHW", out_layout=None),
    "nn.softmax": _sig("data", axis=-1),
    "nn.log_softmax": _sig("data", axis=-1),
    "nn.layer_norm": _sig("data gamma beta", axes=(-1,), **_NORM),
    "nn.rms_norm": _sig("data weight", axes=(-1,), epsilon=1e-5),
    "nn.group_norm": _sig("data gamma beta", num_groups=1, channel_axis=1, axes=(2, 3), **_NORM),
    "nn.instance_norm": _sig("data gamma beta", channel_axis=1, axes=(2, 3), **_NORM),
    "nn.batch_norm": _sig(
        "data gamma beta moving_mean moving_var", axis=1, momentum=0.1, training=True, **_NORM
    ),
    "nn.pad": _sig("data", pad_width=(), pad_value=0.0, pad_mode="constant"),
    "nn.dropout": _sig("data", rate=0.5),
    "nn.leakyrelu": _sig("data", alpha=0.01),
    "nn.prelu": _sig("data alpha", axis=1),
    "nn.softplus": _sig("data", beta=1.0, threshold=20.0),
    "nn.pixel_shuffle": _sig("data", upscale_factor=1),
    "nn.batch_flatten": _sig("data"),
    "nn.attention": _sig("query key value", **_ATTENTION),
    "nn.attention_bias": _sig("query key value bias", **_ATTENTION),
    "image.resize2d": _resize(2),
    "image.resize3d": _resize(3),
    "image.grid_sample": _sig(
        "data grid", method="bilinear", layout="NCHW", padding_mode="zeros", align_corners=False
    ),
    "reshape": _sig("x shape@"),
    "broadcast_to": _sig("x shape@"),
    "collapse_sum_to": _sig("data shape@"),
    "collapse_sum_like": _sig("data collapse_target"),
    "permute_dims": _sig("x", axes=None),
    "expand_dims": _sig("x", axis=()),
    "squeeze": _sig("x", axis=None),
    "flatten": _sig("x"),
    "concat": _sig("tensors*", axis=0),
    "stack": _sig("tensors*", axis=0),
    "split": _sig("x", indices_or_sections=1, axis=0),
    "strided_slice": _sig("x axes% begin% end% strides%?", assume_inbound=False),
    "take": _sig("x indices", axis=None, mode="fast"),
    "gather_elements": _sig("data indices", axis=0),
    "gather_nd": _sig("data indices", batch_dims=0),
    "scatter_elements": _sig("data indices updates", axis=0, reduction="update"),
    "scatter_nd": _sig("data indices updates", reduction="update"),
    "tile": _sig("data", repeats=()),
    "repeat": _sig("data", repeats=1, axis=None),
    "flip": _sig("data", axis=0),
    "tril": _sig("x k#"),
    "triu": _sig("x k#"),
    "full": _sig("shape@ fill_value", dtype="float32"),
    "zeros": _sig("shape@", dtype="float32"),
    "ones": _sig("shape@", dtype="float32"),
    "full_like": _sig("x fill_value", dtype=None),
    "zeros_like": _sig("x", dtype=None),
    "ones_like": _sig("x", dtype=None),
    "arange": _sig("start# end# step#", dtype="int64"),
    "one_hot": _sig("indices on_value# off_value#", depth=1, axis=-1),
    "topk": _sig("data", k=1, axis=-1, ret_type="both", largest=True, dtype="int32"),
    "sort": _sig("data", axis=-1, descending=False),
    "argsort": _sig("data", axis=-1, descending=False, dtype="int32"),
}
"""Operator kind -> its signature. What is not here cannot be built or rewritten."""
