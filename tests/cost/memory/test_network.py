"""A graph as layers: what is merged, how maps are read, and the questions asked of groups."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.planners.networks import Net, build
from tests.cost.memory.nets import random_network, residual, squeeze
from tvm_dnnfusion.cost.memory import (
    LayerKind,
    NetworkError,
    Setting,
    bits,
    memory_model,
    network_of,
)
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph, Tensor


def test_simple_ops_join_their_producer() -> None:
    net = network_of(residual())
    kinds = [v.kind for v in net.layers]
    assert kinds == [*[LayerKind.CONV] * 4, LayerKind.ELTWISE, LayerKind.POOL]
    assert sum(len(v.ops) for v in net.layers) == len(residual().ops)
    assert net.layers[0].extras == 4  # the bias


def test_unmerged_network_has_a_layer_for_each_op() -> None:
    graph = residual()
    assert [v.ops for v in network_of(graph, merge=False).layers] == [(o.name,) for o in graph.ops]


def test_an_op_whose_operand_has_other_readers_joins_its_only_reader() -> None:
    n = Net(8, 4)
    x = n.conv(n.x, 4, act=None, bias=False)
    y = n.conv(n.b.op("nn.relu", x), 4, act=None, bias=False)
    net = network_of(n.done(n.b.op("add", x, y)))
    assert [len(v.ops) for v in net.layers] == [1, 2, 1]
    assert net.edges == ((0, 1), (0, 2), (1, 2))


def test_swish_written_out_is_one_layer() -> None:
    n = Net(8, 4)
    assert network_of(n.done(n.conv(n.x, 4, act="swish"))).n == 1


def test_squeeze_and_excite_reads_whole_maps() -> None:
    net = network_of(squeeze())
    pool = next(v for v in net.layers if v.kind is LayerKind.POOL)
    scale = next(v for v in net.layers if v.kind is LayerKind.ELTWISE)
    assert pool.uses[0].whole
    assert [u.whole for u in scale.uses] == [False, True]


def test_figures_of_resnet50() -> None:
    net = network_of(build("resnet50"))
    assert sum(v.weights for v in net.layers) == 25_502_912  # torchvision's, without BN and biases
    assert sum(v.macs for v in net.layers if v.is_conv) == pytest.approx(4.09e9, rel=0.01)


def test_a_flattened_map_is_read_whole() -> None:
    n = Net(4, 4)
    assert network_of(n.done(n.dense(n.x, 10))).layers[0].uses[0].whole


def test_sequences_go_row_by_row_until_somebody_transposes() -> None:
    b = GraphBuilder()
    x = b.input("x", (1, 16, 32))
    w = b.constant("w", [[0.0] * 8] * 32)
    y = b.op("nn.softmax", b.op("matmul", x, w), axis=-1)
    graph = b.output(b.op("permute_dims", y, axes=(0, 2, 1))).build()
    net = network_of(graph)
    assert [(v.rows, v.channels) for v in net.layers[:2]] == [(16, 8), (16, 8)]
    assert [u.whole for v in net.layers[:2] for u in v.uses] == [False, False]
    assert net.layers[2].kind is LayerKind.WHOLE


@pytest.mark.parametrize(("kernel", "columns"), [((3, 1, 1), 1), ((3, 3, 3), 3600)])
def test_a_window_along_time_alone_goes_column_by_column(kernel, columns: int) -> None:
    b = GraphBuilder()
    x = b.input("x", (1, 2, 8, 60, 60))
    w = b.constant("w", np.zeros((4, 2, *kernel), dtype=np.float32))
    padding = [k // 2 for k in kernel] * 2
    net = network_of(b.output(b.op("nn.conv3d", x, w, padding=padding)).build())
    assert [u.kernel for u in net.layers[0].uses] == [(3, columns)]
    small = memory_model("brr", net, Setting(8 * 1024)).evaluate(1)
    assert small.valid == (columns == 1)


def test_symbolic_shapes_are_refused_with_the_tensor() -> None:
    graph = residual()
    tensors = {**graph.tensors, "x": Tensor("x", (1, 4, "n", "n"), "float32")}
    with pytest.raises(NetworkError, match="tensor x"):
        network_of(Graph(tensors, graph.ops, graph.inputs, graph.outputs, graph.constants))


@pytest.mark.parametrize("seed", range(20))
def test_group_questions_agree_with_plain_searches(seed: int) -> None:
    net, gen = random_network(seed), random.Random(seed)
    for _ in range(30):
        group = gen.randrange(1, 1 << net.n)
        inside = set(bits(group))
        paths = {j: {i for i in range(net.n) if _reaches(net.edges, i, j)} for j in range(net.n)}
        between = {
            k for k in range(net.n) if k not in inside
            and any(k in paths[j] for j in inside) and any(i in paths[k] for i in inside)
        }  # fmt: skip
        assert net.is_convex(group) == (not between)
        read = {u.source for i in inside for u in net.layers[i].uses} - inside
        assert set(net.external_inputs(group)) == read
        left = {i for i in inside if net.layers[i].is_output
                or any(a == i and b not in inside for a, b in net.edges)}  # fmt: skip
        assert set(bits(net.external_outputs(group))) == left
        assert sum(net.components(group)) == group == sum(net.shares(group))


def _reaches(edges: tuple[tuple[int, int], ...], source: int, target: int) -> bool:
    return any(a == source and (b == target or _reaches(edges, b, target)) for a, b in edges)


def test_order_of_groups_that_wait_for_each_other_is_none() -> None:
    net = network_of(residual())
    assert net.order((0b110000, 0b001111)) == (0b001111, 0b110000)
    assert net.order((0b010001, 0b101110)) is None
