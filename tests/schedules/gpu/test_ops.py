"""Operators that have no template of their own, as whole modules for GPUs, against onnx's own."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tvm import relax

import tvm_dnnfusion
from tests.schedules.gpu.kernels import built, device, opencl
from tvm_dnnfusion.frontend.errors import DataShapeError
from tvm_dnnfusion.passes import DNNFusionPass
from tvm_dnnfusion.schedules.dispatch import ScheduleWarning
from tvm_dnnfusion.schedules.gpu import scan
from tvm_dnnfusion.schedules.gpu.common import ScheduleFailed

FAMILIES = ("mali", "adreno")


def model(kind: str, shape: tuple[int, ...], *operands: Any, outputs: int = 1, **attrs: Any) -> Any:
    """One node on a float32 input `x`; the other operands are constants."""
    names = [f"c{i}" for i in range(len(operands))]
    outs = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", *names], outs, **attrs)],
        "one_node",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in zip(names, operands, strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def compiled(proto: Any, family: str) -> Any:
    """The module for a GPU; a fallback to another schedule is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScheduleWarning)
        return tvm_dnnfusion.compile(proto, {"kind": "opencl", "device": family})


def check(proto: Any, family: str, x: np.ndarray | None = None, rtol: float = 1e-5) -> None:
    """Run it on the OpenCL device, twice: what a race spoils need not be spoilt each time."""
    gpu = opencl()
    dims = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    if x is None:
        x = np.random.default_rng(3).uniform(-1, 1, dims).astype("float32")
    wanted = ReferenceEvaluator(proto).run(None, {"x": x})
    target = tvm.target.Target({"kind": "opencl", "device": family}, host={"kind": "llvm"})
    made = tvm_dnnfusion.compile(proto, target=target)
    machine = relax.VirtualMachine(made.executable, [gpu, tvm.cpu()])
    for _ in range(2):
        found = machine["main"](tvm.runtime.tensor(x, gpu))
        found = [found] if hasattr(found, "numpy") else list(found)
        for value, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(value.numpy(), want, rtol=rtol, atol=1e-5)


PADS = np.int64([0, 0, 1, 2, 0, 0, 2, 1])


@pytest.mark.parametrize("mode", ["reflect", "edge", "constant"])
def test_padding(mode: str) -> None:
    """TVM's own reflecting pad has indices of int64 where ours are of int32."""
    proto = model("Pad", (1, 2, 6, 8), PADS, mode=mode)
    for family in FAMILIES:
        compiled(proto, family)


SCANS = [((3, 16), 1), ((4, 1000), 1), ((1, 7), 1), ((5, 33), 0), ((2, 300, 5), 1), ((70, 40), 0)]
"""Rows of a work-item each, and rows that a group scans together; whole chunks and ragged ones."""


@pytest.mark.parametrize("shape, axis", SCANS)
def test_running_sums(shape: tuple[int, ...], axis: int) -> None:
    """The second of them was off by 3,778 in TVM's own form, which races."""
    x = np.random.default_rng(1).integers(-3, 4, shape).astype("float32")  # sums are exact
    for exclusive, reverse in ((0, 0), (1, 0), (0, 1)):
        proto = model("CumSum", shape, np.int64(axis), exclusive=exclusive, reverse=reverse)
        check(proto, FAMILIES[exclusive], x, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, None])
def test_running_products_and_other_dtypes(axis: int | None) -> None:
    x = np.random.default_rng(2).integers(-1, 2, (3, 700)).astype("int8")
    x[x == 0] = 1
    found = scanned(relax.op.cumprod, x, axis=axis, dtype="int32")
    np.testing.assert_array_equal(found, np.cumprod(x, axis, dtype="int32"))
    found = scanned(relax.op.cumsum, x, axis=axis, dtype="int64")
    np.testing.assert_array_equal(found, np.cumsum(x, axis, dtype="int64"))


@pytest.mark.parametrize("shape", [(4, 1000), (3, 7)])
@pytest.mark.parametrize("kind", ["argsort", "topk"])
def test_sorts_keep_the_order_of_equals(kind: str, shape: tuple[int, int]) -> None:
    x = np.random.default_rng(4).integers(0, 5, shape).astype("float32")
    wanted = np.argsort(-x, -1, kind="stable")
    if kind == "argsort":
        found = scanned(relax.op.argsort, x, axis=-1, descending=True)
    else:
        found, wanted = scanned(relax.op.topk, x, k=5, ret_type="indices"), wanted[:, :5]
    np.testing.assert_array_equal(found, wanted)


def scanned(op: Any, x: np.ndarray, **attrs: Any) -> np.ndarray:
    """What one operator makes of an array on the OpenCL device."""
    return computed(lambda given: [op(given, **attrs)], x)[0]


def computed(make: Any, *arrays: np.ndarray) -> list[np.ndarray]:
    """What an expression, or each of several, makes of arrays on the OpenCL device."""
    gpu = opencl()
    builder = relax.BlockBuilder()
    given = [relax.Var(f"x{i}", relax.TensorType(x.shape, str(x.dtype)))
             for i, x in enumerate(arrays)]  # fmt: skip
    with builder.function("main", given):
        with builder.dataflow():
            out = builder.emit_output(builder.normalize(relax.Tuple(make(*given))))
        builder.emit_func_output(out)
    target = tvm.target.Target({"kind": "opencl", "device": "mali"}, host={"kind": "llvm"})
    with target:
        made = DNNFusionPass()(builder.get())
    machine = relax.VirtualMachine(tvm.compile(made, target), [gpu, tvm.cpu()])
    return [x.numpy() for x in machine["main"](*[tvm.runtime.tensor(x, gpu) for x in arrays])]


def test_a_scan_of_few_long_rows_is_a_group_each_with_one_barrier() -> None:
    source = {rows: scan_source((rows, 1000, 1)) for rows in (4, 2000)}
    assert source[4].count("barrier(") == 1
    assert source[2000].count("barrier(") == 0


def scan_source(rows: tuple[int, int, int]) -> str:
    """The OpenCL C of a running sum; works without a device."""
    made = scan.kernel(rows, "float32", "float32", product=False, exclusive=False)
    return built(made, device("mali-g76")).source


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_remainders_of_narrow_integers(dtype: str) -> None:
    """TVM's form of them is a call of `select` that no OpenCL compiler takes."""
    x = np.array([-7, -4, -1, 0, 3, 7, 9], dtype)
    y = np.array([3, -3, 5, 2, -2, 7, -4], dtype)
    found = scanned(lambda v: relax.op.floor_mod(v, relax.const(y)), x)
    np.testing.assert_array_equal(found, np.mod(x, y))


def test_half_way_places_of_a_picture_are_exact() -> None:
    """In float32, which OpenCL contracts, the fourth of seven columns of two was the second one."""
    scales = np.float32([1, 1, 3.5, 3.5])
    proto = model("Resize", (1, 1, 2, 4), np.float32([]), scales, mode="nearest")
    check(proto, "mali", np.arange(8, dtype="float32").reshape(1, 1, 2, 4), rtol=0)


WRAPPING = ("add", "subtract", "multiply", "left_shift", "right_shift")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "uint64"])
def test_integers_wrap_before_they_are_read_as_others(dtype: str) -> None:
    """OpenCL C computes 8 and 16 bits in 32: 250 + 10 was 260 when it became a float.

    And shifts are modulo the width there; onnx has zeros, or the sign, beyond it.
    """
    low, high = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
    x = np.resize(np.array([0, 1, 5, 100, high, high - 3, low, 77], dtype), 32)
    y = np.resize(np.array([3, 1, 7, high, 2, 100, 5, 8, 9, 33, 64, 6], dtype), 32)

    def make(a: Any, b: Any) -> list[Any]:
        ops = relax.op
        made = [getattr(ops, kind)(a, b) for kind in WRAPPING]
        made += [ops.negative(a), ops.bitwise_not(a), ops.sign(a), ops.where(ops.less(a, b), a, b)]
        return [*(ops.astype(m, "float32") for m in made), ops.greater(made[0], b)]

    with np.errstate(over="ignore"):
        wanted = [getattr(np, kind)(x, y) for kind in WRAPPING]
        wanted += [np.negative(x), ~x, np.sign(x), np.minimum(x, y)]
    wanted = [*(w.astype("float32") for w in wanted), wanted[0] > y]
    for i, (found, want) in enumerate(zip(computed(make, x, y), wanted, strict=True)):
        np.testing.assert_array_equal(found, want, err_msg=f"{dtype}, expression {i}")


def test_truth_is_one() -> None:
    """In OpenCL's vectors it is -1, which casts took as it was, so that masks changed signs."""
    rng = np.random.default_rng(6)
    x, y = (rng.integers(-3, 4, (4, 16)).astype("float32") for _ in range(2))
    mask = rng.integers(0, 2, (4, 16)).astype(bool)
    ops = relax.op

    def make(a: Any, b: Any, m: Any) -> list[Any]:
        more = ops.greater(a, b)
        casts = [ops.astype(more, t) for t in ("float32", "int32", "int8", "int64")]
        return [
            *casts, *(ops.astype(c, "float32") for c in casts[2:]),
            ops.sum(casts[0], axis=-1), ops.multiply(ops.astype(ops.not_equal(a, b), "float32"), a),
            ops.astype(ops.logical_not(ops.logical_and(more, m)), "float32"),
            ops.where(ops.logical_xor(more, m), a, b), ops.where(ops.equal(more, m), a, b),
            ops.astype(ops.astype(a, "bool"), "float32"),
        ]  # fmt: skip

    more = x > y
    wanted = [
        *(more.astype(t) for t in ("float32", "int32", "int8", "int64")),
        *(more.astype("float32"),) * 2, more.sum(-1).astype("float32"), (x != y) * x,
        (~(more & mask)).astype("float32"),
        np.where(more ^ mask, x, y), np.where(more == mask, x, y), (x != 0).astype("float32"),
    ]  # fmt: skip
    # one of them is named twice in its kernel: vectors of truth have no type for that
    for i, (found, want) in enumerate(zip(computed(make, x, y, mask), wanted, strict=True)):
        np.testing.assert_array_equal(found, want, err_msg=f"expression {i}")


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_truth_in_memory() -> None:
    """Masks of rows that a group folds, of products of one row; results that are truth values."""
    rng = np.random.default_rng(7)
    x, w = (rng.standard_normal(s).astype("float32") for s in ((8, 128), (128, 128)))
    whole, column = (rng.integers(0, 2, s).astype(bool) for s in ((8, 128), (8, 1)))
    ops = relax.op

    def make(a: Any, b: Any, m: Any, c: Any) -> list[Any]:
        low, first = ops.full_like(a, relax.const(-1e9)), ops.strided_slice(a, [0], [0], [1])
        product = ops.matmul(first, b)
        return [
            ops.nn.softmax(ops.where(m, a, low), axis=-1),
            ops.nn.softmax(ops.where(c, a, low), axis=-1),
            ops.greater(ops.nn.softmax(a, axis=-1), relax.const(0.01)),
            ops.sum(ops.astype(m, "float32"), axis=-1),
            ops.where(ops.strided_slice(m, [0], [0], [1]), product, ops.zeros_like(product)),
            ops.greater(product, relax.const(0.0)),
        ]

    product = x[:1] @ w
    wanted = [
        softmax(np.where(whole, x, -1e9)), softmax(np.where(column, x, -1e9)), softmax(x) > 0.01,
        whole.sum(-1), np.where(whole[:1], product, 0), product > 0,
    ]  # fmt: skip
    found = computed(make, x, w, whole, column)
    for i, (value, want) in enumerate(zip(found, wanted, strict=True)):
        np.testing.assert_allclose(value, want, rtol=1e-4, atol=1e-5, err_msg=f"expression {i}")


def test_what_is_no_number_is_not_less_nor_more() -> None:
    x = np.resize(np.float32([np.nan, 1, -1]), 12)
    found = scanned(lambda v: relax.op.logical_not(relax.op.less(v, relax.const(0.0))), x)
    np.testing.assert_array_equal(found, ~(x < 0))
    y = np.resize(np.float32([1, -2, 3, -4, 0.5]), 12)
    (angles,) = computed(lambda a, b: [relax.op.atan2(a, b)], y, y[::-1].copy())
    np.testing.assert_allclose(angles, np.arctan2(y, y[::-1]), rtol=1e-5)


@pytest.mark.parametrize("shape", [(8, 32), (3, 7)])
def test_truth_that_is_folded(shape: tuple[int, int]) -> None:
    """OpenCL has no vectors of truth to load."""
    mask = np.random.default_rng(7).integers(0, 2, shape).astype(bool)
    right = np.random.default_rng(8).integers(-3, 4, (shape[1], 8)).astype("float32")
    ops = relax.op

    def make(m: Any, b: Any) -> list[Any]:
        wide = ops.astype(m, "float32")
        return [ops.sum(wide, axis=-1), ops.sum(wide, axis=0), ops.matmul(wide, b)]

    one = mask.astype("float32")
    for found, want in zip(
        computed(make, mask, right), [one.sum(-1), one.sum(0), one @ right], strict=True
    ):
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("kind", ["acos", "acosh", "asin", "asinh", "atan", "atanh", "tan"])
def test_inverse_functions_have_opencls_names(kind: str) -> None:
    x = np.linspace(0.1, 0.9, 24, dtype="float32") + np.float32(kind == "acosh")
    numpys = {"a": "arc"}.get(kind[0], "") + (kind[1:] if kind[0] == "a" else kind)
    found = scanned(getattr(relax.op, kind), x)
    np.testing.assert_allclose(found, getattr(np, numpys)(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["update", "add", "mul", "min", "max"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scattered_updates(mode: str, depth: int) -> None:
    """Of rows, and of elements, which meet in one place unless they replace; the last is beyond."""
    rng = np.random.default_rng(depth)
    data = rng.integers(-4, 5, (6, 5, 4)).astype("float32")
    if mode == "update":
        whole = rng.permutation(np.prod(data.shape[:depth]))[:5]
    else:
        whole = rng.integers(0, np.prod(data.shape[:depth]), 40)
    places = np.stack(np.unravel_index(whole, data.shape[:depth]), -1)
    places[0, 0] -= 6  # from the end
    updates = rng.integers(-3, 4, (len(places), *data.shape[depth:])).astype("float32")
    wanted = data.copy()
    for place, update in zip(places, updates, strict=True):
        old = wanted[tuple(place)]
        wanted[tuple(place)] = {
            "update": update, "add": old + update, "mul": old * update,
            "min": np.minimum(old, update), "max": np.maximum(old, update),
        }[mode]  # fmt: skip
    beyond, more = np.full((1, depth), 99), np.full((1, *updates.shape[1:]), 7, "float32")
    places, updates = np.concatenate([places, beyond]), np.concatenate([updates, more])

    def make(x: Any, p: Any, u: Any) -> list[Any]:
        return [relax.op.nn.relu(relax.op.scatter_nd(relax.op.negative(x), p, u, reduction=mode))]

    found = computed(make, -data, places.astype("int64"), updates)[0]
    np.testing.assert_array_equal(found, np.maximum(wanted, 0))


def test_samples_of_regions_build() -> None:
    """TVM shared vectors of bins' numbers between kernels, which the host cannot hand on."""
    x = np.random.default_rng(8).uniform(size=(1, 4, 10, 10)).astype("float32")
    regions = np.float32([[0, 0, 0, 9, 9], [0, 2, 1, 6, 8], [0, 0, 5, 4, 9]])

    def make(a: Any, r: Any) -> list[Any]:
        return [relax.op.vision.roi_align(a, r, (5, 5), 1.0, 2, mode="avg")]

    builder = relax.BlockBuilder()
    given = [
        relax.Var(n, relax.TensorType(v.shape, "float32")) for n, v in (("x", x), ("r", regions))
    ]
    with builder.function("main", given):
        builder.emit_func_output(builder.emit(make(*given)[0]))
    host = relax.VirtualMachine(tvm.compile(builder.get(), "llvm"), tvm.cpu())
    wanted = host["main"](*[tvm.runtime.tensor(v) for v in (x, regions)]).numpy()
    np.testing.assert_allclose(computed(make, x, regions)[0], wanted, rtol=1e-5, atol=1e-6)


def test_what_makes_no_elements_makes_no_kernel() -> None:
    x = np.ones((4, 6), "float32")

    def make(a: Any) -> list[Any]:
        none = relax.op.strided_slice(a, [1], [6], [6])
        return [none, relax.op.concat([relax.op.nn.relu(none), a], 1)]

    empty, whole = computed(make, x)
    assert empty.shape == (4, 0)
    np.testing.assert_array_equal(whole, x)


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_that_depend_on_values_are_refused_by_name(family: str) -> None:
    proto = model("Compress", (3, 2), np.array([False, True, True]), axis=0)
    with pytest.raises(DataShapeError, match=r"op nonzero \(node .*y0.*depends on values.*CPU"):
        compiled(proto, family)


def test_the_boxes_that_suppression_leaves_are_refused_by_name() -> None:
    operands = (np.ones((1, 1, 6), "float32"), np.int64([3]), np.float32([0.5]))
    proto = model("NonMaxSuppression", (1, 6, 4), *operands)
    with pytest.raises(DataShapeError, match=r"suppression \(node .*depends on values.*CPU"):
        compiled(proto, "mali")


def test_what_is_not_offered_is_refused_by_name() -> None:
    """TVM's own errors told of its schedules."""
    places, values = np.int64([[0, 2], [1, 0]]), np.ones((2, 2), "float32")
    proto = model("ScatterElements", (2, 3), places, values, axis=1)
    with pytest.raises(ScheduleFailed, match=r"scatter_elements \(node .*y0.*no form.*for a CPU"):
        tvm_dnnfusion.compile(proto, {"kind": "opencl", "device": "mali"})
    assert ScheduleFailed.exit_code == 2
