"""The graph section of plan.json: from a real graph, through JSON, back."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph, Lit, Op, Ref, Tensor
from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.report.summary import (
    SummaryError,
    from_dict,
    graph_summary,
    summarise,
    to_dict,
)  # fmt: skip


def small():
    b = GraphBuilder()
    x = b.input("x", (1, 4, 8, 8))
    w = b.constant("w", np.ones((6, 4, 3, 3), "float32"))
    y = b.op("nn.conv2d", x, w, padding=(1, 1, 1, 1), origins=("conv1",), name="c")
    z = b.op("nn.relu", y, origins=("relu1",), name="r")
    b.output(b.op("reshape", z, Lit("shape", (1, 384)), origins=("flat",), name="f"))
    return b.build()


def test_ops_carry_kind_origins_mapping_and_sizes():
    found = summarise(extend(small()))
    conv = found.by_name["c"]
    assert (conv.kind, conv.origins, conv.mapping) == (
        "nn.conv2d",
        ("conv1",),
        MappingType.MANY_TO_MANY,
    )
    assert found.by_name["f"].mapping is MappingType.REORGANIZE
    assert found.tensors[conv.outputs[0]].nbytes == 6 * 8 * 8 * 4
    assert found.tensors["w"].constant
    assert found.edges == (("c", "r"), ("r", "f"))


def test_json_and_back_is_the_same():
    data = graph_summary(extend(small()))
    assert to_dict(from_dict(json.loads(json.dumps(data)))) == data
    assert from_dict(data) == summarise(extend(small()))


def test_layers_that_rewriting_removed_are_listed_in_order():
    source = small()
    kept = source.rebuild([source.by_name["c"]], outputs=source.by_name["c"].outputs)
    assert summarise(extend(kept), source).removed == ("relu1", "flat")


def test_a_barrier_says_why():
    tensors = {n: Tensor(n, ("n", 4), "float32") for n in ("x", "y")}
    graph = Graph(tensors, (Op("r", "nn.relu", (Ref("x"),), ("y",)),), ("x",), ("y",))
    found = summarise(extend(graph)).by_name["r"]
    assert (found.mapping, found.barrier) == (None, "SYMBOLIC_SHAPE")
    assert "not known at compile time" in found.why_barrier


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("ops"),
        lambda d: d["ops"][0].pop("kind"),
        lambda d: d["ops"][0].update(mapping="Some-to-Some"),
        lambda d: d["ops"][0].update(barrier="NO_SUCH"),
        lambda d: d["tensors"][0].update(bytes="many"),
        lambda d: d.update(ops=3),
    ],
)
def test_a_malformed_section_is_refused(spoil):
    data = copy.deepcopy(graph_summary(extend(small())))
    spoil(data)
    with pytest.raises(SummaryError, match="malformed"):
        from_dict(data)


def test_something_else_than_an_object_is_refused():
    with pytest.raises(SummaryError):
        from_dict([1, 2])
