"""Saving and loading a compiled model."""

from __future__ import annotations

import json
import logging
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

from tests.runtime.models import TARGET, fused, named, results
from tvm_dnnfusion.devices import cpu
from tvm_dnnfusion.runtime import (
    Artefact,
    ArtefactError,
    EnvironmentLackError,
    load,
    random_inputs,
    read_record,
    run,
    save,
    signature_of,
)
from tvm_dnnfusion.runtime import link as linking

SIGNATURE = signature_of(named())
KERNELS = {"fused_matmul_relu": ("MatMul_1", "Relu_2")}


@pytest.fixture(scope="module")
def code() -> Any:
    return tvm.compile(fused(), target=tvm.target.Target(TARGET))


def record(**change: Any) -> Artefact:
    values = {
        "model": "m.onnx",
        "target": TARGET,
        "kernels": KERNELS,
        "plan": {"blocks": [1, 2]},
        "threads": 1,
    }
    return Artefact(signature=SIGNATURE, **{**values, **change})


@pytest.mark.parametrize("name", ["net", "net.so"])
def test_a_model_comes_back_whole_and_runs(code: Any, tmp_path: Path, name: str) -> None:
    done = save(code, record(), tmp_path / name)
    assert read_record(tmp_path / name) == done
    module = load(tmp_path / name)
    assert (module.signature, module.kernels, module.threads) == (SIGNATURE, KERNELS, 1)
    inputs = random_inputs(SIGNATURE)
    outputs = run(module, inputs).outputs
    for key, want in results(inputs).items():
        np.testing.assert_allclose(outputs[key], want, rtol=1e-5, atol=1e-5)
    assert done.versions["apache-tvm"] == metadata.version("apache-tvm")
    left = {"net.so", "net.so.json"} if name == "net.so" else {"net"}
    assert {p.name for p in tmp_path.iterdir()} == left


def test_any_file_of_an_artefact_names_it(code: Any, tmp_path: Path) -> None:
    folder = save(code, record(), tmp_path / "net")
    single = save(code, record(model="other"), tmp_path / "net.so")
    assert read_record(tmp_path / "net" / "artefact.json") == folder
    assert read_record(tmp_path / "net" / "library.so") == folder
    assert read_record(tmp_path / "net.so.json") == single


def test_further_files_come_with_a_folder(code: Any, tmp_path: Path) -> None:
    save(code, record(), tmp_path / "net", further={"plan.json": b"{}", "report.html": b"<p>"})
    assert (tmp_path / "net" / "report.html").read_bytes() == b"<p>"
    with pytest.raises(ArtefactError, match="folder"):
        save(code, record(), tmp_path / "net.so", further={"plan.json": b"{}"})


def test_saving_again_replaces_all_of_it(code: Any, tmp_path: Path) -> None:
    save(code, record(), tmp_path / "net", further={"old.txt": b""})
    save(code, record(model="second"), tmp_path / "net")
    assert read_record(tmp_path / "net").model == "second"
    assert {p.name for p in (tmp_path / "net").iterdir()} == {"library.so", "artefact.json"}


@pytest.mark.parametrize("name", ["net", "net.so"])
def test_a_failure_leaves_what_was_there(code: Any, tmp_path: Path, name: str) -> None:
    before = save(code, record(), tmp_path / name)
    names = {p.name for p in tmp_path.iterdir()}

    def broken(output: str, *_: Any, **__: Any) -> None:
        Path(output).write_bytes(b"half")
        raise RuntimeError("the linker died")

    with pytest.raises(RuntimeError, match="died"):
        save(code, record(model="second"), tmp_path / name, linker=broken)
    assert read_record(tmp_path / name) == before
    assert {p.name for p in tmp_path.iterdir()} == names
    load(tmp_path / name)


def test_nobodys_files_are_removed(code: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(ArtefactError, match="other files"):
        save(code, record(), tmp_path / "mine")
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError, match="a file of that name"):
        save(code, record(), tmp_path / "file")
    (tmp_path / "dir.so").mkdir()
    with pytest.raises(ArtefactError, match="folder"):
        save(code, record(), tmp_path / "dir.so")
    with pytest.raises(ArtefactError, match="no folder"):
        save(code, record(), tmp_path / "absent" / "net")
    with pytest.raises(ArtefactError, match="no folder"):
        save(code, record(), tmp_path / "absent" / "net.so")


def edited(path: Path, **change: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def test_what_does_not_belong_together_is_refused(code: Any, tmp_path: Path) -> None:
    save(code, record(), tmp_path / "net")
    place = tmp_path / "net" / "artefact.json"
    good = place.read_text()
    edited(place, library_sha256="0" * 64)
    with pytest.raises(ArtefactError, match="not the library"):
        load(tmp_path / "net")
    place.write_text(good)
    edited(place, format=99)
    with pytest.raises(ArtefactError, match="format 99"):
        load(tmp_path / "net")
    for text in ("", "{", "[]", '{"format": 1}', '{"format": "x"}'):
        place.write_text(text)
        with pytest.raises(ArtefactError, match="not the record"):
            load(tmp_path / "net")
    place.write_text(good)
    (tmp_path / "net" / "library.so").unlink()
    with pytest.raises(ArtefactError, match="missing"):
        load(tmp_path / "net")
    shutil.rmtree(tmp_path / "net")
    with pytest.raises(ArtefactError, match="no saved model here"):
        load(tmp_path / "net")


def test_another_cpus_code_is_refused_before_it_runs(
    code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(code, record(target={"kind": "llvm", "mcpu": "x86-64-v4"}), tmp_path / "wide")
    save(
        code,
        record(target={"kind": "llvm", "mtriple": "riscv64-linux-gnu"}),
        tmp_path / "riscv",
        linker=linking.find_linker(),
    )
    with pytest.raises(EnvironmentLackError, match="compiled for riscv64"):
        load(tmp_path / "riscv")
    if cpu.cpu_info().arch == "x86_64":
        small = cpu.CpuInfo("old", "x86_64", frozenset({"sse2", "avx", "avx2", "fma", "f16c"}))
        monkeypatch.setattr(cpu, "cpu_info", lambda: small)
        with pytest.raises(EnvironmentLackError, match="lacks avx512f"):
            load(tmp_path / "wide")


def test_another_tvm_is_warned_about(
    code: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(code, record(versions={"apache-tvm": "0.1"}), tmp_path / "net")
    with caplog.at_level(logging.WARNING):
        load(tmp_path / "net")
    assert "compiled by TVM 0.1" in caplog.text


@pytest.mark.skipif(shutil.which("ld") is None, reason="no bare linker here")
def test_a_bare_linker_will_do(code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvm.support.cc.get_cc", lambda: None)
    save(code, record(), tmp_path / "net")
    inputs = random_inputs(SIGNATURE)
    assert np.allclose(load(tmp_path / "net")(inputs)["s"], results(inputs)["s"], rtol=1e-4)


def test_without_any_linker_the_message_says_what_to_install(
    code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tvm.support.cc.get_cc", lambda: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentLackError, match="install one"):
        save(code, record(), tmp_path / "net")
    assert not list(tmp_path.iterdir())
    assert EnvironmentLackError.exit_code == 3
