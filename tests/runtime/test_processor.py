"""Where compiled code runs: architecture and system of the CPU that loads it, kind of processor."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tvm_dnnfusion.devices import cpu, llvm
from tvm_dnnfusion.devices.registry import get, on_system, target_dict
from tvm_dnnfusion.runtime.processor import foreign, processor_of, triple_of

LINUX, ANDROID = "aarch64-linux-gnu", "aarch64-linux-android"


@pytest.fixture
def board(monkeypatch):
    """Makes this machine an aarch64 one of a system."""

    def make(triple):
        info = replace(cpu.cpu_info(), arch="aarch64")
        monkeypatch.setattr(llvm, "default_triple", lambda: triple)
        monkeypatch.setattr(cpu, "cpu_info", lambda: info)

    return make


def test_a_gpus_library_is_its_hosts():
    target = target_dict(get("mali-g76"))
    assert (triple_of(target), processor_of(target)) == (ANDROID, "opencl")
    assert foreign(target) == ANDROID
    assert (triple_of({"kind": "opencl"}), foreign({"kind": "opencl"})) == ("", "")
    assert processor_of(target_dict(get("cortex-a76"))) == "cpu"


@pytest.mark.parametrize(("own", "other"), [(LINUX, ANDROID), (ANDROID, LINUX)])
def test_a_board_runs_what_is_for_its_own_system(board, own, other):
    board(own)
    for name in ("cortex-a76", "mali-g610"):
        assert foreign(target_dict(on_system(get(name), own))) == ""
        assert foreign(target_dict(on_system(get(name), other))) == other
