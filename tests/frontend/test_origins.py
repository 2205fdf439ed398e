"""The names of the ONNX nodes stay with the expressions that came from them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tvm import relax

from benchmarks.models import load as load_model
from benchmarks.models import model_names
from tests.frontend.graphs import conv_bn_relu, model
from tests.frontend.running import bound, kinds, origins_by_kind, run_onnx, run_tvm
from tvm_dnnfusion.frontend.onnx import load_onnx
from tvm_dnnfusion.frontend.origins import origins_of, span_of, with_origins


def test_every_expression_of_a_node_has_its_name() -> None:
    mod = load_onnx(conv_bn_relu())
    assert origins_by_kind(mod) == [
        ("nn.conv2d", ("stem/conv",)),
        ("add", ("stem/conv",)),
        ("nn.batch_norm", ("BatchNormalization_n",)),
        ("nn.relu", ("stem/relu",)),
    ]
    assert origins_of(mod["main"]) == ("stem/conv", "BatchNormalization_n", "stem/relu")


def test_names_do_not_change_results() -> None:
    proto = conv_bn_relu()
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8), np.float32)
    np.testing.assert_allclose(
        run_tvm(load_onnx(proto), x)[0], run_onnx(proto, x)[0], rtol=1e-4, atol=1e-5
    )


def test_input_and_output_names_are_kept() -> None:
    main = load_onnx(conv_bn_relu())["main"]
    assert [str(n) for n in main.attrs["input_names"]] == ["in.data/0"]
    assert [str(n) for n in main.attrs["output_names"]] == ["out/y"]
    assert [p.name for p in main.params] == ["in_data_0"]


def test_names_that_collide_when_sanitised_stay_apart() -> None:
    node = helper.make_node("Add", ["a.b", "a/b"], ["y"])
    main = load_onnx(model([node], {"a.b": [2], "a/b": [2]}, ["y"]))["main"]
    assert len({p.name for p in main.params}) == 2
    assert [str(n) for n in main.attrs["input_names"]] == ["a.b", "a/b"]


def test_a_repeated_node_name_gets_its_output_added() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="act"),
        helper.make_node("Tanh", ["r"], ["y"], name="act"),
    ]
    mod = load_onnx(model(nodes, {"x": [2]}, ["y"]))
    assert origins_by_kind(mod) == [("nn.relu", ("act",)), ("tanh", ("act_y",))]


def test_a_node_with_two_readers_is_bound_once_under_its_own_name() -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["e"], name="shared"),
        helper.make_node("Neg", ["e"], ["n"], name="first"),
        helper.make_node("Add", ["e", "n"], ["y"], name="second"),
    ]
    mod = load_onnx(model(nodes, {"x": [2]}, ["y"]))
    assert origins_by_kind(mod) == [
        ("exp", ("shared",)),
        ("negative", ("first",)),
        ("add", ("second",)),
    ]


def test_both_branches_of_an_if_are_named() -> None:
    def branch(op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, [2])
        node = helper.make_node(op, ["x"], [f"{op}_out"], name=f"in_{op}")
        return helper.make_graph([node], op, [], [out])

    node = helper.make_node(
        "If", ["c"], ["y"], name="choose", then_branch=branch("Exp"), else_branch=branch("Neg")
    )
    proto = model([node], {"x": [2]}, ["y"])
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    chosen = next(v for v in bound(load_onnx(proto)) if isinstance(v, relax.If))
    assert origins_of(chosen) == ("choose",)
    found = [
        b.value
        for branch in (chosen.true_branch, chosen.false_branch)
        for block in branch.blocks
        for b in block.bindings
    ]
    named = [origins_of(v) for v in found if isinstance(v, relax.Call)]
    assert named == [("in_Exp",), ("in_Neg",)]
    x = np.float32([1, -1])
    np.testing.assert_allclose(run_tvm(load_onnx(proto), x, np.bool_(True))[0], np.exp(x), 1e-6)


def test_an_expression_can_carry_several_names() -> None:
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    call = with_origins(relax.op.exp(x), "one", "two", "one")
    assert origins_of(call) == ("one", "two")
    assert origins_of(relax.op.exp(x)) == ()
    assert span_of() is None


@pytest.mark.parametrize("name", model_names())
def test_real_models_are_all_named_operators(name: str) -> None:
    proto = load_model(name)
    mod = load_onnx(proto)
    own = {node.name for node in proto.graph.node if node.name}
    for kind, origins in origins_by_kind(mod):
        assert origins, f"{kind} has no origin"
        assert set(origins) <= own, f"{kind} has {origins}"
    assert "call_tir" not in kinds(mod)
    assert not any(kind in ("broadcast_to", "full", "stack") for kind in kinds(mod))
