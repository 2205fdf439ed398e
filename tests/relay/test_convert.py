"""The core of Relay: let, functions, branches, tuples; places, origins, and the cost of it all."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.relay.builder import Relay
from tests.relay.cases import case, flat
from tvm_dnnfusion.frontend.origins import origins_of
from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.relay import load_json
from tvm_dnnfusion.relay.errors import DamagedRelayError, RelayUnsupportedError
from tvm_dnnfusion.relay.module import load_document
from tvm_dnnfusion.relay.reader import read_document

A = np.array([1.0, -2.0], "float32")


def run(text: str, *inputs: np.ndarray) -> list[np.ndarray]:
    mod = load_json(text)
    machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target("llvm")), tvm.cpu())
    return flat(machine["main"](*[tvm.runtime.tensor(i) for i in inputs]))


def bound(mod: tvm.IRModule) -> list[relax.Expr]:
    return [b.value for block in mod["main"].body.blocks for b in block.bindings]


def origins(mod: tvm.IRModule) -> dict[str, tuple[str, ...]]:
    return {
        v.op.name.removeprefix("relax."): origins_of(v)
        for v in bound(mod)
        if isinstance(v, relax.Call)
    }


def test_an_expression_that_is_shared_is_made_once():
    r = Relay()
    x = r.var("x", (2,))
    e = r.call("exp", x)
    mod = load_json(r.module([x], r.call("add", e, e)))
    assert [v.op.name for v in bound(mod)[:2]] == ["relax.exp", "relax.add"]


def test_let_names_shadow_nothing_and_become_origins():
    r = Relay()
    x, v, w = r.var("x", (2,)), r.var("stem"), r.var("head")
    body = r.let(v, r.call("exp", x), r.let(w, r.call("negative", v), r.call("add", v, w)))
    text = r.module([x], body)
    assert np.allclose(run(text, A)[0], np.exp(A) - np.exp(A))
    found = origins(load_json(text))
    assert found["exp"] == ("stem",) and found["negative"] == ("head",)
    assert found["add"] == ("stem", "head")


def test_spans_become_origins_and_go_before_names():
    r = Relay()
    x, w = r.var("x", (2,)), r.var("fc1_weight", (2,))
    first = r.call("multiply", x, w)
    both = r.call("exp", first, span=r.span("block/conv1", "block/relu1"))
    one = r.call("negative", both, span=r.span("head"))
    found = origins(load_json(r.module([x, w], one)))
    assert found["multiply"] == ("x", "fc1_weight")
    assert found["exp"] == ("block/conv1", "block/relu1")
    assert found["negative"] == ("head",)


def test_names_of_a_genuine_model_reach_the_graph():
    found = case("model_bert_mini")
    named = {o for op in from_relax(found.load()).graph.ops for o in op.origins}
    assert len(named) > 40
    assert any(o.endswith("/Gather") for o in named)


def test_a_composition_has_one_origin():
    r = Relay()
    x = r.var("x", (1, 4, 3, 3))
    lrn = r.call("nn.lrn", x, struct="LRNAttrs", span=r.span("norm1"), size=3, axis=1, bias=1.0,
                 alpha=0.1, beta=0.5)  # fmt: skip
    mod = load_json(r.module([x], lrn))
    calls = [v for v in bound(mod) if isinstance(v, relax.Call)]
    assert len(calls) > 5 and {origins_of(c) for c in calls} == {("norm1",)}


@pytest.mark.parametrize("attrs", [{"Primitive": 1}, {"Compiler": "dnnl", "Composite": "c"}])
def test_nested_functions_are_inlined(attrs):
    r = Relay()
    x, y = r.var("x", (2,)), r.var("y", (2,))
    inner = r.function([y], r.call("add", r.call("exp", y), y), **attrs)
    twice = r.apply(inner, r.apply(inner, x))
    once = np.exp(A) + A
    assert np.allclose(run(r.module([x], twice), A)[0], np.exp(once) + once)


def test_functions_of_the_module_and_closures_are_inlined():
    r = Relay()
    x, y, z, f = r.var("x", (2,)), r.var("y", (2,)), r.var("z", (2,)), r.var("f")
    name = r.name("double")
    r.define(name, r.function([y], r.call("add", y, y)))
    unused = r.name("prelude")
    r.define(unused, r.add("tir.PrimFunc"))
    e = r.call("exp", x)
    closure = r.function([z], r.call("multiply", z, e))  # e is of the scope around it
    body = r.let(f, closure, r.apply(f, r.apply(name, x)))
    assert np.allclose(run(r.module([x], body), A)[0], 2 * A * np.exp(A))


def test_branches_see_the_scope_around_them():
    r = Relay()
    x, c = r.var("x", (2,)), r.var("c", (), "bool")
    e = r.call("exp", x)
    yes = r.tuple(r.call("add", e, x), e)
    no = r.tuple(r.branch(c, x, r.call("negative", e)), r.call("abs", x))
    out = r.branch(c, yes, no)
    text = r.module([x, c], r.tuple(r.item(out, 1), r.item(out, 0), e))
    for flag in (True, False):
        found = run(text, A, np.array(flag))
        e_ = np.exp(A)
        want = [e_, e_ + A, e_] if flag else [np.abs(A), -e_, e_]
        assert all(np.allclose(f, w) for f, w in zip(found, want, strict=True))


def test_nested_tuples_in_and_out():
    r = Relay()
    pair = r.add("TupleType", fields=r.array([r.type((2,)), r.type((2,))]))
    vid = r.add("relay.Id", name_hint=r.plain("both"))
    x = r.add("relay.Var", vid=vid, type_annotation=pair, span=0, _checked_type_=0)
    out = r.tuple(r.tuple(r.item(x, 1), r.call("exp", r.item(x, 0))), r.item(x, 0))
    found = run(r.module([x], out), A, 2 * A)
    assert np.allclose(np.stack(found), [2 * A, np.exp(A), A])


def test_results_of_several_values():
    r = Relay()
    x = r.var("x", (1, 2, 2, 2))
    ones, zeros = r.const([1, 1]), r.const([0, 0])
    norm = r.call("nn.batch_norm", x, ones, zeros, zeros, ones, struct="BatchNormAttrs", axis=1,
                  epsilon=0.0, center=True, scale=True)  # fmt: skip
    drop = r.call("nn.dropout", r.item(norm, 0), struct="DropoutAttrs", rate=0.5)
    value = np.arange(8, dtype="float32").reshape(1, 2, 2, 2)
    found = run(r.module([x], r.tuple(r.item(drop, 0), r.item(drop, 1))), value)
    assert np.allclose(found[0], value) and np.allclose(found[1], 1)


def test_all_that_is_not_taken_is_named_with_its_place():
    r = Relay()
    x = r.var("x", (1, 4, 4))
    kind = r.type((1, 4, 4))
    a = r.call("vision.yolo_reorg", x, checked=kind, span=r.span("route16"))
    b = r.call("nn.softmax", r.call("image.dilation2d", a), struct="SoftmaxAttrs", axis=1)
    c = r.call("my.op", r.call("nn.relu", a), checked=kind)
    d = r.call("nn.softmax", c, struct="SoftmaxAttrs", axis=9)
    match, last = r.add("relay.Match", data="0", span=0), r.call("vision.yolo_reorg", x)
    with pytest.raises(RelayUnsupportedError) as caught:
        load_json(r.module([x], r.tuple(b, d, match, last)))
    found = caught.value.operators
    assert set(found) == {"vision.yolo_reorg", "image.dilation2d", "my.op", "nn.softmax", "Match"}
    places = [place for place, _ in found["vision.yolo_reorg"]]
    assert places == [f"call 1 of main, node {a}, route16", f"call 7 of main, node {last}, x"]
    assert len(found["nn.softmax"]) == 1  # the other one has no operand to speak of
    assert "docs/relay.md" in str(caught.value) and caught.value.exit_code == 2


def test_a_type_that_differs_from_the_files_is_an_error():
    r = Relay()
    x = r.var("x", (2, 3))
    with pytest.raises(RelayUnsupportedError, match=r"float32\[2, 3\] where the file says float32"):
        load_json(r.module([x], r.call("exp", x, checked=r.type((3, 2)))))


def test_variables_out_of_their_scope():
    r = Relay()
    x, v = r.var("x", (2,)), r.var("v", (2,))
    with pytest.raises(DamagedRelayError, match=r"variable v .* not bound"):
        load_json(r.module([x], r.call("add", x, v)))
    r = Relay()
    x, y = r.var("x", (2,)), r.var("y", (2,))
    with pytest.raises(DamagedRelayError, match="gives 2 operands for the 1 parameters"):
        load_json(r.module([x], r.apply(r.function([y], y), x, x)))


def test_a_function_as_a_result():
    r = Relay()
    y = r.var("y", (2,))
    with pytest.raises(RelayUnsupportedError, match="the result is a function"):
        load_json(r.module([], r.function([y], y)))


def test_names_that_are_no_identifiers_are_kept_beside():
    r = Relay()
    inputs = [r.var("in/put:0", (2,)), r.var("0", (2,)), r.var("0", (2,))]
    func = load_json(r.module(inputs, r.tuple(*inputs)))["main"]
    assert [p.name for p in func.params] == ["in_put_0", "input_0", "input_0_1"]
    assert [str(n) for n in func.attrs["input_names"]] == ["in/put:0", "0", "input_0_1"]


def _chain(length: int, lets: bool) -> str:
    """x, relu, + x, relu, ... by operands or by let."""
    r = Relay()
    x = r.var("x", (4,))
    relu, plus = r.add("Op", text="nn.relu"), r.add("Op", text="add")
    value, chain = x, []
    for i in range(length):
        value = r.apply(plus, value, x) if i % 2 else r.apply(relu, value)
        if lets:
            var = r.var(f"v{i}")
            chain.append((var, value))
            value = var
    for var, bound_value in reversed(chain):
        value = r.let(var, bound_value, value)
    return r.module([x], value)


@pytest.mark.parametrize("lets", [False, True])
def test_ten_thousand_nodes_in_linear_work(lets):
    """One visit for each expression (a let chain is one more), at any length."""
    visits = {}
    for length in (1000, 10_000):
        mod, converter = load_document(read_document(_chain(length, lets)))
        visits[length] = converter.visits
        assert len(bound(mod)) >= length
    assert visits == {1000: 1000 + lets, 10_000: 10_000 + lets}


def test_a_wide_expression_is_visited_once_per_operand():
    """A ladder, each rung of which takes the one before twice, has 2^n paths and n rungs."""
    r = Relay()
    x = r.var("x", (2,))
    value = x
    for _ in range(300):
        value = r.call("maximum", value, value)
    _, converter = load_document(read_document(r.module([x], value)))
    assert converter.visits == 300
