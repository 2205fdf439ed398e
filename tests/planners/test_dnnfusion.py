"""What the planner does with the graphs of the paper and of common networks."""

from dataclasses import replace

import pytest

from tests.planners.graphs import DEVICE, conv, edge, groups, make, residual_net, weight
from tvm_dnnfusion.cost.protocol import Estimate
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.planners import ir_removable
from tvm_dnnfusion.planners.plan import Reason


def figure_3() -> Graph:
    """GEMM -> Add -> Conv -> Relu -> Mul -> Sub; the result of Add is the smallest."""
    b = GraphBuilder()
    x = b.op("matmul", b.input("x", (1, 4, 8, 8)), weight(b, 8, 8), name="gemm")
    x = b.op("add", x, weight(b, 8, 8), name="add")
    x = b.op("nn.conv2d", x, weight(b, 16, 4, 3, 3), padding=(1, 1, 1, 1), name="conv")
    x = b.op("nn.relu", x, name="relu")
    x = b.op("multiply", x, weight(b, 16, 1, 1), name="mul")
    return b.output(b.op("subtract", x, weight(b, 16, 1, 1), name="sub")).build()


def test_figure_3_to_the_letter():
    found = make(figure_3(), prefer_epilogue=False)
    assert groups(found) == {frozenset({"gemm"}), frozenset("add conv relu mul sub".split())}
    block = found.blocks[1]
    assert block.seed == "add"
    assert block.mapping is MappingType.MANY_TO_MANY
    assert edge(found, "gemm", "add").reason is Reason.RED
    assert edge(found, "add", "conv").reason is Reason.FUSED_GREEN


def test_figure_3_by_default_gives_the_addition_to_the_gemm():
    found = make(figure_3())
    assert groups(found) == {frozenset({"gemm", "add"}), frozenset("conv relu mul sub".split())}
    assert edge(found, "add", "conv").fused is False


def test_relu_between_convolutions_is_the_first_ones_epilogue():
    found = make(residual_net(2))
    names = [b.name for b in found.blocks]
    assert names == ["b000_conv2d_relu", "b001_conv2d_add_relu",
                     "b002_conv2d_relu", "b003_conv2d_add_relu"]  # fmt: skip
    assert edge(found, "relu", "conv2d_1").reason is Reason.BETTER_AS_EPILOGUE


def test_to_the_letter_the_relu_becomes_a_prologue():
    found = make(residual_net(1), prefer_epilogue=False)
    assert frozenset({"relu", "conv2d_1", "add", "relu_1"}) in groups(found)


def test_dense_connections_keep_the_prologue():
    """concat -> scale -> shift -> relu -> conv: no convolution behind makes all of the operand."""
    b = GraphBuilder()
    x = b.input("x", (1, 16, 8, 8))
    cat = b.op("concat", (x, conv(b, x, 8)), axis=1, name="cat")
    y = b.op("multiply", cat, weight(b, 24, 1, 1), name="scale")
    y = b.op("nn.relu", b.op("add", y, weight(b, 24, 1, 1), name="shift"), name="relu")
    y = b.op("nn.conv2d", y, weight(b, 4, 24, 1, 1), name="squeeze")
    y = conv(b, b.op("nn.relu", y, name="thin"), 8)
    graph = b.output(b.op("concat", (cat, y), axis=1, name="cat2")).build()
    found = make(graph)
    assert groups(found) == {
        frozenset({"conv2d", "cat"}),
        frozenset({"scale", "shift", "relu", "squeeze", "thin"}),
        frozenset({"conv2d_1"}),
        frozenset({"cat2"}),  # in place: both of its parts come out of convolutions
    }
    assert edge(found, "conv2d_1", "cat2").reason is Reason.IN_PLACE
    assert edge(found, "cat", "scale").reason is Reason.ESCAPES
    assert not ir_removable(found, graph)["cat"]
    assert ir_removable(found, graph)["relu"]


def test_squeeze_and_excite_scale_is_the_prologue_of_the_projection():
    b = GraphBuilder()
    x = b.op("nn.silu", conv(b, b.input("x", (1, 32, 56, 56)), 32, groups=32), name="act")
    s = b.op("mean", x, axis=(2, 3), keepdims=True)
    s = b.op("sigmoid", conv(b, b.op("nn.relu", conv(b, s, 8, 1)), 32, 1), name="gate")
    y = b.op("multiply", x, s, name="scale")
    y = b.op("nn.conv2d", y, weight(b, 16, 32, 1, 1), name="proj")
    found = make(b.output(b.op("add", y, weight(b, 1, 16, 1, 1), name="bias")).build())
    assert frozenset({"scale", "proj", "bias"}) in groups(found)
    assert edge(found, "act", "scale").reason is Reason.NOT_CONVEX
    refused = edge(found, "gate", "scale")
    assert refused.reason is Reason.NO_PROFIT
    assert refused.source == "analytic"
    assert dict(refused.numbers)["fused_us"] > dict(refused.numbers)["separate_us"]


def decomposed_softmax() -> Graph:
    b = GraphBuilder()
    x = b.input("x", (12, 128, 64))
    top = b.op("max", x, axis=-1, keepdims=True)
    e = b.op("exp", b.op("subtract", x, top))
    return b.output(b.op("divide", e, b.op("sum", e, axis=-1, keepdims=True))).build()


def test_softmax_written_out_is_one_kernel():
    found = make(decomposed_softmax())
    assert len(found.blocks) == 1
    extended = edge(found, "max", "subtract")
    assert extended.reason is Reason.FUSED_EXTENSION
    assert dict(extended.numbers) == {"rows": 1536.0, "row_elements": 64.0, "row_bytes": 256.0}


def test_without_extensions_the_two_reductions_stay_apart():
    found = make(decomposed_softmax(), extensions=False)
    assert len(found.blocks) == 2
    assert edge(found, "max", "subtract").reason is Reason.RED


def test_reductions_of_other_rows_stay_apart():
    b = GraphBuilder()
    x = b.input("x", (8, 8, 8))
    y = b.op("subtract", x, b.op("mean", x, axis=-1, keepdims=True, name="inner"))
    found = make(b.output(b.op("sum", y, axis=(1, 2), keepdims=True, name="outer")).build())
    assert all({"inner", "outer"} - set(block.ops) for block in found.blocks)


def test_rows_that_the_cache_cannot_hold_stay_apart():
    small = replace(DEVICE, l2_bytes=256)  # half of it is less than a row of 64 floats
    found = make(decomposed_softmax(), small)
    assert edge(found, "max", "subtract").reason is Reason.RED


def test_a_transposition_between_two_softmaxes_changes_the_rows():
    b = GraphBuilder()
    y = b.op("nn.softmax", b.input("x", (8, 8, 8)), axis=-1, name="first")
    y = b.op("nn.softmax", b.op("permute_dims", y, axes=(0, 2, 1)), axis=-1, name="second")
    found = make(b.output(y).build())
    assert all({"first", "second"} - set(block.ops) for block in found.blocks)


def test_row_values_may_be_reshaped_between_the_reductions():
    b = GraphBuilder()
    x = b.input("x", (16, 64))
    top = b.op("expand_dims", b.op("max", x, axis=-1), axis=(1,))
    y = b.op("sum", b.op("exp", b.op("subtract", x, top)), axis=-1)
    assert len(make(b.output(y).build()).blocks) == 1


def test_a_small_value_that_is_needed_elsewhere_is_not_expanded_in_its_kernel():
    b = GraphBuilder()
    gate = b.op("sigmoid", b.input("s", (1, 8, 1, 1)))
    y = b.op("multiply", b.input("x", (1, 8, 8, 8)), gate)
    assert edge(make(b.output(y, gate).build()), "sigmoid", "multiply").reason is Reason.ESCAPES
    b.outputs.remove(gate)
    assert edge(make(b.build()), "sigmoid", "multiply").reason is Reason.FUSED_GREEN


def layer_norm(b: GraphBuilder, x: str) -> str:
    c = b.op("subtract", x, b.op("mean", x, axis=-1, keepdims=True))
    v = b.op("mean", b.op("multiply", c, c), axis=-1, keepdims=True)
    y = b.op("divide", c, b.op("sqrt", b.op("add", v, 1e-5)))
    return b.op("add", b.op("multiply", y, weight(b, 64)), weight(b, 64))


def test_layer_norm_written_out_is_one_kernel_behind_its_matmul():
    b = GraphBuilder()
    x = b.input("x", (1, 16, 64))
    y = b.op("add", b.op("add", b.op("matmul", x, weight(b, 64, 64)), weight(b, 64)), x)
    found = make(b.output(layer_norm(b, y)).build())
    assert [len(block.ops) for block in found.blocks] == [3, 9]


def test_transposed_projection_is_written_in_place():
    b = GraphBuilder()
    y = b.op("add", b.op("matmul", b.input("x", (1, 16, 64)), weight(b, 64, 64)), weight(b, 64))
    y = b.op("permute_dims", b.op("reshape", y, (1, 16, 4, 16)), axes=(0, 2, 1, 3))
    found = make(b.output(y).build())
    assert len(found.blocks) == 1
    assert edge(found, "matmul", "add").reason is Reason.FUSED_PROFIT


class TestPoolingTail:
    """Extension (a): convolution, then pooling from its strips."""

    @staticmethod
    def net(**pool) -> Graph:
        b = GraphBuilder()
        y = b.op("nn.relu", conv(b, b.input("x", (1, 3, 64, 64)), 16))
        return b.output(b.op(pool.pop("kind", "nn.max_pool2d"), y, **pool)).build()

    def test_overlapping_windows_of_stride_two(self):
        found = make(self.net(pool_size=(3, 3), strides=(2, 2), padding=(1, 1, 1, 1)))
        assert [b.name for b in found.blocks] == ["b000_conv2d_relu_max_pool2d"]
        numbers = dict(edge(found, "relu", "max_pool2d").numbers)
        assert numbers == {"recompute": 1.125, "halo_rows": 1.0, "window": 3.0, "stride": 2.0}

    def test_the_seed_may_stand_behind_the_pooling(self):
        b = GraphBuilder()
        y = b.op("add", conv(b, b.input("x", (1, 3, 64, 64)), 16), weight(b, 16, 1, 1))
        y = b.op("nn.relu", b.op("nn.max_pool2d", y, pool_size=(2, 2), strides=(2, 2)))
        found = make(b.output(y).build())
        assert len(found.blocks) == 1
        assert found.blocks[0].seed == "relu"
        assert edge(found, "conv2d", "add").reason is Reason.FUSED_EXTENSION

    def test_switched_off(self):
        found = make(self.net(pool_size=(2, 2), strides=(2, 2)), extensions=False)
        assert groups(found) == {frozenset({"conv2d", "relu"}), frozenset({"max_pool2d"})}

    @pytest.mark.parametrize(
        "pool",
        [
            {"pool_size": (3, 3), "strides": (1, 1), "padding": (1, 1, 1, 1)},
            {"pool_size": (2, 2), "strides": (2, 2), "dilation": (2, 2)},
            {"kind": "nn.avg_pool2d", "pool_size": (3, 3), "strides": (2, 2), "ceil_mode": True},
        ],
    )
    def test_windows_that_would_recompute_too_much_or_are_uneven(self, pool):
        found = make(self.net(**pool))
        assert len(found.blocks) == 2

    def test_not_when_the_unpooled_value_is_needed(self):
        b = GraphBuilder()
        y = b.op("nn.relu", conv(b, b.input("x", (1, 3, 64, 64)), 16))
        pooled = b.op("nn.max_pool2d", y, pool_size=(2, 2), strides=(2, 2))
        found = make(b.output(pooled, y).build())
        assert edge(found, "relu", "max_pool2d").reason is Reason.ESCAPES

    def test_only_one(self):
        b = GraphBuilder()
        y = conv(b, b.input("x", (1, 3, 64, 64)), 16)
        for _ in range(2):
            y = b.op("nn.max_pool2d", y, pool_size=(2, 2), strides=(2, 2))
        found = make(b.output(y).build())
        assert [len(block.ops) for block in found.blocks] == [2, 1]


def test_yellow_cells_follow_the_cost():
    class Fixed:
        def __init__(self, fused_us: float) -> None:
            self.fused_us = fused_us
            self.asked: list[int] = []

        def latency_us(self, ops, graph):
            self.asked.append(len(ops))
            return Estimate(self.fused_us if len(ops) > 1 else 1.0, "measured")

    b = GraphBuilder()
    y = b.op("matmul", b.input("x", (4, 8)), weight(b, 8, 8))
    graph = b.output(b.op("permute_dims", y, axes=(1, 0))).build()
    for fused_us, blocks, reason in ((2.0, 1, Reason.FUSED_PROFIT), (2.1, 2, Reason.NO_PROFIT)):
        cost = Fixed(fused_us)
        found = make(graph, cost=cost)
        assert len(found.blocks) == blocks
        assert found.decisions[0].reason is reason
        assert found.decisions[0].source == "measured"
        assert found.decisions[0].numbers == (("fused_us", fused_us), ("separate_us", 2.0))


def test_green_and_red_never_ask_the_cost():
    class Never:
        def latency_us(self, ops, graph):
            raise AssertionError("asked")

    assert len(make(residual_net(1), cost=Never()).blocks) == 2


def test_barriers_stay_alone():
    b = GraphBuilder()
    y = b.op("exp", b.op("nn.relu", b.op("tanh", b.input("x", (4, 8)))))
    graph = b.output(y).build()
    ops = tuple(replace(op, barrier="OPAQUE_CALL") if op.kind == "nn.relu" else op
                for op in graph.ops)  # fmt: skip
    found = make(replace(graph, ops=ops))
    assert len(found.blocks) == 3
    assert found.blocks[1].mapping is None
    assert {d.reason for d in found.decisions} == {Reason.BARRIER}


def test_siblings_share_a_kernel_with_several_results():
    b = GraphBuilder()
    y = b.op("nn.relu", b.input("x", (4, 8)))
    found = make(b.output(b.op("exp", y), b.op("tanh", y), y).build())
    assert len(found.blocks) == 1


def test_block_names_are_identifiers():
    b = GraphBuilder()
    y = b.op("image.resize2d", b.input("x", (1, 3, 8, 8)), (16, 16))
    found = make(b.output(b.op("nn.relu", y)).build())
    assert [block.name for block in found.blocks] == ["b000_image_resize2d_relu"]
    assert all(block.name.isidentifier() for block in found.blocks)


def test_the_device_is_named_in_the_plan():
    assert make(figure_3()).device == DEVICE.name
