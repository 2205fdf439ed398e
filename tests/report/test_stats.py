"""Counts follow from graph and plan alone; the numbers are worked out by hand."""

from __future__ import annotations

import pytest

from tests.report.samples import MANY, ONE, VIEW, diamond, diamond_plan, graph, network, op
from tvm_dnnfusion.planners.plan import Block, Plan
from tvm_dnnfusion.report.stats import count, is_view, singletons, statistics
from tvm_dnnfusion.report.summary import GraphSummary, TensorSummary


def plan(*blocks: Block) -> Plan:
    return Plan("test", "0", blocks, ())


def test_unfused_graph_has_a_kernel_per_op_that_is_not_a_view():
    found = count(diamond())
    assert (found.operators, found.kernels) == (7, 6)
    # conv, relu, a, b, add: 256 float32 each; the view shows add's bytes, dense is the result.
    assert found.intermediate_bytes == 5 * 1024
    assert found.flops == 1540


def test_a_block_keeps_its_inner_results_and_leaves_the_escaping_one():
    found = count(diamond(), diamond_plan())
    assert (found.kernels, found.intermediate_bytes) == (5, 4 * 1024)


def test_several_escaping_results_of_one_block_all_count():
    blocks = (
        Block("b0", ("conv", "relu", "a", "b"), MANY),
        Block("b1", ("add", "flat"), ONE),
        Block("b2", ("dense",), MANY),
    )
    found = count(diamond(), plan(*blocks))
    # a and b leave b0; the reshaped sum leaves b1 (its last op reorganises: the block is no view).
    assert (found.kernels, found.intermediate_bytes) == (3, 3 * 1024)


def test_a_view_of_an_intermediate_counts_its_bytes_once():
    ops = [
        op("a", "exp", ("x",)),
        op("v", "reshape", ("a:0",), VIEW),
        op("w", "squeeze", ("v:0",), VIEW),
        op("b", "sqrt", ("w:0",)),
    ]
    found = count(graph(ops, ("b:0",)))
    assert (found.kernels, found.intermediate_bytes) == (2, 1024)


def test_a_result_is_no_intermediate_even_if_returned_through_a_view():
    ops = [op("a", "exp", ("x",)), op("v", "reshape", ("a:0",), VIEW), op("b", "sqrt", ("a:0",))]
    assert count(graph(ops, ("v:0", "b:0"))).intermediate_bytes == 0


def test_a_result_that_another_kernel_reads_is_still_a_result():
    ops = [op("a", "exp", ("x",)), op("b", "sqrt", ("a:0",))]
    assert count(graph(ops, ("a:0", "b:0"))).intermediate_bytes == 0


def test_a_view_of_an_input_holds_nothing():
    ops = [op("v", "reshape", ("x",), VIEW), op("a", "exp", ("v:0",))]
    found = count(graph(ops, ("a:0",)))
    assert (found.kernels, found.intermediate_bytes) == (1, 0)


def test_symbolic_tensors_are_named_as_uncounted():
    ops = [op("a", "exp", ("x",)), op("b", "sqrt", ("a:0",))]
    known = graph(ops, ("b:0",))
    tensors = {**known.tensors, "a:0": TensorSummary("a:0", ("n", 4), "float32", 0)}
    found = count(GraphSummary(known.ops, tensors, known.inputs, known.outputs))
    assert (found.intermediate_bytes, found.unsized) == (0, 1)


def test_shape_ops_are_not_kernels():
    ops = [op("s", "shape_of", ("x",), None), op("a", "exp", ("x",))]
    assert count(graph(ops, ("a:0",))).kernels == 1


def test_only_reorganizing_blocks_are_views():
    ops = diamond().by_name
    assert is_view(Block("b", ("flat",), VIEW), ops)
    assert not is_view(Block("b", ("add", "flat"), VIEW), ops)
    moved = {"m": op("m", "layout_transform", ("x",), VIEW)}
    assert not is_view(Block("b", ("m",), VIEW), moved)


def test_the_table_has_the_three_columns_for_every_row():
    source = diamond()
    baseline = plan(*singletons(source)[1:], Block("b", ("conv",), MANY))
    table = statistics(source, source, diamond_plan(), baseline)
    assert [r.name for r in table.rows] == ["operators", "kernels", "intermediate_bytes", "flops"]
    row = table.row("kernels")
    assert (row.before, row.fuseops, row.after) == (6, 6, 5)
    assert statistics(source, source, diamond_plan()).row("kernels").fuseops is None
    with pytest.raises(KeyError):
        table.row("speed")


def test_fusing_a_large_network_never_adds_kernels_or_bytes():
    net, fused = network(200)
    before, after = count(net), count(net, fused)
    assert after.kernels < before.kernels
    assert after.intermediate_bytes < before.intermediate_bytes
    assert after.flops == before.flops
