"""The bridge to the graph and back, over Relax modules of many forms; and the pass over them."""

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.frontend.relax_forms import FORMS, CallTir, Loop, Symbolic
from tests.frontend.relax_more_forms import Several
from tests.helpers import flat
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.frontend.to_relax import to_relax
from tvm_dnnfusion.passes import DNNFusionPass


def to_tvm(value):
    """Arrays as tensors, tuples kept, all else as it is."""
    if type(value) is tuple:  # a Shape is a kind of tuple
        return tuple(to_tvm(v) for v in value)
    return tvm.runtime.tensor(value) if isinstance(value, np.ndarray) else value


def structure(found):
    """Nesting of a result: arrays as their shapes."""
    return found.shape if hasattr(found, "numpy") else tuple(structure(f) for f in found)


def run(mod, inputs):
    """The result of main, and its nesting."""
    target = tvm.target.Target(target_dict(host()))
    lifted = relax.transform.LambdaLift()(mod)  # TVM's build takes no local functions
    machine = relax.VirtualMachine(tvm.compile(lifted, target), tvm.cpu())
    found = machine["main"](*[to_tvm(v) for v in inputs])
    return flat(found), structure(found)


def same(found, wanted):
    assert found[1] == wanted[1]
    for a, b in zip(found[0], wanted[0], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module", params=FORMS)
def form(request):
    """(module, inputs, what it gives)."""
    mod, inputs = FORMS[request.param]
    return mod, inputs, run(mod, inputs)


def round_trip(mod):
    imported = from_relax(mod)
    return to_relax(imported, imported.graph)


def test_round_trip(form):
    mod, inputs, wanted = form
    back = round_trip(mod)
    relax.analysis.well_formed(back)
    same(run(back, inputs), wanted)


def test_a_second_round_trip_changes_nothing(form):
    mod, _, _ = form
    once = round_trip(mod)
    tvm.ir.assert_structural_equal(round_trip(once), once)


def test_through_the_pass(form):
    mod, inputs, wanted = form
    out = DNNFusionPass()(mod)
    relax.analysis.well_formed(out)
    same(run(out, inputs), wanted)


def barriers(mod):
    return {op.kind: op.barrier for op in from_relax(mod).graph.ops if op.barrier}


def ops(mod):
    return [op.kind for op in from_relax(mod).graph.ops]


@pytest.mark.parametrize("name, kind, reason", [
    ("if, true", "if", "CONTROL_FLOW"), ("loop", "call", "OPAQUE_CALL"),
    ("match_cast", "match_cast", "SYMBOLIC_SHAPE"), ("call_tir", "call_tir", "OPAQUE_CALL"),
    ("call_dps_packed", "call_dps_packed", "OPAQUE_CALL"), ("symbolic", "matmul", "SYMBOLIC_SHAPE"),
    ("several functions", "call", "OPAQUE_CALL"), ("call_packed", "call", "OPAQUE_CALL"),
])  # fmt: skip
def test_what_is_not_plain_is_a_barrier_with_its_reason(name, kind, reason):
    assert barriers(FORMS[name][0])[kind] == reason


def test_what_is_plain_is_an_op():
    assert ops(FORMS["split"][0]) == ["split", "nn.relu", "concat"]
    assert ops(FORMS["batch_norm"][0]) == ["multiply", "nn.batch_norm", "nn.relu"]
    assert ops(FORMS["no work"][0]) == []
    assert not barriers(FORMS["constants"][0])


def test_parameters_results_and_attributes_are_kept():
    mod = CallTir
    func = mod["main"].with_attr("num_input", 1).with_attr("mine", "kept")
    given = tvm.IRModule({**dict(mod.functions.items()), mod.get_global_var("main"): func})
    back = round_trip(given)["main"]
    assert str(back.attrs["mine"]) == "kept" and int(back.attrs["num_input"]) == 1
    assert [p.name for p in back.params] == ["x"]
    tvm.ir.assert_structural_equal(back.ret_ty, func.ret_ty)


def test_any_function_of_a_module_can_be_read():
    assert ops_of(Several, "layer") == ["matmul", "nn.relu"]
    assert ops_of(Loop, "step") == ["greater_equal", "if"]


@pytest.mark.parametrize("mod, function", [(Loop, "step"), (Several, "layer")])
def test_a_function_that_others_or_itself_call(mod, function):
    """Its callers still find it; a private one stays private, a pure one pure."""
    name = {"step": "loop", "layer": "several functions"}[function]
    inputs = FORMS[name][1]
    imported = from_relax(mod, function)
    back = to_relax(imported, imported.graph)
    assert [gv.name_hint for gv in back.functions].count(function) == 1
    assert ("global_symbol" in (back[function].attrs or {})) == (function == "step")
    same(run(back, inputs), run(mod, inputs))
    same(run(DNNFusionPass(function=function)(mod), inputs), run(mod, inputs))


@pytest.mark.parametrize("name", ["call_packed", "side effects"])
def test_impure_functions_stay_impure(name):
    assert not round_trip(FORMS[name][0])["main"].is_pure
    assert round_trip(FORMS["split"][0])["main"].is_pure


def ops_of(mod, function):
    return [op.kind for op in from_relax(mod, function).graph.ops]


def test_a_function_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"no Relax function 'forward'; it has \['main'\]"):
        from_relax(CallTir, "forward")
    with pytest.raises(ValueError, match=r"no Relax function 'twice'"):
        from_relax(CallTir, "twice")


def test_around_barriers_the_rest_is_fused():
    out = DNNFusionPass()(CallTir)
    kernels = [gv.name_hint for gv, f in out.functions.items() if isinstance(f, tvm.tirx.PrimFunc)]
    assert len(kernels) == 3 and "twice" in kernels  # relu; exp(negative)
    assert "twice" in out["main"].script()


@pytest.mark.parametrize("batch", [2, 7])
def test_a_symbolic_batch_runs_at_every_size(batch):
    x = np.linspace(-1, 1, batch * 8).reshape(batch, 8).astype("float32")
    w = np.linspace(-2, 1, 32).reshape(8, 4).astype("float32")
    (t, u), _ = run(DNNFusionPass()(Symbolic), (x, w))
    np.testing.assert_allclose(t, np.maximum(x @ w, 0).reshape(-1) + 1, rtol=1e-5)
    np.testing.assert_allclose(u, w * w, rtol=1e-6)


def test_the_static_part_of_a_symbolic_module_is_fused():
    out = DNNFusionPass()(Symbolic)
    fused = [f for f in out.functions.values() if isinstance(f, tvm.tirx.PrimFunc)
             and str((f.attrs or {}).get("dnnfusion.kind", "")) == "map"]  # fmt: skip
    assert len(fused) == 1  # relu(w * w)
