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


@pytest.mark.parametrize(
    ("name", "l2_kib", "l3_kib"),
    [
        ("snapdragon-855", 256, 2048),
        ("snapdragon-865", 256, 4096),
        ("kirin-980", 512, 4096),
        ("snapdragon-888", 512, 4096),
        ("snapdragon-8-gen-2", 512, 8192),
        ("snapdragon-8-gen-3", 512, 12288),
        ("rk3588", 512, 3072),
        ("rk3588-little", 128, 3072),
        ("raspberry-pi-5", 512, 2048),
        ("raspberry-pi-4", 1024 // 4, 0),  # one of 1 MiB for its four cores
        ("cortex-a53", 512 // 4, 0),
        ("cortex-a72", 1024 // 4, 0),
        ("snapdragon-8-gen-3-little", 512 // 2, 12288),
        ("cortex-a76", 256, 2048),
    ],
)
def test_caches_are_those_of_the_chip_and_of_one_core(name: str, l2_kib: int, l3_kib: int) -> None:
    spec = registry.get(name)
    assert (spec.l2_bytes >> 10, spec.l3_bytes >> 10) == (l2_kib, l3_kib)


@pytest.mark.parametrize("phone", phones.PHONES.values(), ids=lambda phone: phone.name)
def test_all_clusters_of_a_phone_have_one_l3(phone: phones.Phone) -> None:
    found = {s.l3_bytes for s in phones.SPECS if s.kind == "cpu" and s.name.startswith(phone.name)}
    assert found == {phone.l3_bytes}
    assert all(c.cores % c.l2_cores == 0 for c in phone.clusters)
    shares = [c.l2_bytes // c.l2_cores for c in phone.big]
    assert registry.get(phone.name).l2_bytes == min(shares), "what every core of it has"


def test_a_shared_l2_is_named() -> None:
    assert "L2 of 1024K for 4" in registry.get("raspberry-pi-4").title
    assert "L2" not in registry.get("raspberry-pi-5").title


@pytest.mark.parametrize("spec", [s for s in CPUS if s.title], ids=lambda spec: spec.name)
def test_a_cpu_survives_the_way_through_tvms_target(spec: DeviceSpec) -> None:
    """Kirin 980 and RK3588 have the same cores, and other caches, clocks and memory."""
    from tvm.target import Target

    from tvm_dnnfusion.pipeline import device_for

    found = device_for(Target(registry.target_dict(spec)))
    assert found.name == spec.name
    assert (found.l2_bytes, found.l3_bytes) == (spec.l2_bytes, spec.l3_bytes)
    assert (found.peak_gflops, found.bandwidth_gbs) == (spec.peak_gflops, spec.bandwidth_gbs)


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


def test_an_unknown_family_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(DeviceError, match=r"'powervr'.*adreno, mali"):
        registry.spec_for_target({"kind": "opencl", "device": "powervr"})


def test_texture_targets_are_refused_with_the_reason() -> None:
    with pytest.raises(DeviceError, match=r"last channel of a texture.*adreno-640"):
        registry.spec_for_target({"kind": "opencl", "tag": "qcom/adreno-opencl-texture"})
    from tvm.target import Target

    from tvm_dnnfusion.pipeline import device_for

    with pytest.raises(DeviceError, match="texture"):
        device_for(Target("qcom/adreno-opencl-texture"))
