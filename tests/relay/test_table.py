"""Rows of the operator table that no genuine file at hand shows, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.relay.builder import Relay
from tests.relay.cases import ARCHIVED, case, flat
from tvm_dnnfusion import DNNFusionPass
from tvm_dnnfusion.relay import load_json
from tvm_dnnfusion.relay.errors import RelayUnsupportedError
from tvm_dnnfusion.relay.schema import STRUCTS
from tvm_dnnfusion.relay.table import SECTIONS, TABLE
from tvm_dnnfusion.relay.table_qnn import multiplier
from tvm_dnnfusion.relay.table_shape import new_shape

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 6, 6)).astype("float32")
V = np.array([-7, -3, 0, 5, 7], "int32")


def run(op: str, *operands: Any, struct: str = "", fused: bool = False, **attrs: Any) -> Any:
    """The call's results: operands that are (value, dtype) pairs are constants."""
    r = Relay()
    args, params, inputs = [], [], []
    for i, operand in enumerate(operands):
        if isinstance(operand, tuple):
            args.append(r.const(*operand))
            continue
        args.append(r.var(f"x{i}", operand.shape, str(operand.dtype)))
        params.append(args[-1])
        inputs.append(tvm.runtime.tensor(operand))
    mod = load_json(r.module(params, r.call(op, *args, struct=struct, **attrs)))
    if fused:
        with tvm.target.Target({"kind": "llvm"}):
            mod = tvm.transform.Sequential([DNNFusionPass()])(mod)
    machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target("llvm")), tvm.cpu())
    found = flat(machine["main"](*inputs))
    return found[0] if len(found) == 1 else found


def test_every_attribute_is_accounted_for():
    """No field of a struct is lost silently, and none is named that no file can have."""
    for name, entry in TABLE.items():
        named = {*entry.passed, *entry.used, *entry.ignored, *entry.must}
        fields = set(STRUCTS[entry.struct]) if entry.struct else set()
        assert fields <= named, f"{name} overlooks {sorted(fields - named)}"
        if entry.relay.startswith(("annotation.", "on_device", "device_copy", "copy")):
            continue
        assert named <= fields, f"{name} names {sorted(named - fields)}"


def test_names_are_those_of_one_row():
    assert len(TABLE) == sum(len(rows) for _, rows in SECTIONS)
    assert len(TABLE) > 180
    assert {"layout_transform", "fast_exp", "nn.dense", "slice_like", "qnn.conv2d"} <= set(TABLE)


def test_genuine_files_have_only_structs_and_fields_that_are_known():
    import json

    for name in ARCHIVED:
        for node in json.loads(case(name).text)["nodes"]:
            if node["type_key"].startswith("relay.attrs."):
                known = STRUCTS[node["type_key"].removeprefix("relay.attrs.")]
                assert set(node.get("attrs", {})) <= set(known)


@pytest.mark.parametrize(
    ("old", "codes", "new"),
    [
        ((2, 3, 4), (4, 0, 2), [4, 3, 2]),
        ((2, 3, 4), (-1,), [24]),
        ((2, 3, 4), (2, -2), [2, 3, 4]),
        ((2, 3, 4), (-3, 4), [6, 4]),
        ((2, 3, 4), (-4, 1, 2, -2), [1, 2, 3, 4]),
        ((2, 3, 4), (2, -4, -1, 3, -2), [2, 1, 3, 4]),
        ((2, 3, 4, 5), (-3, -3), [6, 20]),
        ((2, 3, 4), (0, -1), [2, 12]),
    ],
)
def test_codes_of_reshape(old, codes, new):
    assert new_shape(old, codes, False) == new
    assert np.array_equal(
        run("reshape", RNG.normal(size=old).astype("float32"), struct="ReshapeAttrs",
            newshape=codes).shape, new,
    )  # fmt: skip


def test_codes_of_reshape_that_do_not_fit():
    for codes in ((7, 0), (-5,), (-4, 2), (0, 0, 0, 0)):
        with pytest.raises(RelayUnsupportedError, match="shape code"):
            run("reshape", X[0], struct="ReshapeAttrs", newshape=codes)
    empty = np.zeros((0, 3), "float32")
    with pytest.raises(RelayUnsupportedError, match="no elements"):
        run("reshape", empty, struct="ReshapeAttrs", newshape=(3, 0), allowzero=True)


@pytest.mark.parametrize(
    ("begin", "end", "strides", "mode", "axes", "want"),
    [
        ((1, 0), (3, 9), (1, 1), "end", None, X[1:3]),
        ((0, 1), (2, 2), (1, 1), "size", None, X[:, 1:3]),
        ((0, 2), (-1, -1), (5, 5), "size", None, X[:, 2:]),
        ((None, 1), (None, None), (1, 2), "end", None, X[:, 1::2]),
        ((-1,), (-4,), (-1,), "end", (2,), X[:, :, -1:-4:-1]),
        ((5,), (-7,), (-2,), "end", (-1,), X[..., ::-2]),
        ((1, 2), (2, 5), (), "end", (1, 3), X[:, 1:2, :, 2:5]),
        ((1,), (2,), (1,), "end", (0,), X[1:2]),
    ],
)
@pytest.mark.parametrize("fused", [False, True])
def test_strided_slice(begin, end, strides, mode, axes, want, fused):
    found = run("strided_slice", X, struct="StridedSliceAttrs", begin=begin, end=end,
                strides=strides, slice_mode=mode, axes=axes, fused=fused)  # fmt: skip
    assert np.array_equal(found, want)


def test_strided_slice_that_is_empty_the_wrong_way():
    with pytest.raises(RelayUnsupportedError, match="begin 3 and end 1"):
        run("strided_slice", X, struct="StridedSliceAttrs", begin=(3,), end=(1,), strides=(1,),
            axes=(2,))  # fmt: skip
    with pytest.raises(RelayUnsupportedError, match="stride of 0"):
        run("strided_slice", X, struct="StridedSliceAttrs", begin=(0,), end=(1,), strides=(0,))


@pytest.mark.parametrize("mode", ["clip", "wrap", "fast"])
@pytest.mark.parametrize("fused", [False, True])
def test_modes_of_take(mode, fused):
    at = np.array([1, 0, 3] if mode == "fast" else [-9, 5, 2, 4, -1], "int64")
    found = run("take", X, at, struct="TakeAttrs", axis=1, batch_dims=0, mode=mode, fused=fused)
    assert np.array_equal(found, np.take(X, at, 1, mode="raise" if mode == "fast" else mode))


SHAPED = [
    ("slice_like", (X, X[:1, :2, :3]), "SliceLikeAttrs", {"axes": (1, -1)}, X[:, :2, :, :6]),
    ("slice_like", (X, X[:1, :2, :3]), "SliceLikeAttrs", {}, X[:1, :2, :3]),
    ("broadcast_to_like", (X[:, :1], X), "", {}, np.broadcast_to(X[:, :1], X.shape)),
    ("reshape_like", (X, X.reshape(8, 6, 6)), "ReshapeLikeAttrs",
     {"lhs_begin": 0, "rhs_begin": 0}, X.reshape(8, 6, 6)),
    ("reshape_like", (X, X.reshape(8, 36)), "ReshapeLikeAttrs",
     {"lhs_begin": 0, "lhs_end": 2, "rhs_begin": 0, "rhs_end": 1}, X.reshape(8, 6, 6)),
    ("expand_dims", (X,), "ExpandDimsAttrs", {"axis": -1, "num_newaxis": 2}, X[..., None, None]),
    ("squeeze", (X[:, :1],), "SqueezeAttrs", {"axis": (1,)}, X[:, 0]),
    ("nn.mirror_pad", (X,), "MirrorPadAttrs",
     {"mode": "SYMMETRIC", "pad_width": ((0, 1), (0, 0), (2, 1), (0, 6))},
     np.pad(X, ((0, 1), (0, 0), (2, 1), (0, 6)), "symmetric")),
    ("fast_exp", (X,), "", {}, np.exp(X)),
    ("log2", (np.abs(X) + 1,), "", {}, np.log2(np.abs(X) + 1)),
    ("trunc_divide", (V, V[::-1] + 8), "", {}, np.trunc(V / (V[::-1] + 8)).astype("int32")),
    ("trunc_mod", (V, V[::-1] + 8), "", {}, np.fmod(V, V[::-1] + 8)),
    ("trunc_mod", (X, np.abs(X) + 1), "", {}, np.fmod(X, np.abs(X) + 1)),
    ("divide", (V, V[::-1] + 8), "", {}, np.trunc(V / (V[::-1] + 8)).astype("int32")),
    ("round", (np.array([0.5, 1.5, -2.5, 0.49999997, -0.2], "float32"),), "", {},
     np.array([1, 2, -3, 0, 0], "float32")),
    ("sum", (X,), "ReduceAttrs", {"axis": (1,), "exclude": True, "keepdims": True},
     X.sum((0, 2, 3), keepdims=True)),
    ("argmax", (X,), "ArgReduceAttrs", {"axis": (2,), "keepdims": False},
     X.argmax(2).astype("int32")),
    ("clip", (V,), "ClipAttrs", {"a_min": -2.5, "a_max": 6.5}, V.clip(-2, 6)),
    ("nn.global_avg_pool2d", (X,), "GlobalPool2DAttrs", {"layout": "NHWC"},
     X.mean((1, 2), keepdims=True)),
    ("layout_transform", (X,), "LayoutTransformAttrs",
     {"src_layout": "NCHW", "dst_layout": "NHWC2c"},
     X.reshape(2, 2, 2, 6, 6).transpose(0, 3, 4, 1, 2)),
    ("layout_transform", (X.reshape(2, 4, 6, 3, 2),), "LayoutTransformAttrs",
     {"src_layout": "NHWC2c", "dst_layout": "NCHW"},
     X.reshape(2, 4, 6, 6).transpose(0, 3, 1, 2)),
    ("nn.l2_normalize", (X,), "L2NormalizeAttrs", {"eps": 1e-6, "axis": (1,)},
     X / np.sqrt((X * X).sum(1, keepdims=True))),
    ("shape_of", (X,), "ShapeOfAttrs", {"dtype": "int64"}, np.array(X.shape)),
    ("nn.batch_matmul", (X[0], X[0]), "BatchMatmulAttrs", {},
     X[0] @ X[0].transpose(0, 2, 1)),
    ("gather", (X, np.zeros((2, 1, 6, 6), "int64")), "GatherAttrs", {"axis": 1}, X[:, :1]),
]  # fmt: skip


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("row", SHAPED, ids=lambda r: r[0])
def test_against_numpy(row, fused):
    op, operands, struct, attrs, want = row
    found = run(op, *operands, struct=struct, fused=fused, **attrs)
    assert found.dtype == want.dtype
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


def test_space_to_batch_and_back():
    """[n, h, w, c] with blocks 2 and 3: TensorFlow's meaning, by its own formula."""
    x = RNG.normal(size=(2, 4, 6, 5)).astype("float32")
    pads = ((1, 1), (0, 3))
    there = run("nn.space_to_batch_nd", x, struct="SpaceToBatchNDAttrs", block_shape=(2, 3),
                paddings=pads, pad_value=1.5)  # fmt: skip
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=1.5)
    parts = [padded[:, i::2, j::3] for i in range(2) for j in range(3)]
    assert np.array_equal(there, np.concatenate(parts))
    back = run("nn.batch_to_space_nd", there, struct="BatchToSpaceNDAttrs", block_shape=(2, 3),
               crops=pads)  # fmt: skip
    assert np.array_equal(back, x)


def test_dilate():
    want = np.full((2, 7, 6, 16), 2.0, "float32")
    want[:, ::2, :, ::3] = X
    found = run("nn.dilate", X, struct="DilateAttrs", strides=(1, 2, 1, 3), dilation_value=2.0)
    assert np.array_equal(found, want)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_undoes_space_to_depth(mode):
    deep = run("nn.space_to_depth", X, struct="SubPixelAttrs", block_size=3, layout="NCHW")
    back = run("nn.depth_to_space", deep, struct="SubPixelAttrs", block_size=3, layout="NCHW",
               mode=mode)  # fmt: skip
    assert np.array_equal(back, X) == (mode == "DCR")
    if mode == "CRD":
        blocks = deep.reshape(2, 4, 3, 3, 2, 2).transpose(0, 1, 4, 2, 5, 3)
        assert np.array_equal(back, blocks.reshape(2, 4, 6, 6))


@pytest.mark.parametrize("sizes", [(3, 2), (4, 5), (6, 1)])
def test_adaptive_max_pool(sizes):
    h, w = sizes
    found = run("nn.adaptive_max_pool2d", X, struct="AdaptivePool2DAttrs", output_size=sizes,
                layout="NCHW")  # fmt: skip
    want = np.empty((2, 4, h, w), "float32")
    for i in range(h):
        for j in range(w):
            rows = slice(i * 6 // h, -(-(i + 1) * 6 // h))
            want[:, :, i, j] = X[:, :, rows, j * 6 // w : -(-(j + 1) * 6 // w)].max((2, 3))
    assert np.array_equal(found, want)


def _conv(layout: str, kernel: str, x: np.ndarray, w: np.ndarray, op: str, **attrs: Any) -> Any:
    return run(op, x, w, struct="Conv2DAttrs", strides=(1, 1), padding=(1, 1, 1, 1),
               dilation=(1, 1), groups=1, data_layout=layout, kernel_layout=kernel, out_layout="",
               out_dtype="", **attrs)  # fmt: skip


def test_layouts_of_convolutions_agree():
    w = RNG.normal(size=(8, 4, 3, 3)).astype("float32")
    plain = _conv("NCHW", "OIHW", X, w, "nn.conv2d")
    last = _conv("NHWC", "HWIO", X.transpose(0, 2, 3, 1), w.transpose(2, 3, 1, 0), "nn.conv2d")
    np.testing.assert_allclose(last.transpose(0, 3, 1, 2), plain, rtol=1e-4, atol=1e-5)
    x4 = X.reshape(2, 2, 2, 6, 6).transpose(0, 1, 3, 4, 2)
    w4 = w.reshape(4, 2, 2, 2, 3, 3).transpose(0, 2, 4, 5, 3, 1)  # O/2 I/2 h w 2i 2o
    packed = _conv("NCHW2c", "OIHW2i2o", x4, w4, "nn.contrib_conv2d_NCHWc")
    assert packed.shape == (2, 4, 6, 6, 2)
    found = packed.transpose(0, 1, 4, 2, 3).reshape(2, 8, 6, 6)
    np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-5)


def test_convolution_sums_in_the_type_it_is_told():
    x = RNG.integers(-128, 127, (1, 16, 5, 5)).astype("int8")
    w = RNG.integers(-128, 127, (3, 16, 3, 3)).astype("int8")
    found = run("nn.conv2d", x, w, struct="Conv2DAttrs", padding=(0, 0), strides=(1, 1),
                dilation=(1, 1), groups=1, out_dtype="int32")  # fmt: skip
    windows = np.lib.stride_tricks.sliding_window_view(x.astype("int32"), (3, 3), (2, 3))
    assert np.array_equal(found, np.einsum("nchwij,ocij->nohw", windows, w.astype("int32")))


def _requantized(x: np.ndarray, zero: int, scale: float, out_zero: int) -> np.ndarray:
    """Relay's integer arithmetic, in Python's unbounded integers."""
    factor, shift = multiplier(scale)
    total = 31 - min(shift, 0)
    wide = [(int(v) - zero << max(shift, 0)) * factor for v in x.ravel()]
    made = [(v + (1 << (total - 1)) >> total) + out_zero for v in wide]
    return np.array(made).clip(-128, 127).astype("int8").reshape(x.shape)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("scale", [0.25, 0.0371, 1.7, 1.0])
def test_requantize(scale, fused):
    x = RNG.integers(-30000, 30000, (3, 50)).astype("int32")
    found = run("qnn.requantize", x, (scale * 0.5,), (7, "int32"), (0.5,), (-3, "int32"),
                struct="RequantizeAttrs", axis=-1, rounding="UPWARD", compute_dtype="int64",
                out_dtype="int8", fused=fused)  # fmt: skip
    exact = float(np.float32(scale * 0.5)) / 0.5
    assert np.array_equal(found, _requantized(x, 7, exact, -3))


def test_requantize_by_channel():
    x = RNG.integers(-30000, 30000, (2, 3, 4)).astype("int32")
    scales = np.array([0.01, 0.2, 0.003], "float32")
    found = run("qnn.requantize", x, (scales,), (0, "int32"), (0.5,), (1, "int32"),
                struct="RequantizeAttrs", axis=1, out_dtype="int8", rounding="None")  # fmt: skip
    for c in range(3):
        assert np.array_equal(found[:, c], _requantized(x[:, c], 0, float(scales[c]) / 0.5, 1))


def test_the_multiplier_is_the_scale():
    for scale in (0.5, 0.75, 1e-4, 3.0, 0.9999999999):
        factor, shift = multiplier(scale)
        assert 2**30 <= factor < 2**31 or factor == 0
        assert factor * 2.0 ** (shift - 31) == pytest.approx(scale, rel=1e-9)
    assert multiplier(0.0) == (0, 0)


def test_quantised_sums_and_products():
    a, b = (RNG.integers(-128, 127, (4, 5)).astype("int8") for _ in "ab")
    one = ((0.5,), (3, "int32"), (0.25,), (-2, "int32"), (1.0,), (1, "int32"))
    struct = {"struct": "BroadcastAttrs", "lhs_axis": -1, "rhs_axis": -1}
    total = (a.astype(int) - 3) * 0.5 + (b.astype(int) + 2) * 0.25
    assert np.abs(run("qnn.add", a, b, *one, **struct) - (total + 1).clip(-128, 127)).max() <= 1
    product = (a.astype(int) - 3) * 0.5 * (b.astype(int) + 2) * 0.25
    want = np.floor(product + 0.5) + 1
    assert np.array_equal(run("qnn.mul", a, b, *one, **struct), want.clip(-128, 127))
    w = RNG.integers(-128, 127, (6, 5)).astype("int8")
    dense = run("qnn.dense", a, w, (3, "int32"), (-2, "int32"), (0.5,), (0.5,),
                struct="DenseAttrs", out_dtype="int32")  # fmt: skip
    assert np.array_equal(dense, (a.astype("int32") - 3) @ (w.astype("int32") + 2).T)


def test_quantised_convolution_pads_with_the_zero_point():
    x = RNG.integers(0, 255, (1, 2, 5, 5)).astype("uint8")
    w = RNG.integers(0, 255, (3, 2, 3, 3)).astype("uint8")
    found = run("qnn.conv2d", x, w, (100, "int32"), (90, "int32"), (0.5,), (0.5,),
                struct="Conv2DAttrs", padding=(1, 1), strides=(1, 1), dilation=(1, 1), groups=1,
                data_layout="NCHW", kernel_layout="OIHW", out_dtype="int32")  # fmt: skip
    padded = np.pad(x.astype("int32"), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=100)
    windows = np.lib.stride_tricks.sliding_window_view(padded - 100, (3, 3), (2, 3))
    assert np.array_equal(found, np.einsum("nchwij,ocij->nohw", windows, w.astype("int32") - 90))


def test_operands_that_must_be_known():
    shape = (np.array([8, -1]), "int64")
    assert run("dyn.reshape", X, shape, struct="ReshapeAttrs").shape == (8, 36)
    assert run("dyn.tile", X, (np.array([1, 2, 1, 1]), "int64"), struct="TileAttrs").shape[1] == 8
    with pytest.raises(RelayUnsupportedError, match="the new shape is not a constant"):
        run("dyn.reshape", X, np.array([8, 36]), struct="ReshapeAttrs")
    found = run("arange", (0.0,), (5.0,), (2.0,), struct="ArangeAttrs", dtype="float32")
    assert np.array_equal(found, [0, 2, 4])


def test_attributes_that_are_not_taken_are_named():
    with pytest.raises(RelayUnsupportedError, match="rounding is 'TONEAREST'"):
        run("qnn.requantize", V, (1.0,), (0, "int32"), (0.5,), (0, "int32"),
            struct="RequantizeAttrs", rounding="TONEAREST", out_dtype="int8")  # fmt: skip
    with pytest.raises(RelayUnsupportedError, match="auto_scheduler_rewritten_layout is 'x'"):
        run("nn.dense", X[0, 0], X[0, 0], struct="DenseAttrs", auto_scheduler_rewritten_layout="x")
    with pytest.raises(RelayUnsupportedError, match="divided by 0"):
        run("floor_mod", V, (0, "int32"))
    with pytest.raises(RelayUnsupportedError, match="its attributes are a TakeAttrs"):
        run("nn.dense", X[0, 0], X[0, 0], struct="TakeAttrs", mode="clip")
