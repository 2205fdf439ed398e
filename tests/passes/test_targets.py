"""One module under different targets: kernels for each, numbers where the host can run."""

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.helpers import flat, run_module
from tests.passes.modules import feed, net_module, prim_funcs
from tvm_dnnfusion.devices import cpu
from tvm_dnnfusion.devices.registry import DeviceError
from tvm_dnnfusion.passes import DNNFusionPass
from tvm_dnnfusion.planners import plan_from_json

# mcpu -> (lanes of float32, a feature without which the host cannot run it)
CPUS = {"x86-64-v2": (4, "sse4_2"), "x86-64-v3": (8, "avx2"), "x86-64-v4": (16, "avx512f")}


@pytest.fixture(scope="module")
def mod():
    return net_module()


@pytest.fixture(scope="module")
def wanted(mod):
    return run_module(mod, feed())


def fused_for(mod, target):
    with target:
        return tvm.transform.Sequential([DNNFusionPass()])(mod)


@pytest.mark.parametrize("mcpu", CPUS)
def test_the_current_target_says_which_device(mod, mcpu):
    lanes, _ = CPUS[mcpu]
    fused = fused_for(mod, tvm.target.Target({"kind": "llvm", "mcpu": mcpu}))
    assert plan_from_json(str(fused.attrs["dnnfusion.plan"])).device == mcpu
    assert f"1, {16 // lanes}, 8, 8, {lanes}" in fused["main"].script()
    assert all("dnnfusion.schedule" in f.attrs for f in prim_funcs(fused).values())


@pytest.mark.parametrize("mcpu", CPUS)
def test_it_compiles_for_that_target_and_runs_where_the_host_can(mod, wanted, mcpu):
    target = tvm.target.Target({"kind": "llvm", "mcpu": mcpu, "num-cores": 2})
    executable = tvm.compile(fused_for(mod, target), target)
    info = cpu.cpu_info()
    if CPUS[mcpu][1] not in info.flags:
        pytest.skip(f"the host has no {CPUS[mcpu][1]}")
    machine = relax.VirtualMachine(executable, tvm.cpu())
    found = flat(machine["main"](*[tvm.runtime.tensor(a) for a in feed().values()]))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_arm_kernels_are_made_without_an_arm_host(mod):
    target = tvm.target.Target({"kind": "llvm", "mcpu": "cortex-a72",
                                "mtriple": "aarch64-linux-gnu"})  # fmt: skip
    fused = fused_for(mod, target)
    assert "1, 4, 8, 8, 4" in fused["main"].script()
    assert tvm.compile(fused, target) is not None


def test_the_device_option_is_stronger_than_the_target(mod):
    with tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v2"}):
        fused = DNNFusionPass(device="x86-64-v4")(mod)
    assert plan_from_json(str(fused.attrs["dnnfusion.plan"])).device == "x86-64-v4"


def test_cores_of_the_target_are_those_of_the_plan(mod):
    texts = set()
    for cores in (1, 64):
        target = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v4", "num-cores": cores})
        texts.add(fused_for(mod, target).script())
    assert len(texts) == 2


def test_a_target_without_a_device_is_refused_by_kind(mod):
    refused = pytest.raises(DeviceError, match="no device for targets of kind 'cuda'")
    with tvm.target.Target({"kind": "cuda", "arch": "sm_80"}), refused:
        DNNFusionPass()(mod)
