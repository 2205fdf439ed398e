"""The commands for GPUs: here through OpenCL, elsewhere written, sent, or refused with the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from onnx import numpy_helper

import tvm_dnnfusion
from tests.opencl.conftest import device  # noqa: F401 - skips where there is no OpenCL device
from tvm_dnnfusion import opencl
from tvm_dnnfusion.devices.registry import get, target_dict
from tvm_dnnfusion.runtime import (
    EnvironmentLackError,
    Module,
    link,
    random_inputs,
    run,
    signature_of,
)

ELSEWHERE = ("mali-g76", "adreno-650")
AARCH64 = 183
"""ELF's number of the machine."""


@pytest.fixture
def no_device(monkeypatch):
    """A machine on which the native part was not built."""
    lack = opencl.Status("", (), "the native part is not built", opencl.MEND_BUILD)
    monkeypatch.setattr(opencl, "status", lambda: lack)


@pytest.fixture(scope="module")
def native(device):  # noqa: F811
    """The native part, found before a test has a cache folder of its own."""
    return opencl.library()


@pytest.fixture
def there(native, call, tmp_path):
    """`call` with the OpenCL device in child processes too, which look into the cache folder."""
    (tmp_path / "cache" / "native").mkdir(parents=True)
    shutil.copy(native, tmp_path / "cache" / "native")
    return call


@pytest.fixture(scope="module")
def written(device, model, tmp_path_factory):  # noqa: F811
    """The folder that `optimize --target opencl` writes."""
    from tvm_dnnfusion.cli.app import run as dnnfusion

    folder = tmp_path_factory.mktemp("opencl") / "out"
    assert dnnfusion(["optimize", str(model), "--target", "opencl", "-o", str(folder)]) == 0
    return folder


def test_optimize_verifies_and_measures_on_opencl(written):
    record = json.loads((written / "stats.json").read_text())
    assert {v["against"] for v in record["verification"]} >= {"the unfused module"}
    assert all(o["ok"] for v in record["verification"] for o in v["outputs"])
    assert record["kernels"], "the profile"


def test_a_model_and_its_library_run_on_opencl(call, model, written, tmp_path):
    files = [tmp_path / f"{n}.npz" for n in ("cpu", "model", "library")]
    calls = ((model,), (model, "--target", "opencl"), (written,))
    for file, arguments in zip(files, calls, strict=True):
        answer = call("run", *arguments, "--outputs", file)
        assert answer.code == 0, answer.err
    want, *have = (np.load(file)["y"] for file in files)
    for values in have:
        np.testing.assert_allclose(values, want, rtol=1e-4, atol=1e-5)


def test_a_model_and_its_library_are_verified_on_opencl(call, model, written):
    for more in (("--target", "opencl", "--bisect"), ("--library", written)):
        answer = call("verify", model, *more, "--json")
        assert (answer.code, answer.json["passed"]) == (0, True), answer.err


def test_a_fault_on_opencl_is_found(call, model, written, tmp_path):
    """The comparison is with this machine's CPU, not with the same kernels."""
    wrong = tmp_path / "other.onnx"
    made = onnx.load(model)
    b3 = next(w for w in made.graph.initializer if w.name == "b3")
    b3.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(b3) + np.float32(1), "b3"))
    onnx.save(made, wrong)
    assert call("verify", wrong, "--library", written).code == 1


def test_a_library_is_measured_on_opencl(call, written):
    answer = call("bench", written, "--repeat", 3, "--warmup", 0, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["median_us"] > 0
    assert any(k["name"].startswith("b000_conv2d") for k in answer.json["kernels"])


def test_blocks_are_measured_on_opencl(there, model):
    answer = there("profile", model, "--target", "opencl", "--max-time", 0.1, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["measured"] > 0 and answer.json["failed"] == {}


@pytest.mark.parametrize(
    "command", [("optimize",), ("run",), ("verify",), ("bench",), ("profile",)]
)
def test_without_a_device_the_doctors_words_are_given(call, model, no_device, command, tmp_path):
    place = ("-o", tmp_path / "out") if command == ("optimize",) else ()
    answer = call(*command, model, "--target", "opencl", *place)
    assert answer.code == 3
    assert "the native part is not built. Mend it: python -m tvm_dnnfusion.opencl" in answer.err
    assert "import" not in answer.err, "nothing was compiled"


@pytest.mark.parametrize("command", ["run", "verify", "bench"])
@pytest.mark.parametrize("target", [*ELSEWHERE, "cortex-a76"])
def test_what_does_not_run_here_is_refused_before_compiling(call, model, command, target):
    answer = call(command, model, "--target", target)
    assert answer.code == 2
    assert "does not run on this machine" in answer.err and "--device" in answer.err
    assert "import" not in answer.err


def test_profile_refuses_it_without_its_device(call, model):
    answer = call("profile", model, "--target", "adreno-650")
    assert answer.code == 2 and "--device" in answer.err


@pytest.mark.parametrize("target", ELSEWHERE)
def test_optimize_writes_a_library_for_the_gpus_host(call, model, target, tmp_path):
    try:
        link.find_linker(str(dict(get(target).host)["mtriple"]))
    except EnvironmentLackError as error:
        pytest.skip(str(error))
    refused = call("optimize", model, "--target", target, "-o", tmp_path / "out")
    assert refused.code == 2 and "pass --no-verify" in refused.err
    answer = call("optimize", model, "--target", target, "-o", tmp_path / "out", "--no-verify")
    assert answer.code == 0, answer.err
    head = (tmp_path / "out" / "library.so").read_bytes()[:20]
    assert head[:4] == b"\x7fELF" and int.from_bytes(head[18:20], "little") == AARCH64
    again = call("run", tmp_path / "out")
    assert again.code == 3 and "was compiled for aarch64-linux-android" in again.err


@pytest.mark.parametrize("target", ["opencl", "adreno-650"])
def test_tuning_gpus_is_refused_before_any_work(call, model, target, tmp_path):
    for more in ((), ("--device", "local")):
        answer = call("tune", model, "--target", target, *more)
        assert answer.code == 2 and "tune measures kernels of CPUs only" in answer.err
    assert not (tmp_path / "cache" / "tuning.sqlite").exists()
    measured = call("optimize", model, "--target", target, "--measure", "--no-verify")
    assert measured.code == 2 and "`dnnfusion profile` measures its blocks" in measured.err


def test_a_module_in_python_runs_on_opencl(model, device):  # noqa: F811
    made = tvm_dnnfusion.compile(model, tvm.target.Target(target_dict(get("opencl"))))
    here = tvm_dnnfusion.compile(model)
    inputs = random_inputs(signature_of(made.original))
    want, have = (run(Module(m.executable, signature_of(m.original)), inputs) for m in (here, made))
    np.testing.assert_allclose(have.outputs["y"], want.outputs["y"], rtol=1e-4, atol=1e-5)


def test_a_module_for_another_machine_says_what_to_do(model: Path) -> None:
    for name in ("cortex-a76", "adreno-650"):
        made = tvm_dnnfusion.compile(model, tvm.target.Target(target_dict(get(name))))
        module = Module(made.executable, signature_of(made.original))
        with pytest.raises((EnvironmentLackError, opencl.OpenCLError), match=r"--device|no OpenCL"):
            module(random_inputs(module.signature))
