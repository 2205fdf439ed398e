"""Every operator that TVM registers has an entry or a reason, and the types follow the shapes."""

import dataclasses

import numpy as np
import pytest

from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.catalog import (
    BARRIERS,
    ENTRIES,
    OWN_KERNEL,
    Barrier,
    barrier_of,
    edge_mapping,
    mapping_type,
    properties,
)
from tvm_dnnfusion.ecg.graph import Graph, GraphError, Op, Ref, Tensor
from tvm_dnnfusion.ecg.mapping import MappingType, Property

OTO, OTM, MTM = MappingType.ONE_TO_ONE, MappingType.ONE_TO_MANY, MappingType.MANY_TO_MANY
REO, SHU = MappingType.REORGANIZE, MappingType.SHUFFLE

TABLE_2 = {
    OTO: "add asin nn.batch_norm astype ceil clip concat cos erf exp greater nn.leakyrelu log"
         " logical_not nn.prelu nn.relu round sigmoid sin strided_slice split sqrt tanh where",
    OTM: "image.resize2d take gather_elements",
    MTM: "nn.avg_pool2d nn.conv2d nn.conv2d_transpose cumsum einsum matmul nn.instance_norm"
         " nn.max_pool2d prod mean nn.softmax",
    REO: "flatten reshape squeeze expand_dims",
    SHU: "nn.pixel_shuffle permute_dims",
}  # fmt: skip


def relax_operators() -> list[str]:
    tvm = pytest.importorskip("tvm")
    pytest.importorskip("tvm.relax")  # registers the operators
    names = (str(n) for n in tvm.ir.Op.list_op_names())
    return sorted(n.removeprefix("relax.") for n in names if n.startswith("relax."))


def test_every_relax_operator_has_an_entry_or_a_reason():
    missing = [k for k in relax_operators() if (k in ENTRIES) == (k in BARRIERS)]
    assert missing == [], "operators with neither an entry nor a reason, or with both"


def test_no_entry_is_for_an_operator_that_does_not_exist():
    known = {*relax_operators(), "if", "call", "match_cast"}  # the last three: Relax nodes
    assert sorted(({*ENTRIES} | {*BARRIERS} | OWN_KERNEL) - known) == []


def single(kind: str, *shapes: tuple[int, ...], out: tuple[int, ...] | None = None,
           constants: tuple[int, ...] = (), **attrs) -> tuple[Graph, Op]:  # fmt: skip
    """A graph of one op over inputs of these shapes; those in `constants` are constants."""
    names = [f"x{i}" for i in range(len(shapes))]
    tensors = {n: Tensor(n, s, "float32") for n, s in zip(names, shapes)}
    tensors["y"] = Tensor("y", out or shapes[0], "float32")
    op = Op("y", kind, tuple(Ref(n) for n in names), ("y",), tuple(sorted(attrs.items())))
    data = {names[i]: np.zeros(shapes[i], "float32") for i in constants}
    inputs = tuple(n for n in names if n not in data)
    return Graph(tensors, (op,), inputs, ("y",), data).check(), op


@pytest.mark.parametrize(
    ("kind", "expected"), [(k, t) for t, kinds in TABLE_2.items() for k in kinds.split()]
)
def test_table_2_is_kept(kind: str, expected: MappingType):
    graph, op = single(kind, (4, 8))
    assert mapping_type(op, graph) is expected


def test_a_broadcast_operand_makes_an_addition_one_to_many():
    graph, op = single("add", (1, 4, 8, 8), (1, 4, 1, 1))
    assert mapping_type(op, graph) is OTM
    assert edge_mapping(op, "x0", graph) is OTO
    assert edge_mapping(op, "x1", graph) is OTM


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (), (1, 1, 1, 1)])
def test_a_constant_operand_does_not_count(shape: tuple[int, ...]):
    graph, op = single("add", (1, 4, 8, 8), shape, constants=(1,))
    assert mapping_type(op, graph) is OTO


def test_a_scalar_operand_does_not_count_but_its_edge_does():
    graph, op = single("multiply", (4, 8), ())
    assert mapping_type(op, graph) is OTO
    assert edge_mapping(op, "x1", graph) is OTM


def test_leading_ones_are_no_broadcast():
    graph, op = single("add", (1, 4, 8), (4, 8))
    assert mapping_type(op, graph) is OTO


def test_both_operands_broadcast():
    graph, op = single("add", (4, 1), (1, 8), out=(4, 8))
    assert mapping_type(op, graph) is OTM
    assert edge_mapping(op, "x0", graph) is edge_mapping(op, "x1", graph) is OTM


def test_batch_norm_in_training_reduces():
    graph, op = single("nn.batch_norm", (1, 4, 8, 8), training=True)
    assert mapping_type(op, graph) is MTM


def test_padding_by_reflection_repeats():
    assert mapping_type(*reversed(single("nn.pad", (4, 8), out=(6, 10), pad_mode="reflect"))) is OTM
    assert mapping_type(*reversed(single("nn.pad", (4, 8), out=(6, 10)))) is OTO


def test_embedding_lookup_is_one_to_many_through_its_indices():
    graph, op = single("take", (100, 16), (1, 8), out=(1, 8, 16), constants=(0,))
    assert mapping_type(op, graph) is OTM


def test_symbolic_shapes_are_a_barrier():
    tensors = {"x": Tensor("x", ("n", 4), "float32"), "y": Tensor("y", ("n", 4), "float32")}
    op = Op("y", "nn.relu", (Ref("x"),), ("y",))
    graph = Graph(tensors, (op,), ("x",), ("y",))
    assert barrier_of(op, graph) is Barrier.SYMBOLIC_SHAPE
    assert mapping_type(op, graph) is None
    with pytest.raises(GraphError, match=r"y \(nn.relu\).*not known"):
        edge_mapping(op, "x", graph)


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        ("print", None, Barrier.SIDE_EFFECT),
        ("call_tir", None, Barrier.OPAQUE_CALL),
        ("made.up", None, Barrier.UNKNOWN_OPERATOR),
        ("nn.relu", "CONTROL_FLOW", Barrier.CONTROL_FLOW),
    ],
)
def test_barriers_by_kind_and_by_the_frontends_code(kind, code, expected):
    graph, op = single(kind, (4,))
    op = dataclasses.replace(op, barrier=code)
    assert barrier_of(op, graph) is expected
    assert mapping_type(op, graph) is None
    assert expected.value


def test_an_unknown_barrier_code_is_refused():
    graph, op = single("nn.relu", (4,))
    with pytest.raises(GraphError, match="unknown barrier code 'NOPE'"):
        barrier_of(dataclasses.replace(op, barrier="NOPE"), graph)


def test_an_edge_that_is_none_is_refused():
    graph, op = single("nn.relu", (4,))
    with pytest.raises(GraphError, match="does not read nope"):
        edge_mapping(op, "nope", graph)


def test_every_entry_of_a_built_graph_answers():
    b = GraphBuilder()
    x = b.input("x", (1, 4, 8, 8))
    parts = b.op("split", x, indices_or_sections=2, axis=1)
    y = b.op("concat", (b.op("nn.relu", parts[0]), parts[1]), axis=1)
    graph = b.output(b.op("permute_dims", y, axes=(0, 2, 3, 1))).build()
    assert [mapping_type(op, graph) for op in graph.ops] == [OTO, OTO, OTO, SHU]


def test_properties_are_those_of_section_4_2():
    _, add = single("add", (4,), (4,))
    _, multiply = single("multiply", (4,), (4,))
    _, total = single("sum", (4,))
    _, softmax = single("nn.softmax", (4,))
    every = Property.ASSOCIATIVE | Property.COMMUTATIVE | Property.DISTRIBUTIVE
    assert properties(add) == properties(multiply) == properties(total) == every
    assert properties(softmax) is Property.NONE
