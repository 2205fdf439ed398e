"""Attention as one block, against the interpreter in float64 and what ONNX Runtime does."""

import numpy as np
import pytest
import tvm
from tvm import s_tir

from tests.helpers import (
    DEVICE,
    NARROW,
    buffers,
    built,
    check_against_double,
    loops,
    lowered,
    run_kernel,
    scheduled,
)
from tvm_dnnfusion.codegen.stages import NotLowerable

# batch, rows, keys, heads, depth, width
SHAPES = {
    "even": (1, 64, 64, 4, 16, 32),
    "rows and keys of their own": (1, 32, 48, 2, 16, 16),
    "two batches": (2, 32, 32, 3, 8, 16),
    "heads of 26": (1, 32, 32, 4, 26, 26),
    "odd rows": (1, 37, 32, 2, 8, 16),
    "odd keys": (1, 32, 41, 2, 8, 16),
    "all odd": (2, 13, 7, 3, 5, 11),
    "one head": (1, 64, 16, 1, 8, 16),
    "one head, odd rows": (1, 35, 16, 1, 8, 16),
    "one query": (1, 1, 24, 2, 8, 16),
    "one key": (1, 16, 1, 2, 8, 16),
    "wide": (1, 16, 16, 2, 8, 80),
}
MASKS = ("none", "per key", "per row", "per head")


def attended(shape, mask, scale=0.3):
    batch, rows, keys, heads, depth, width = shape
    dims = {
        "per key": (batch, 1, 1, keys),
        "per row": (1, 1, rows, keys),
        "per head": (batch, heads, rows, keys),
    }

    def make(b):
        q = b.input("q", (batch, rows, heads, depth))
        k, v = b.input("k", (batch, keys, heads, depth)), b.input("v", (batch, keys, heads, width))
        if mask == "none":
            return b.op("nn.attention", q, k, v, scale=scale)
        return b.op("nn.attention_bias", q, k, v, b.input("m", dims[mask]), scale=scale)

    return built(make)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["even", "heads of 26", "all odd"])
def test_masks(name, mask):
    check_against_double(attended(SHAPES[name], mask))


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    check_against_double(attended(SHAPES[name], "per row"))


@pytest.mark.parametrize("name", ["even", "heads of 26"])
def test_other_vector_widths(name):
    graph = attended(SHAPES[name], "per row")
    kernel = lowered(graph, device=NARROW)
    wanted = run_kernel(kernel.func, kernel, graph, _feed(graph))
    found = run_kernel(scheduled(kernel, NARROW), kernel, graph, _feed(graph))
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, atol=1e-6)


def _feed(graph):
    rng = np.random.default_rng(1)
    return {n: rng.uniform(-1, 1, graph.tensors[n].dims).astype("float32") for n in graph.inputs}


def _masked(value):
    """A row without keys, a row with one, and a row with all."""
    graph = attended((1, 16, 16, 2, 8, 16), "per row")
    feed = _feed(graph)
    mask = np.zeros((1, 1, 16, 16), "float32")
    mask[0, 0, 3], mask[0, 0, 5, 1:] = value, value
    kernel = lowered(graph)
    return run_kernel(scheduled(kernel), kernel, graph, {**feed, "m": mask})[0], feed


def test_a_row_whose_keys_are_all_minus_infinity_is_nan_as_in_onnx_runtime():
    found, feed = _masked(-np.inf)
    assert np.isnan(found[0, 3]).all()
    assert not np.isnan(np.delete(found[0], 3, axis=0)).any()
    np.testing.assert_allclose(found[0, 5], feed["v"][0, 0], rtol=1e-6)


def test_a_row_whose_keys_are_all_the_lowest_number_is_the_mean():
    found, feed = _masked(np.finfo("float32").min)
    np.testing.assert_allclose(found[0, 3], feed["v"][0].mean(axis=0), rtol=1e-5, atol=1e-6)


def test_large_scores_do_not_overflow():
    graph = attended((1, 32, 32, 2, 16, 16), "none", scale=1.0)
    feed = {n: x * 100 for n, x in _feed(graph).items()}
    kernel = lowered(graph)
    assert np.isfinite(run_kernel(scheduled(kernel), kernel, graph, feed)[0]).all()


def test_only_a_strip_of_the_scores_exists():
    """Of 12 heads with 128 x 128 scores a thread holds 32 rows of one head, in two copies."""
    func = scheduled(lowered(attended((1, 128, 128, 12, 64, 64), "per key")), DEVICE)
    passes = (
        "LowerInitBlock PlanAndUpdateBufferAllocationLocation ConvertBlocksToOpaque"
        " CompactBufferAllocation"
    )
    chosen = [getattr(s_tir.transform, name)() for name in passes.split()]
    small = tvm.transform.Sequential(chosen)(tvm.IRModule({"main": func}))["main"]
    held = {name: shape for name, (shape, _) in buffers(small).items()}
    assert [held[name] for name in ("hold0", "hold1")] == [(1, 1, 1, 128, 2, 16)] * 2
    assert held["key0"] == (1, 1, 132, 64)  # 22 tiles of 6 keys
    assert loops(func, "parallel") == [12]


def test_masks_of_the_operator_itself_have_no_template():
    def make(b):
        q, k, v = (b.input(n, (1, 8, 2, 16)) for n in "qkv")
        return b.op("nn.attention", q, k, v, causal_mask="TopLeft")

    with pytest.raises(NotLowerable, match="causal mask"):
        lowered(built(make))
