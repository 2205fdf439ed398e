"""A planned graph as a module: kernels by block, shared ones, views, barriers, constants."""

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.helpers import DEVICE, built, feed_of, run_module, unfused, weights
from tvm_dnnfusion.codegen.lower import lower
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.frontend.to_relax import graph_to_relax, stand_alone
from tvm_dnnfusion.planners import plan


def conv(b, x, out, seed=7, **options):
    w = weights(b, out, b.tensors[x].dims[1], 3, 3, seed=seed)
    return b.op("nn.conv2d", x, w, padding=(1, 1, 1, 1), **options)


def lowered(graph, planner="dnnfusion", imported=None):
    made = plan(extend(graph), planner, device=DEVICE)
    return made, lower(imported or stand_alone(graph), graph, made, DEVICE)


def kernels(mod):
    return {gv.name_hint: f for gv, f in mod.functions.items() if isinstance(f, tvm.tirx.PrimFunc)}


def check(graph, planner="dnnfusion"):
    made, result = lowered(graph, planner)
    feed = feed_of(graph)
    for a, b in zip(run_module(result.module, feed), unfused(graph, feed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1, np.abs(b).max()))
    return made, result


def twins(b):
    """The same layer twice, with other weights."""
    x = b.input("x", (1, 16, 8, 8))
    for i in range(3):
        w = weights(b, 16, 16, 3, 3, seed=i)
        y = b.op("nn.conv2d", x, w, padding=(1, 1, 1, 1), origins=(f"layer{i}",))
        x = b.op("nn.relu", y, origins=(f"act{i}",))
    return x


def test_equal_kernels_are_one_function_with_the_origins_of_all():
    made, result = check(built(twins))
    assert len(made.blocks) == 3
    # the first reads the row-major input, the last writes the row-major output
    assert len(kernels(result.module)) == 3
    _, longer = check(built(lambda b: _longer(b, 6)))
    shared = [f for f in kernels(longer.module).values() if len(f.attrs["dnnfusion.origins"]) > 2]
    assert len(kernels(longer.module)) == 3 and len(shared) == 1
    assert list(shared[0].attrs["dnnfusion.origins"]) == [f"layer{i}" for i in (1, 2, 3, 4)]
    assert len(set(longer.kernel_of.values())) == 3 and len(longer.kernel_of) == 6


def _longer(b, count):
    x = b.input("x", (1, 16, 8, 8))
    for i in range(count):
        w = weights(b, 16, 16, 3, 3, seed=i)
        y = b.op("nn.conv2d", x, w, padding=(1, 1, 1, 1), origins=(f"layer{i}",))
        x = b.op("nn.relu", y)
    return x


def test_kernels_are_named_as_their_blocks_and_carry_kind_and_origins():
    graph = built(
        lambda b: b.op("nn.relu", conv(b, b.input("x", (1, 8, 6, 6)), 16, origins=("stem",)))
    )
    made, result = lowered(graph)
    (block,) = made.blocks
    func = kernels(result.module)[block.name]
    assert str(func.attrs["dnnfusion.kind"]) == result.kinds[block.name] == "conv"
    assert list(func.attrs["dnnfusion.origins"]) == ["stem"]
    assert str(func.attrs["global_symbol"]) == block.name and bool(func.attrs["tirx.noalias"])
    assert result.kernel_of == {block.name: block.name}


def test_constants_are_packed_at_compile_time():
    graph = built(lambda b: conv(b, b.input("x", (1, 8, 6, 6)), 32))
    _, result = lowered(graph)
    found = []
    relax.analysis.post_order_visit(
        result.module["main"], lambda e: found.append(e) if isinstance(e, tvm.ir.Constant) else None
    )
    shapes = [tuple(c.value.shape) for c in found if hasattr(c.value, "shape")]
    assert (1, 8, 3, 3, 1, 2, 16) in shapes and (32, 8, 3, 3) not in shapes


def test_the_layout_between_two_kernels_is_in_the_types_of_the_call():
    _, result = lowered(built(lambda b: _longer(b, 2)))
    outs = [
        b.value.ty_args[0]
        for block in result.module["main"].body.blocks
        for b in block.bindings
        if isinstance(b.value, relax.Call)
    ]
    assert [tuple(int(n) for n in t.shape.values) for t in outs] == [
        (1, 1, 8, 8, 16),
        (1, 16, 8, 8),
    ]


def test_a_reshape_by_itself_is_a_view_without_a_kernel():
    def make(b):
        y = b.op("cumsum", b.input("x", (4, 6)), axis=1)
        return b.op("cumsum", b.op("reshape", y, (2, 12)), axis=1)

    _made, result = check(built(make), "none")
    assert sorted(result.kinds.values()).count("view") == 1
    view = next(name for name, kind in result.kinds.items() if kind == "view")
    assert view not in result.kernel_of and view not in kernels(result.module)


def test_steps_down_carry_their_reason():
    def make(b):
        x = b.input("x", (4, 8))
        return b.op("argmax", x, axis=1), b.op("sort", x, axis=1)

    made, result = check(built(make), "none")
    by_kind = {block.name.split("_", 1)[1]: block.name for block in made.blocks}
    assert result.kinds[by_kind["argmax"]] == "plain"
    assert result.reasons[by_kind["argmax"]] == "no template for argmax"
    assert result.kinds[by_kind["sort"]] == "relax"
    assert "no template for sort; plain: " in result.reasons[by_kind["sort"]]


def test_a_plain_block_has_row_major_neighbours():
    """The convolutions around it would be blocked; the op between them reads rows."""

    def make(b):
        y = b.op("nn.relu", conv(b, b.input("x", (1, 16, 6, 6)), 16))
        y = b.op("cumsum", y, axis=1)
        return b.op("nn.relu", conv(b, y, 16))

    _made, result = check(built(make))
    assert "plain" in result.kinds.values() or "relax" in result.kinds.values()
    _, blocked = lowered(built(lambda b: _longer(b, 3)))
    assert "1, 1, 8, 8, 16" in blocked.module["main"].script()
    assert "1, 1, 6, 6, 16" not in result.module["main"].script()


def test_empty_tensors_are_left_to_tvm():
    def make(b):
        x = b.input("x", (0, 4))
        return b.op("exp", b.op("nn.relu", x))

    _, result = lowered(built(make))
    assert set(result.kinds.values()) == {"relax"}
    assert set(result.reasons.values()) == {"an empty tensor"}


def test_barriers_are_written_as_they_were():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 8), "float32"))
    with builder.function("main", [x]):
        a = builder.emit(relax.op.nn.relu(x))
        c = builder.emit(
            relax.call_dps_packed("test.lower.copy", a, relax.TensorType((4, 8), "float32"))
        )
        builder.emit_func_output(builder.emit(relax.op.exp(c)))
    tvm.register_global_func("test.lower.copy", lambda s, t: s.copyto(t), override=True)
    mod = builder.get()
    imported = from_relax(mod)
    _made, result = lowered(imported.graph, imported=imported)
    assert sorted(result.kinds.values()) == ["barrier", "map", "map"]
    assert "call_dps_packed" in result.module["main"].script()
    feed = {"x": np.linspace(-1, 1, 32).reshape(4, 8).astype("float32")}
    np.testing.assert_allclose(
        run_module(result.module, feed)[0], np.exp(np.maximum(feed["x"], 0)), rtol=1e-6
    )


@pytest.mark.parametrize("planner", ["dnnfusion", "tvm", "none"])
def test_every_planner_gives_the_same_numbers(planner):
    def make(b: GraphBuilder):
        x = b.input("x", (1, 16, 8, 8))
        y = b.op("nn.relu", conv(b, x, 24))
        z = b.op("concat", (conv(b, y, 16), x), axis=1)
        pooled = b.op("nn.max_pool2d", z, pool_size=(2, 2), strides=(2, 2))
        flat = b.op("reshape", pooled, (1, 32 * 16))
        return b.op("nn.softmax", b.op("matmul", flat, weights(b, 512, 10))), y

    made, result = check(built(make), planner)
    wanted = {b.name for b in made.blocks} - {n for n, k in result.kinds.items() if k == "view"}
    assert set(result.kernel_of) == wanted


def test_lowering_twice_gives_the_same_module():
    graph = built(twins)
    tvm.ir.assert_structural_equal(lowered(graph)[1].module, lowered(graph)[1].module)


def test_unused_functions_of_the_module_stay():
    graph = built(lambda b: b.op("nn.relu", b.input("x", (4, 8))))
    mod = graph_to_relax(graph)
    mod["other"] = graph_to_relax(graph)["main"].with_attr("global_symbol", "other")
    imported = from_relax(mod)
    _, result = lowered(imported.graph, imported=imported)
    assert {"main", "other"} <= {gv.name_hint for gv in result.module.get_global_vars()}


FOREIGN = {
    "nn.conv1d": ("WIO", (3, 8, 16)),
    "nn.conv2d": ("HWIO", (3, 3, 8, 16)),
    "nn.conv3d": ("DHWIO", (3, 3, 3, 8, 16)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_weights_in_another_layout_are_read_in_it(kind):
    layout, shape = FOREIGN[kind]

    def make(b):
        x = b.input("x", (1, 8, *(3, 3, 3)[: len(shape) - 2]))
        return b.op(kind, x, weights(b, *shape), kernel_layout=layout)

    _, result = check(built(make))
    assert list(result.kinds.values()) == ["plain"]
    assert f"weights in layout {layout}" in " ".join(result.reasons.values())
