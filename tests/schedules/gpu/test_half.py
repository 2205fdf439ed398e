"""float16 on GPUs, with sums of products in float16 and in float32; means are always in float32.

PoCL has no cl_khr_fp16. There the kernels run with `half` read as `float` and with float32 in their
buffers: what they compute from what shows, the rounding of float16 does not. That is measured with
the same stages on the CPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi

import tvm_dnnfusion
from tests.helpers import DEVICE, built, feed_of, lowered, run_kernel, scheduled
from tests.schedules.gpu import kernels
from tests.schedules.gpu.kernels import DEVICES, device, opencl
from tvm_dnnfusion.codegen.stages import Packed
from tvm_dnnfusion.devices.spec import with_sums
from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.ecg.graph import Graph

CREATE = "ffi.Module.create.opencl"
ULP = 2.0**-10


def convolution(b):
    w = b.constant("w", _values(32, 64, 3, 3))
    y = b.op("nn.conv2d", b.input("x", (1, 64, 14, 14), "float16"), w, padding=(1, 1, 1, 1))
    return b.op("nn.relu", y)


def depthwise(b):
    x, w = b.input("x", (1, 32, 14, 14), "float16"), b.constant("w", _values(32, 1, 3, 3))
    return b.op("nn.conv2d", x, w, padding=(1, 1, 1, 1), groups=32)


def product(b):
    w = b.constant("w", _values(512, 64))
    return b.op("nn.relu", b.op("matmul", b.input("x", (16, 512), "float16"), w))


def mean(b):
    return b.op("mean", b.input("x", (4, 2048), "float16"), axis=(1,))


def layer_norm(b):
    x, w = b.input("x", (8, 512), "float16"), b.constant("w", _values(512))
    return b.op("nn.layer_norm", b.op("multiply", x, _hundred(b)), w, w, axes=(-1,))


def softmax(b):
    return b.op("nn.softmax", b.input("x", (4, 2048), "float16"), axis=-1)


def _hundred(b):
    return b.constant("c", np.full((), 100, "float16"))


def average(b):
    x = b.input("x", (1, 16, 28, 28), "float16")
    return b.op("nn.avg_pool2d", x, pool_size=(7, 7), strides=(7, 7))


BLOCKS = (convolution, depthwise, product, mean, average, layer_norm, softmax)
PRODUCTS = (convolution, depthwise, product)
"""Those that the option is for."""

LONG = (convolution, product)
"""Those whose sums are long enough for errors to add up, and of both signs. Each is one kernel: the
host would make memory between kernels as small as float16 is."""


def _values(*shape: int) -> np.ndarray:
    rng = np.random.default_rng([7, *shape])
    return rng.uniform(-1, 1, shape).astype("float16")


@pytest.mark.parametrize("sums", ["float16", "float32"])
@pytest.mark.parametrize("make", BLOCKS)
def test_the_option_says_in_which_type_sums_are_kept(make, sums):
    spec = with_sums(device(DEVICES[0]), sums)
    source = kernels.built(scheduled(lowered(built(make), None, spec), spec), spec).source
    held = re.findall(r"^  (float|half)\d* (?:anchor|part|red)\d\w*_ptr\[", source, re.MULTILINE)
    short = sums == "float16" and make in PRODUCTS
    assert set(held) == {"half" if short else "float"}
    if make in LONG:
        assert "__global float" not in source, "what lies in memory stays float16"


@pytest.mark.parametrize("make", BLOCKS)
def test_errors_of_sums(make):
    """In float32 what is left is the rounding of the result; in float16 it grows with the sum."""
    graph = built(make)
    feed = feed_of(graph)
    wanted = evaluate(graph, feed, "float64")[graph.outputs[0]]
    worst = []
    for sums in ("float16", "float32"):
        kernel = lowered(graph, device=with_sums(DEVICE, sums))
        (found,) = run_kernel(scheduled(kernel, with_sums(DEVICE, sums)), kernel, graph, feed)
        assert found.dtype == "float16"
        worst.append(float(np.abs(found - wanted).max()))
    short, wide = worst
    largest = float(np.abs(wanted).max())
    assert wide <= ULP * largest
    assert make not in LONG or short > 4 * wide


@pytest.mark.parametrize("sums", ["float16", "float32"])
@pytest.mark.parametrize("make", [*LONG, layer_norm, softmax])
def test_numbers(make, sums):
    machine, graph = opencl(), built(make)
    spec = with_sums(device(DEVICES[BLOCKS.index(make) % 2]), sums)
    kernel, feed = lowered(graph, None, spec), feed_of(graph)
    with halves_as_floats():
        made = kernels.built(scheduled(kernel, spec), spec).module
    known = {**graph.constants, **feed}
    arrays = [s.data if isinstance(s, Packed) else known[s] for s in kernel.inputs]
    (shape,) = (x.shape(graph.tensors[n].dims) for n, x in zip(kernel.outputs, kernel.layouts))
    wide = [tvm.runtime.tensor(np.asarray(a, "float32", order="C"), machine) for a in arrays]
    out = tvm.runtime.tensor(np.full(shape, np.nan, "float32"), machine)
    made["kernel"](*(_narrow(t) for t in (*wide, out)))
    wanted = evaluate(graph, feed, "float64")[graph.outputs[0]]
    np.testing.assert_allclose(out.numpy().reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-4)


def _narrow(tensor: Any) -> Any:
    """The first half of a buffer of float32 as one of float16, which is what a kernel asks for."""
    return tensor._create_view(tensor.shape, "float16")


@contextmanager
def halves_as_floats() -> Iterator[None]:
    """Modules made meanwhile are those of the same source with `float` in place of `half`."""
    make = tvm_ffi.get_global_func(CREATE)

    def widened(source: bytes, *rest: Any) -> Any:
        text = bytes(source).decode()
        text = re.sub(r"#ifdef cl_khr_fp16.*?#endif\n", "", text, flags=re.DOTALL)
        return make(re.sub(r"half(?=\d*\b)", "float", text).encode(), *rest)

    tvm_ffi.register_global_func(CREATE, widened, override=True)
    try:
        yield
    finally:
        tvm_ffi.register_global_func(CREATE, make, override=True)


def _model(dtype: str) -> Graph:
    return built(product) if dtype == "float16" else built(_single)


def _single(b):
    w = b.constant("w", _values(64, 32).astype("float32"))
    return b.op("matmul", b.input("x", (16, 64)), w)


@pytest.mark.parametrize(("dtype", "narrow"), [("float16", False), ("float32", True)])
def test_a_model_in_float16_or_narrowed_to_it_takes_the_option(dtype, narrow):
    from tvm_dnnfusion.frontend.to_relax import graph_to_relax

    target = {"kind": "opencl", "device": "mali"}
    model = graph_to_relax(_model(dtype))
    made = tvm_dnnfusion.compile(model, target, float16=narrow, float16_sums="float32")
    assert made.device.sums == "float32"
    assert 'T.Cast("float32"' in made.module.script()


def test_a_model_in_float32_keeps_its_tiles():
    from tvm_dnnfusion.frontend.to_relax import graph_to_relax

    target = {"kind": "opencl", "device": "mali"}
    model = graph_to_relax(_model("float32"))
    assert tvm_dnnfusion.compile(model, target, float16_sums="float32").device.sums == ""


def test_another_type_of_sums_is_refused():
    with pytest.raises(ValueError, match="float16_sums is 'double'; it takes 'float16' or"):
        tvm_dnnfusion.compile("absent.onnx", float16_sums="double")
