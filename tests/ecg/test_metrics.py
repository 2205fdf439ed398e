"""FLOPs and bytes against counts made by hand, and the fingerprint."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.fingerprint import fingerprint
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.ecg.metrics import bytes_read, bytes_written, extend, flops, irs_bytes

ROOT = Path(__file__).resolve().parents[2]


def one(kind: str, *operands, shapes=(), **attrs) -> tuple:
    """The op of a graph with inputs x0, x1... of these shapes, and the graph."""
    b = GraphBuilder()
    names = [b.input(f"x{i}", s) for i, s in enumerate(shapes)]
    out = b.op(kind, *(names + list(operands)), **attrs)
    b.output(*([out] if isinstance(out, str) else out))
    graph = b.build()
    return graph.ops[-1], graph


CASES = [
    ("nn.relu", ((2, 3),), {}, 6),
    ("add", ((4, 8), (1, 8)), {}, 32),
    ("matmul", ((5, 7), (7, 3)), {}, 2 * 5 * 7 * 3),
    ("matmul", ((2, 5, 7), (2, 7, 3)), {}, 2 * 2 * 5 * 7 * 3),
    ("nn.conv2d", ((1, 8, 10, 10), (16, 8, 3, 3)), {"padding": (1, 1, 1, 1)},
     2 * 16 * 100 * 8 * 9),
    ("nn.conv2d", ((1, 8, 10, 10), (8, 1, 3, 3)), {"padding": (1, 1, 1, 1), "groups": 8},
     2 * 8 * 100 * 9),
    ("nn.conv1d", ((1, 4, 10), (6, 4, 3)), {}, 2 * 6 * 8 * 4 * 3),
    ("nn.conv3d", ((1, 2, 4, 4, 4), (3, 2, 2, 2, 2)), {}, 2 * 3 * 27 * 2 * 8),
    ("nn.conv2d_transpose", ((1, 4, 5, 5), (4, 6, 2, 2)), {"strides": (2, 2)},
     2 * 4 * 25 * 6 * 4),
    ("nn.max_pool2d", ((1, 2, 4, 4),), {"pool_size": (2, 2), "strides": (2, 2)}, 2 * 4 * 4),
    ("sum", ((4, 8),), {"axis": (1,)}, 32),
    ("nn.softmax", ((4, 8),), {}, 5 * 32),
    ("permute_dims", ((4, 8),), {}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "shapes", "attrs", "expected"), CASES)
def test_flops(kind, shapes, attrs, expected):
    assert flops(*one(kind, shapes=shapes, **attrs)) == expected


def test_einsum_counts_its_index_space():
    b = GraphBuilder()
    x, y = b.input("x", (2, 3, 4)), b.input("y", (2, 4, 5))
    graph = b.output(b.op("einsum", (x, y), subscripts="bij,bjk->bik")).build()
    assert flops(graph.ops[0], graph) == 2 * 2 * 3 * 4 * 5


def test_attention_counts_both_products():
    shape = (2, 16, 4, 8)
    op, graph = one("nn.attention", shapes=(shape, shape, shape))
    assert flops(op, graph) == 2 * 4 * 16 * 16 * (2 * 8 + 2 * 8 + 5 + 1)


def test_bytes_count_each_operand_once():
    b = GraphBuilder()
    x = b.input("x", (4, 8))
    graph = b.output(b.op("multiply", x, x)).build()
    assert bytes_read(graph.ops[0], graph) == 4 * 8 * 4
    assert bytes_written(graph.ops[0], graph) == 4 * 8 * 4


def test_a_lookup_reads_what_it_takes():
    b = GraphBuilder()
    table = b.constant("table", np.zeros((1000, 16), "float32"))
    index = b.input("index", (8,), "int64")
    graph = b.output(b.op("take", table, index, axis=0)).build()
    assert bytes_read(graph.ops[0], graph) == 8 * 16 * 4 + 8 * 8


def test_irs_leaves_out_results_that_nothing_reads():
    b = GraphBuilder()
    x = b.input("x", (4, 8))
    first, _ = b.op("split", x, indices_or_sections=2, axis=1)
    graph = b.output(b.op("nn.relu", first)).build()
    split = graph.ops[0]
    assert bytes_written(split, graph) == 4 * 8 * 4
    assert irs_bytes(split, graph) == 4 * 4 * 4


def test_extend_describes_every_op():
    graph = diamond()
    ecg = extend(graph)
    assert list(ecg.info) == [op.name for op in graph.ops]
    assert all(i.flops == 32 and i.irs_bytes == 128 for i in ecg.info.values())


def diamond() -> Graph:
    b = GraphBuilder()
    x = b.input("x", (4, 8))
    a = b.op("nn.relu", x)
    left, right = b.op("exp", a), b.op("tanh", a)
    return b.output(b.op("add", left, right)).build()


def test_fingerprint_ignores_the_order_of_ops_and_the_values_of_constants():
    graph = diamond()
    relu, left, right, add = graph.ops
    assert fingerprint(replace(graph, ops=(relu, right, left, add))) == fingerprint(graph)

    def scaled(value: float) -> Graph:
        b = GraphBuilder()
        w = b.constant("w", np.full((8,), value, "float32"))
        return b.output(b.op("multiply", b.input("x", (4, 8)), w)).build()

    assert fingerprint(scaled(1.0)) == fingerprint(scaled(2.0))


def with_constant(name="w", shape=(8,), dtype="float32", first=False, returned=False) -> Graph:
    b = GraphBuilder()
    x, w = b.input("x", (4, 8)), b.constant(name, np.zeros(shape, dtype))
    y = b.op("subtract", w if first else x, x if first else w)
    return b.output(b.op("nn.relu", y, name="r"), *((w,) if returned else ())).build()


def test_fingerprint_sees_the_form_and_place_of_a_constant_but_not_its_name():
    same = fingerprint(with_constant())
    assert fingerprint(with_constant(name="weights.7")) == same
    others = [with_constant(shape=(4, 8)), with_constant(shape=(1, 8)), with_constant(first=True),
              with_constant(returned=True)]  # fmt: skip
    assert len({same, *map(fingerprint, others)}) == 5
    assert fingerprint(with_constant("a", returned=True)) == fingerprint(others[-1])


def test_fingerprint_sees_the_dtype_of_a_constant():
    def cast(dtype: str) -> Graph:
        b = GraphBuilder()
        w = b.constant("w", np.zeros((8,), dtype))
        return b.output(b.op("add", b.input("x", (8,)), b.op("astype", w, dtype="float32"))).build()

    assert fingerprint(cast("float64")) != fingerprint(cast("float16"))


@pytest.mark.parametrize("shape", [(8, 4), (4, 9)])
def test_fingerprint_sees_shapes(shape):
    assert fingerprint(one("nn.relu", shapes=(shape,))[1]) != fingerprint(
        one("nn.relu", shapes=((4, 8),))[1]
    )


def test_fingerprint_sees_attributes_and_kinds():
    prints = {fingerprint(one("nn.softmax", shapes=((4, 4),), axis=axis)[1]) for axis in (0, 1)} | {
        fingerprint(one("nn.log_softmax", shapes=((4, 4),), axis=1)[1])
    }
    assert len(prints) == 3


def test_fingerprint_does_not_depend_on_the_hash_seed():
    code = (
        "from tests.ecg.test_metrics import diamond\n"
        "from tvm_dnnfusion.ecg.fingerprint import fingerprint\n"
        "print(fingerprint(diamond()))"
    )
    for seed in ("1", "2"):
        out = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, cwd=ROOT,
                             capture_output=True, text=True, check=True)  # fmt: skip
        assert out.stdout.strip() == fingerprint(diamond())
