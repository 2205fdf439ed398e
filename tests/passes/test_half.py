"""Float16 arithmetic: what is narrowed, what is not, and that masks and scales survive it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax

from benchmarks.models import inputs, load
from tests.arm import CORE
from tests.helpers import run_module
from tvm_dnnfusion.devices.registry import DeviceError, get
from tvm_dnnfusion.frontend import load as import_model
from tvm_dnnfusion.passes import HalfPass
from tvm_dnnfusion.rewrite import RewriteOptions


def calls(mod: tvm.IRModule) -> list[Any]:
    """The calls of operators in `main`, in order."""
    return [
        binding.value
        for block in mod["main"].body.blocks
        for binding in block.bindings
        if isinstance(binding.value, relax.Call)
    ]


def named(mod: tvm.IRModule, name: str) -> list[Any]:
    return [call for call in calls(mod) if call.op.name == name]


def with_attention(**attrs: Any) -> tvm.IRModule:
    """A product, attention over its result, another product."""
    builder = relax.BlockBuilder()
    x, w, bias = (
        relax.Var(name, relax.TensorType(shape, "float32"))
        for name, shape in (("x", (8, 16)), ("w", (16, 16)), ("bias", (1, 1, 8, 8)))
    )
    with builder.function("main", [x, w, bias]):
        with builder.dataflow():
            wide = builder.emit(relax.op.matmul(x, w))
            heads = builder.emit(relax.op.reshape(wide, (1, 8, 2, 8)))
            mask = bias if attrs.pop("masked", False) else None
            out = builder.emit(relax.op.nn.attention(heads, heads, heads, mask, **attrs))
            flat = builder.emit(relax.op.reshape(out, (8, 16)))
            end = builder.emit_output(relax.op.matmul(flat, w))
        builder.emit_func_output(end)
    return builder.get()


def half(mod: tvm.IRModule, rewriting: RewriteOptions | None = None) -> tvm.IRModule:
    return HalfPass(CORE, rewriting)(mod)


def test_tvm_forgets_scale_and_masks_when_it_narrows_attention() -> None:
    """Why attention is kept from it; where this fails, TVM has been mended and HalfPass may be."""
    narrowed = relax.transform.ToMixedPrecision(out_dtype="float16")(
        with_attention(scale=0.25, masked=True)
    )
    (call,) = named(narrowed, "relax.nn.attention")
    assert len(call.args) == 3 and call.attrs.scale is None


@pytest.mark.parametrize(
    ("attrs", "name"),
    [
        ({"scale": 0.25}, "relax.nn.attention"),
        ({"scale": 0.25, "masked": True}, "relax.nn.attention_bias"),
        ({"causal_mask": "TopLeft"}, "relax.nn.attention"),
    ],
)
def test_attention_keeps_its_scale_its_masks_and_float32(attrs: dict[str, Any], name: str) -> None:
    before = with_attention(**attrs)
    after = half(before)
    (was,), (call,) = named(before, name), named(after, name)
    assert tvm_ffi.structural_equal(was.attrs, call.attrs)
    assert len(call.args) == len(was.args)
    assert {str(arg.ty.dtype) for arg in call.args} == {"float32"}
    assert [str(c.ty.dtype) for c in named(after, "relax.matmul")] == ["float16", "float16"]


def test_numbers_are_those_of_float32_within_float16s_precision() -> None:
    """A mask of -1e9, which float16 does not hold, on a model as exporters write it."""
    mod, feed = import_model(load("attention")), inputs("attention")
    narrowed = half(mod, RewriteOptions())
    assert len(named(narrowed, "relax.nn.attention_bias")) == 1
    assert {str(c.ty.dtype) for c in named(narrowed, "relax.matmul")} == {"float16"}
    for got, want in zip(run_module(narrowed, feed), run_module(mod, feed), strict=True):
        assert got.dtype == want.dtype == np.float32
        assert 0 < np.abs(got - want).max() < 8e-3 * np.abs(want).max()


def test_a_second_time_nothing_changes() -> None:
    once = half(with_attention(scale=0.25, masked=True))
    tvm.ir.assert_structural_equal(half(once), once)


def test_float16_only_where_the_device_computes_in_it() -> None:
    assert HalfPass(get("cortex-a76")) is not None
    with pytest.raises(DeviceError, match="cortex-a53 does not compute in float16"):
        HalfPass(get("cortex-a53"))
