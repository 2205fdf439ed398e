"""The Relax pipeline "dnnfusion", and the pass in pipelines and contexts of TVM."""

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.helpers import flat, run_module
from tests.passes.modules import blocks_called, feed, net_module
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.passes import DNNFusionPass, register_pipeline


@pytest.fixture(scope="module")
def mod():
    return net_module()


@pytest.fixture(scope="module")
def wanted(mod):
    return run_module(mod, feed())


def same(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def compiled(mod, **options):
    return tvm.compile(mod, tvm.target.Target(target_dict(host())), **options)


def run(executable):
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return flat(machine["main"](*[tvm.runtime.tensor(a) for a in feed().values()]))


def test_compile_takes_the_pipeline_by_name(mod, wanted):
    executable = compiled(mod, relax_pipeline="dnnfusion")
    same(run(executable), wanted)
    assert "b000_" in executable.as_text()


def test_get_pipeline_takes_the_options_of_the_pass(mod, wanted):
    calls = {}
    for planner in ("dnnfusion", "none"):
        pipeline = relax.get_pipeline("dnnfusion", planner=planner, rewrite=False)
        executable = compiled(mod, relax_pipeline=pipeline)
        calls[planner] = executable.as_text().count("b0")
        same(run(executable), wanted)
    assert calls["dnnfusion"] < calls["none"]


def test_wrong_options_are_refused():
    with pytest.raises(TypeError, match="planer"):
        relax.get_pipeline("dnnfusion", planer="none")(net_module())


@pytest.fixture
def registry():
    """Names that a test registers are taken back."""
    before = dict(relax.pipeline.PIPELINE_MAP)
    yield relax.pipeline.PIPELINE_MAP
    relax.pipeline.PIPELINE_MAP.clear()
    relax.pipeline.PIPELINE_MAP.update(before)


def test_a_pipeline_of_ones_own_name_with_defaults(registry, mod):
    register_pipeline("mine", planner="none")
    assert "mine" in registry and "dnnfusion" in registry
    default = compiled(mod, relax_pipeline=relax.get_pipeline("mine")).as_text()
    other = compiled(mod, relax_pipeline=relax.get_pipeline("mine", planner="dnnfusion")).as_text()
    assert default.count("b0") > other.count("b0")


def test_registering_a_name_again_changes_nothing(registry):
    kept = registry["dnnfusion"]
    register_pipeline()
    register_pipeline("dnnfusion", planner="none")
    assert registry["dnnfusion"] is kept


def test_the_pass_in_a_sequence_of_tvms_passes(mod, wanted):
    sequence = tvm.transform.Sequential([
        relax.transform.Normalize(), relax.transform.FoldConstant(), DNNFusionPass(),
        relax.transform.DeadCodeElimination(),
    ])  # fmt: skip
    with tvm.transform.PassContext(opt_level=3):
        same(run_module(sequence(mod), feed()), wanted)


def test_after_legalisation_there_is_nothing_left_to_fuse_and_nothing_breaks(mod, wanted):
    legal = relax.transform.LegalizeOps()(mod)
    same(run_module(DNNFusionPass()(legal), feed()), wanted)


def test_instruments_see_it(mod):
    seen = []

    @tvm.instrument.pass_instrument
    class Names:
        def run_before_pass(self, module, info):
            seen.append(str(info.name))

    with tvm.transform.PassContext(instruments=[Names()]):
        DNNFusionPass()(mod)
    assert seen[0] == "DNNFusionPass"


def test_a_default_pipeline_after_the_pass_keeps_its_kernels(mod):
    fused = DNNFusionPass()(mod)
    names = blocks_called(fused)
    built = relax.get_pipeline("default_build")(fused)
    assert names <= {gv.name_hint for gv in built.get_global_vars()}
