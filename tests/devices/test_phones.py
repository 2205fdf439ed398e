"""ARM cores, GPUs and phones as data, and the targets that TVM gets of them."""

from __future__ import annotations

import pytest

from tvm_dnnfusion.devices import arm, gpus, llvm, phones, registry
from tvm_dnnfusion.devices.registry import DeviceError
from tvm_dnnfusion.devices.spec import DeviceSpec

GPUS = [spec for spec in (*gpus.SPECS, *phones.SPECS) if spec.kind == "gpu"]
CPUS = [spec for spec in (*arm.SPECS, *phones.SPECS) if spec.kind == "cpu"]


@pytest.mark.parametrize("name", sorted(arm.CORES))
def test_features_are_llvms_own_of_that_core(name: str) -> None:
    """LLVM has each feature that the table lists, and the table each that LLVM has of those."""
    core = arm.CORES[name]
    known = llvm.cpu_features(name, arm.LINUX)
    if not known:
        pytest.skip("this TVM cannot be asked for a CPU's features")
    asked = {"neon", "fullfp16", "dotprod", "i8mm", "bf16"}
    assert set(core.features) == known & asked


@pytest.mark.parametrize("spec", CPUS, ids=lambda spec: spec.name)
def test_tvm_takes_the_target_of_each_cpu(spec: DeviceSpec) -> None:
    from tvm.target import Target, codegen

    target = Target(registry.target_dict(spec))
    got = {str(f) for f in codegen.llvm_get_cpu_features(target)}
    assert set(spec.features) <= got
    assert "sve" not in got, "phones' kernels refuse it"


@pytest.mark.parametrize("spec", GPUS, ids=lambda spec: spec.name)
def test_a_gpu_survives_the_way_through_tvms_target(spec: DeviceSpec) -> None:
    from tvm.target import Target

    from tvm_dnnfusion.pipeline import device_for

    target = Target(registry.target_dict(spec))
    assert device_for(target).name == spec.name
    assert int(target.attrs["max_num_threads"]) == spec.gpu.work_group  # type: ignore[union-attr]
    assert "gpu" in [str(k) for k in target.keys]
    if spec.host:
        assert str(target.host.attrs["mtriple"]) == dict(spec.host)["mtriple"]
    assert device_for(target).host[:1] == spec.host[:1]


def test_the_paper_s_phones() -> None:
    kirin = phones.PHONES["kirin-980"]
    assert [c.cores for c in kirin.clusters] == [2, 2, 4]
    assert kirin.processors(kirin.clusters[-1]) == (0, 1, 2, 3)
    assert kirin.processors(kirin.clusters[0]) == (6, 7)
    assert registry.get("kirin-980").cores == 4
    assert registry.get("kirin-980-little").name == "kirin-980-little"
    assert registry.get("snapdragon-855-gpu").gpu == registry.get("adreno-640").gpu
    assert registry.get("snapdragon-865-gpu").bandwidth_gbs == 44.0
    mali = registry.get("mali-g76").gpu
    assert mali is not None and not mali.local_on_chip and mali.work_group == 384


@pytest.mark.parametrize("phone", phones.PHONES.values(), ids=lambda phone: phone.name)
def test_every_phone_is_made_of_known_parts(phone: phones.Phone) -> None:
    assert all(c.core in arm.CORES for c in phone.clusters)
    assert [c.ghz for c in phone.clusters] == sorted((c.ghz for c in phone.clusters), reverse=True)
    numbers = [n for c in phone.clusters for n in phone.processors(c)]
    assert sorted(numbers) == list(range(sum(c.cores for c in phone.clusters)))
    assert not phone.gpu or registry.get(phone.gpu).kind == "gpu"


def test_half_precision_follows_the_core_and_the_target() -> None:
    assert not registry.get("cortex-a72").fp16
    assert registry.get("cortex-a76").fp16 and registry.get("adreno-640").fp16
    target = registry.target_dict(registry.get("cortex-a76"))
    without = registry.spec_for_target({**target, "mattr": ["+neon", "-fullfp16"]})
    assert not without.fp16 and "dotprod" in without.features
    more = registry.spec_for_target({**target, "mattr": ["+i8mm"]})
    assert "i8mm" in more.features


def test_another_system_and_another_host() -> None:
    android = registry.on_system(registry.get("cortex-a76"), arm.ANDROID)
    assert registry.target_dict(android)["mtriple"] == arm.ANDROID
    linux = registry.on_system(registry.get("adreno-640"), arm.LINUX)
    assert dict(linux.host)["mtriple"] == arm.LINUX
    here = registry.on_host(linux)
    assert "host" not in registry.target_dict(here)
    there = registry.on_host(linux, registry.get("cortex-a53"))
    assert dict(there.host)["mcpu"] == "cortex-a53"


def test_families_stand_for_their_plainest_member() -> None:
    assert registry.spec_for_target({"kind": "opencl", "device": "mali"}).name == "mali-g76"
    assert registry.spec_for_target({"kind": "opencl", "device": "adreno"}).name == "adreno-640"
    assert registry.spec_for_target({"kind": "opencl"}).name == "opencl"
    # as TVM completes it: the kind and the family are among the keys
    completed = {"kind": "opencl", "device": "mali", "keys": ["mali", "opencl", "gpu"]}
    assert registry.spec_for_target(completed).name == "mali-g76"


def test_texture_targets_are_refused_with_the_reason() -> None:
    with pytest.raises(DeviceError, match=r"last channel of a texture.*adreno-640"):
        registry.spec_for_target({"kind": "opencl", "tag": "qcom/adreno-opencl-texture"})
    from tvm.target import Target

    from tvm_dnnfusion.pipeline import device_for

    with pytest.raises(DeviceError, match="texture"):
        device_for(Target("qcom/adreno-opencl-texture"))
