"""Winograd convolutions: matrices, packing, numbers within the stated bounds, when it is chosen."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import (
    DEVICE,
    NARROW,
    block_names,
    built,
    feed_of,
    lowered,
    run_kernel,
    scheduled,
    weights,
)
from tvm_dnnfusion.codegen import convolution
from tvm_dnnfusion.codegen.conv_shape import ConvShape
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.winograd import Tiling, pack
from tvm_dnnfusion.codegen.winograd_choice import ERROR_BOUND, candidates, choose
from tvm_dnnfusion.codegen.winograd_matrices import WINDOWS, transform, transformed
from tvm_dnnfusion.ecg.evaluate import evaluate

BLOCKED = Layout(1, 16)
FORMS = [(m, r) for r, sizes in WINDOWS.items() for m in sizes]
"""Every F(m, r)."""


def conv(b, x, channels, out, rank=2, padding=1, window=3, groups=1, **attrs):
    w = weights(b, out, channels // groups, *(3, window, window)[-rank:])
    given = {"strides": (1,) * rank, "dilation": (1,) * rank, "groups": groups, **attrs}
    return b.op(f"nn.conv{rank}d", x, w, padding=(padding,) * 2 * rank, **given)


def shape(size, channels, out, batch=1, **changes):
    ones = (1,) * len(size)
    kernel = tuple(3 for _ in size)
    fields = {
        "groups": 1,
        "kernel": kernel,
        "stride": ones,
        "dilation": ones,
        "pad_before": ones,
    } | changes
    return ConvShape(batch, channels, out, in_size=size, out_size=size, **fields)


@pytest.fixture
def force(monkeypatch):
    """Take F(m, 3) whatever the cost model thinks, in the cheapest tiling of it."""

    def choose_only(m, wanted=lambda tiling: True):
        def chosen(sizes, device, limit, choices):
            found = [c for c in candidates(sizes, device) if c.tiling.m == m and wanted(c.tiling)]
            return min(found, key=lambda c: c.cycles).tiling

        monkeypatch.setattr(convolution, "choose", chosen)

    return choose_only


def check(graph, m, layouts=None, device=DEVICE, both=False):
    """The kernel against the interpreter in float64, within the bound that the docs state."""
    kernel, feed = lowered(graph, layouts, device, m), feed_of(graph)
    assert kernel.kind == "winograd"
    wanted = evaluate(graph, feed, "float64")
    op = next(op for op in graph.ops if op.kind.startswith("nn.conv"))
    terms = np.prod(graph.tensors[op.inputs[1]].dims[1:])
    bound = ERROR_BOUND[m + graph.tensors[op.inputs[1]].dims[-1] - 1]
    func = scheduled(kernel, device)
    for candidate in (kernel.func, func) if both else (func,):
        found = run_kernel(candidate, kernel, graph, feed, layouts)
        for name, value in zip(kernel.outputs, found, strict=True):
            scale = np.sqrt(np.mean(wanted[name] ** 2) * terms)
            worst = np.max(np.abs(value - wanted[name]))
            assert worst <= bound * scale, (name, worst / scale)
    return func


@pytest.mark.parametrize(("m", "r"), FORMS)
def test_the_matrices_compute_the_convolution_exactly(m, r):
    t = transform(m, r)
    rng = np.random.default_rng(m)
    d = [Fraction(int(x)) for x in rng.integers(-9, 10, t.alpha)]
    g = [Fraction(int(x)) for x in rng.integers(-9, 10, r)]

    def times(matrix, x):
        return [sum(a * b for a, b in zip(row, x)) for row in matrix]

    products = [a * b for a, b in zip(times(t.weights, g), times(t.inputs, d))]
    direct = [sum(d[i + j] * g[j] for j in range(r)) for i in range(m)]
    assert times(t.outputs, products) == direct


@pytest.mark.parametrize(("m", "r"), FORMS)
def test_rows_and_columns_come_in_mirrored_pairs(m, r):
    """Which is what halves the transforms: the schedule shares even and odd parts."""
    t = transform(m, r)
    for k in range(1, t.alpha - 1, 2):
        assert all(
            a == (b if j % 2 == 0 else -b)
            for j, (a, b) in enumerate(zip(t.inputs[k], t.inputs[k + 1]))
        )
        assert all(r[k] == (r[k + 1] if i % 2 == 0 else -r[k + 1]) for i, r in enumerate(t.outputs))


def test_packing_against_its_formula():
    tiling = Tiling(2, 1, 1, 2, 1, 1, 4, 4, 3, 2, 3, 4)
    data = np.random.default_rng(0).uniform(-1, 1, (10, 7, 2, 3, 3)).astype("float32")
    packed, full = pack(data, tiling), transformed(data, 2)
    assert packed.shape == tiling.weight_shape == (1, 16, 2, 2, 4, 3, 4)
    for k, c, tap, x in np.ndindex(10, 7, 2, 16):
        place = (k // 12, x, tap, c // 4, c % 4, k % 12 // 4, k % 4)
        assert packed[place] == np.float32(full[k, c, tap, x // 4, x % 4])
    assert np.count_nonzero(packed) == np.count_nonzero(full)


def test_fresh_weights_are_laid_out_as_they_are():
    tiling = Tiling(2, 1, 1, 2, 1, 1, 4, 4, 3, 2, 3, 4, fresh=True)
    data = np.random.default_rng(0).uniform(-1, 1, (10, 7, 2, 3, 3)).astype("float32")
    packed = pack(data, tiling)
    assert packed.shape == tiling.weight_shape == (1, 2, 2, 4, 9, 3, 4)
    for k, c, tap, x in np.ndindex(10, 7, 2, 9):
        place = (k // 12, tap, c // 4, c % 4, x, k % 12 // 4, k % 4)
        assert packed[place] == data[k, c, tap, x // 3, x % 3]
    assert np.count_nonzero(packed) == data.size


@pytest.mark.parametrize("groups", ["shared", "own"])
@pytest.mark.parametrize(
    ("m", "rank", "window"), [(2, 2, 3), (4, 2, 3), (6, 2, 3), (2, 3, 3), (2, 2, 5), (4, 2, 5)]
)
def test_a_kernel_transforms_fresh_weights(m, rank, window, groups, force):
    """Channels by channels where the cores share the groups, all at once where they do not."""
    device = replace(DEVICE, l2_bytes=1 << 16)  # parts of the channels, in kernels of this size
    size = (2, 24, 22)[-rank:]

    def wanted(tiling):
        return tiling.fresh and tiling.shared(device.cores) == (groups == "shared")

    force(m, wanted)
    graph = built(lambda b: conv(b, b.input("x", (1, 64, *size)), 64, 40, rank, window=window))
    func = check(graph, m, {"x": BLOCKED}, device, both=m == 2 and rank == 2)
    assert "weight = T.sblock_alloc_buffer" in func.script()


@pytest.mark.parametrize(("m", "r"), FORMS)
def test_numbers_stay_within_the_stated_bound(m, r, force):
    force(m)

    def make(b):
        y = conv(b, b.input("x", (1, 32, 13, 11)), 32, 48, window=r, padding=r // 2)
        return b.op("nn.relu", b.op("add", y, weights(b, 1, 48, 1, 1)))

    graph = built(make)
    layouts = {"x": BLOCKED, graph.outputs[0]: BLOCKED}
    func = check(graph, m, layouts, both=m == 2)
    assert block_names(func) == []  # one nest: no stage of its own is left


CASES = {
    "one tile": {"size": (3, 4), "channels": 16, "out": 16},
    "no border": {"size": (9, 10), "channels": 16, "out": 32, "padding": 0},
    "wide border": {"size": (5, 6), "channels": 16, "out": 16, "padding": 2},
    "channels that fill no vector": {"size": (6, 7), "channels": 19, "out": 21},
    "batch": {"size": (6, 5), "channels": 16, "out": 16, "batch": 3},
    "depth": {"size": (3, 6, 5), "channels": 16, "out": 32, "rank": 3},
    "depth, no border": {"size": (4, 6, 6), "channels": 16, "out": 16, "rank": 3, "padding": 0},
    "5x5, one tile": {"size": (2, 2), "channels": 16, "out": 16, "padding": 2, "window": 5},
    "5x5, depth": {"size": (3, 7, 6), "channels": 16, "out": 16, "rank": 3, "window": 5},
    "two groups": {"size": (9, 7), "channels": 32, "out": 64, "groups": 2},
    "groups of one vector": {"size": (5, 6), "channels": 48, "out": 48, "groups": 3, "batch": 2},
    "5x5 in groups": {"size": (9, 7), "channels": 64, "out": 32, "groups": 2, "window": 5},
}


@pytest.mark.parametrize(
    ("name", "m"),
    [*((n, 2) for n in CASES), ("depth", 4), ("batch", 4), ("two groups", 6), ("5x5 in groups", 4)],
)
def test_shapes(name, m, force):
    case = dict(CASES[name])
    force(m)
    size, batch = case.pop("size"), case.pop("batch", 1)
    check(built(lambda b: conv(b, b.input("x", (batch, case["channels"], *size)), **case)), m)


@pytest.mark.parametrize("groups", ["each its own", "shared"])
def test_groups_of_tiles(groups, force):
    """Cores take groups of tiles; where these are few, they share the panels of channels."""
    force(4, lambda t: (t.group == 8) if groups == "each its own" else (t.group >= 32))
    graph = built(lambda b: conv(b, b.input("x", (1, 16, 23, 23)), 16, 64))
    check(graph, 4, {"x": BLOCKED, graph.outputs[0]: BLOCKED})


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("tiles", ["each core its own", "shared"])
def test_groups_of_channels(tiles, fresh, force):
    """A panel of output channels folds its own group's inputs, however the work is shared."""
    device = replace(DEVICE, l2_bytes=1 << 16)  # fresh factors of a few channels at once
    shared = tiles == "shared"
    force(4, lambda t: t.fresh == fresh and t.shared(device.cores) == shared)
    graph = built(lambda b: conv(b, b.input("x", (1, 128, 23, 23)), 128, 96, groups=2))
    check(graph, 4, {"x": BLOCKED, graph.outputs[0]: BLOCKED}, device)


def test_residual_and_second_output_are_written_by_the_output_transform(force):
    force(4)

    def make(b):
        x, r = b.input("x", (1, 16, 9, 9)), b.input("r", (1, 32, 9, 9))
        y = b.op("add", conv(b, x, 16, 32), r)
        return y, b.op("nn.silu", y)

    graph = built(make)
    layouts = dict.fromkeys(("x", "r", *graph.outputs), BLOCKED)
    func = check(graph, 4, layouts)
    assert not any(n.startswith("anchor") for n in block_names(func))


def test_outputs_of_another_form_are_written_afterwards(force):
    """Row-major, transposed and reduced ones read the whole convolution."""
    force(2)

    def make(b):
        y = conv(b, b.input("x", (1, 16, 6, 6)), 16, 16)
        return b.op("permute_dims", b.op("nn.relu", y), axes=(0, 2, 3, 1))

    func = check(built(make), 2)
    assert "out0" in block_names(func)


@pytest.mark.parametrize("kept", [False, True])
def test_pooling_after_it(kept, force):
    force(4)

    def make(b):
        y = b.op("nn.relu", conv(b, b.input("x", (1, 16, 12, 12)), 16, 32))
        pool = {"pool_size": (2, 2), "strides": (2, 2), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
        pooled = b.op("nn.max_pool2d", y, ceil_mode=False, count_include_pad=False, **pool)
        return (y, pooled) if kept else pooled

    graph = built(make)
    func = check(graph, 4, dict.fromkeys(("x", *graph.outputs), BLOCKED))
    assert "pool0" in "".join(block_names(func))


@settings(max_examples=3, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.sampled_from([16, 24]),
    out=st.sampled_from([16, 40]),
    m=st.sampled_from([2, 4]),
    padding=st.integers(1, 2),
)
def test_any_small_shape(size, channels, out, m, padding):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "choose", lambda s, d, *_: _best(s, d, m))
        graph = built(
            lambda b: conv(b, b.input("x", (1, channels, *size)), channels, out, padding=padding)
        )
        check(graph, m)


def _best(sizes, device, m):
    found = [c for c in candidates(sizes, device) if c.tiling.m == m]
    return min(found, key=lambda c: c.cycles).tiling


def test_other_vector_widths(force):
    force(2)
    graph = built(lambda b: conv(b, b.input("x", (1, 8, 6, 6)), 8, 12))
    check(graph, 2, device=NARROW)


def test_large_layers_take_large_tiles_and_late_ones_small():
    assert choose(shape((112, 112), 128, 128), DEVICE).m == 6
    assert choose(shape((28, 28), 512, 512), DEVICE).m == 4
    assert choose(shape((14, 14), 512, 512), DEVICE).m == 2  # weights of F(4, 3) would stream
    assert choose(shape((7, 7), 512, 512), DEVICE) is None


@pytest.mark.parametrize("limit", [0, 2, 4])
def test_the_limit_is_kept(limit):
    found = choose(shape((112, 112), 64, 64), DEVICE, limit)
    assert (found.m if found else 0) == limit


@pytest.mark.parametrize(
    "changes",
    [
        {"stride": (2, 2)},
        {"dilation": (2, 2)},
        {"kernel": (7, 7)},
        {"kernel": (1, 3)},
        {"kernel": (3, 5)},
        {"groups": 8},  # eight channels each: half a vector
    ],
)
def test_other_windows_stay_direct(changes):
    assert choose(shape((112, 112), 64, 64, **changes), DEVICE) is None


def test_5x5_windows_and_groups_of_whole_vectors_are_computed_so():
    five = choose(shape((26, 26), 96, 256, kernel=(5, 5), groups=2), DEVICE)  # AlexNet's second
    assert (five.m, five.window, five.convs) == (4, 5, 2)
    assert choose(shape((12, 12), 384, 384, groups=2), DEVICE).convs == 2
    assert choose(shape((56, 56), 64, 64, kernel=(5, 5)), DEVICE, limit=2).m == 2


def test_thin_inputs_stay_direct():
    assert choose(shape((224, 224), 3, 64), DEVICE) is None


def test_weights_that_are_not_constant_stay_direct():
    def make(b):
        x, w = b.input("x", (1, 64, 56, 56)), b.input("weight", (64, 64, 3, 3))
        attrs = {"padding": (1,) * 4, "strides": (1, 1), "dilation": (1, 1), "groups": 1}
        return b.op("nn.conv2d", x, w, **attrs)

    assert lowered(built(make), winograd=6).kind == "conv"


def test_a_tiling_covers_every_tile_once():
    for candidate in candidates(shape((29, 30), 32, 32, batch=2), DEVICE):
        t = candidate.tiling
        assert t.group % t.rows == 0
        assert (t.groups - 1) * t.group < t.tiles <= t.groups * t.group
        assert t.tiles == 2 * -(-29 // t.m) * -(-30 // t.m)
