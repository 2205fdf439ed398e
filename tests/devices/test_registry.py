"""Devices by name and by target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tvm_dnnfusion.devices import llvm, registry
from tvm_dnnfusion.devices.registry import DeviceError


@pytest.fixture
def clean() -> Iterator[None]:
    before = dict(registry._REGISTERED)
    yield
    registry._REGISTERED.clear()
    registry._REGISTERED.update(before)


def test_the_host_can_be_asked_by_both_its_names() -> None:
    host = registry.host()
    assert registry.get("host") is host
    assert registry.get(host.name) is host
    assert host.cores >= 1 and host.l1_bytes >= 8 << 10
    assert host.vector_bits in (64, 128, 256, 512)


def test_tvm_takes_the_hosts_target() -> None:
    from tvm.target import Target

    spec = registry.host()
    target = Target(registry.target_dict(spec))
    assert target.kind.name == "llvm"
    assert int(target.attrs["num-cores"]) == spec.cores


def test_generic_devices_are_of_their_width() -> None:
    assert registry.get("x86-64-v3").lanes("float32") == 8
    assert registry.get("x86-64-v4").lanes("float32") == 16
    assert registry.get("cortex-a76").lanes("float16") == 8


def test_llvm_knows_every_registered_cpu() -> None:
    for name in registry.names()[1:]:
        target = registry.target_dict(registry.get(name))
        if target["kind"] != "llvm":
            continue
        triple = str(target.get("mtriple", "x86_64-linux-gnu"))
        assert llvm.is_cpu(str(target["mcpu"]), triple), name
    assert not llvm.is_cpu("no-such-cpu", "x86_64-linux-gnu")


def test_an_unknown_name_is_answered_with_those_that_exist() -> None:
    with pytest.raises(DeviceError, match="did you mean 'cortex-a76'") as error:
        registry.get("cortex-76")
    assert all(name in str(error.value) for name in registry.names())


@pytest.mark.usefixtures("clean")
def test_a_users_device_registers_as_the_built_in_ones() -> None:
    mine = replace(registry.get("x86-64-v3"), name="mine", cores=6)
    assert registry.register(mine) is mine
    assert registry.get("mine").cores == 6
    assert "mine" in registry.names()


@pytest.mark.parametrize("change", [{"name": ""}, {"name": "host"}, {"cores": 0}])
def test_a_senseless_device_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DeviceError):
        registry.register(replace(registry.get("x86-64-v3"), **change))
    assert registry.get("x86-64-v3").cores > 0


def test_a_target_of_the_host_gives_the_host_with_the_targets_cores() -> None:
    host = registry.host()
    target = {**registry.target_dict(host), "num-cores": 7}
    found = registry.spec_for_target(target)
    assert found == replace(
        host, cores=7, peak_gflops=found.peak_gflops, target=tuple(sorted(target.items()))
    )


def test_a_target_of_a_registered_cpu_keeps_its_own_triple() -> None:
    target = {"kind": "llvm", "mcpu": "cortex-a76", "mtriple": "aarch64-linux-android"}
    found = registry.spec_for_target(target)
    assert found.l1_bytes == registry.get("cortex-a76").l1_bytes
    assert dict(found.target)["mtriple"] == "aarch64-linux-android"


def test_a_cpu_that_only_llvm_knows() -> None:
    found = registry.spec_for_target({"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 8})
    if registry.host().name.startswith("skylake-avx512"):
        pytest.skip("the host is this CPU")
    assert (found.name, found.vector_bits, found.cores) == ("skylake-avx512", 512, 8)


def test_a_target_without_cpu_is_the_baseline_of_its_architecture() -> None:
    plain = registry.spec_for_target({"kind": "llvm", "mtriple": "x86_64-linux-gnu"})
    assert plain.vector_bits == 128
    wide = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mattr": ["+avx2"]}
    assert registry.spec_for_target(wide).vector_bits == 256


def test_targets_that_no_device_stands_for() -> None:
    with pytest.raises(DeviceError, match="vulkan"):
        registry.spec_for_target({"kind": "vulkan"})
    with pytest.raises(DeviceError, match="nope"):
        registry.spec_for_target({"kind": "llvm", "mcpu": "nope", "mtriple": "x86_64-linux-gnu"})


def test_a_masked_feature_lowers_the_cpu_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm, "system_cpu", lambda: "znver4")
    v3 = frozenset("avx avx2 fma bmi1 bmi2 f16c movbe sse4_1 sse4_2 ssse3 popcnt".split())
    v4 = v3 | frozenset("avx512f avx512bw avx512cd avx512dq avx512vl".split())
    assert llvm.host_mcpu("x86_64", v4) == "znver4"
    assert llvm.host_mcpu("x86_64", v3) == "x86-64-v3"
    assert llvm.host_mcpu("x86_64", frozenset({"sse2"})) == "x86-64"
    assert llvm.host_mcpu("aarch64", frozenset({"asimd"})) == "znver4"
