"""The kernel benchmark: its FLOPs are those of its models, and wrong kernels are not counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from benchmarks import machine, peers, subject
from benchmarks.kernels import __main__ as command
from benchmarks.kernels.cases import cases
from tvm_dnnfusion.ecg.metrics import flops
from tvm_dnnfusion.frontend import load
from tvm_dnnfusion.frontend.relax import from_relax

CASES = {case.name: case for case in cases()}
FACTS = machine.Machine("a cpu", 1, 100.0, 10.0)


@pytest.mark.parametrize(
    "name",
    [
        "matmul-128x768x768",
        "conv1x1-256-512-56-s2",
        "conv7x7-3-64-224-s2",
        "depthwise3x3-96-96-112-s2",
        "attention",
    ],
)
def test_flops_are_those_of_the_products_in_the_model(name: str) -> None:
    graph = from_relax(load(CASES[name].build())).graph
    products = [op for op in graph.ops if "matmul" in op.kind or "conv" in op.kind]
    assert products
    assert sum(flops(op, graph) for op in products) == CASES[name].flops


def test_names_are_unique() -> None:
    assert len(CASES) == len(cases())


@pytest.fixture
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "measure", lambda count: FACTS)
    monkeypatch.setenv("TVM_NUM_THREADS", "1")


@pytest.mark.usefixtures("known_machine")
def test_a_kernel_gets_a_row_of_times_and_shares(tmp_path: Path) -> None:
    arguments = ["--only", "layer_norm-128x", "--threads", "1", "--seconds", "0.05"]
    assert command.main([*arguments, "--output", str(tmp_path / "out")]) == 0
    (row,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["kernels"]
    assert row["name"] == "layer_norm-128x768"
    assert 0 < row["difference"] < 1e-4
    assert row["ours_us"] > 0 and row["ort_us"] > 0 and row["kernels"] >= 1
    cells = (tmp_path / "out.md").read_text(encoding="utf-8").splitlines()[-1].split(" | ")
    assert len(cells) == len(command.COLUMNS)
    assert float(cells[7]) == pytest.approx(row["bytes"] / row["ours_us"] / 1e3, abs=0.06)


@pytest.mark.usefixtures("known_machine")
def test_a_wrong_kernel_has_no_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subject, "difference", lambda found, expected: float(np.nan))
    assert command.main(["--only", "layer_norm-128x", "--threads", "1", "--seconds", "0.05"]) == 1
    assert "deviates from ONNX Runtime" in capsys.readouterr().out.splitlines()[-1]


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "nonsense"]) == 2
    assert "conv3x3-64-64-56" in capsys.readouterr().out


def test_the_library_session_takes_choices() -> None:
    model = CASES["layer_norm-128x768"].build()
    feed = {"x": np.ones((1, 128, 768), np.float32)}
    session = peers.prepare_library(model, feed, 1, planner="none", rewrite=False)
    session.run()
    assert session.outputs()[0].shape == (1, 128, 768)
    assert session.library is not None
    assert session.library.module.signature.inputs[0].name == "x"
    assert session.flops == sum(session.library.kernel_flops.values()) > 128 * 768
