"""`dnnfusion gnn`: training by one command, figures of the weights; and `plan --planner get`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

FIGURES = {"groups", "invalid", "accuracy", "precision", "recall", "f1"}


@pytest.mark.parametrize("explainer", ["informed", "random", "rg"])
def test_get_takes_its_options(call, model, explainer: str) -> None:
    answer = call("plan", model, "--planner", "get", "--explainer", explainer, "--search", "local",
                  "--plans", 12, "--seed", 3, "--buffer", "16KB", "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    (found,) = answer.json["planners"]
    assert found["complete"] and found["planner"] == "get"
    again = call("plan", model, "--planner", "get", "--explainer", explainer, "--search", "local",
                 "--plans", 12, "--seed", 3, "--buffer", "16KB", "--json")  # fmt: skip
    assert again.json["planners"][0]["groups"] == found["groups"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("--explainer", "informed"), "goes with --planner get"),
     (("--planner", "get", "--explainer", "x"), "none of rg, pg, gnne, informed, random"),
     (("--planner", "get", "--search", "x"), "none of nsga2, local, random, nsga2-plain"),
     (("--planner", "get", "--plans", "0"), "--plans")],
)  # fmt: skip
def test_wrong_options_of_get_are_refused_before_the_model_is_read(call, arguments, says) -> None:
    answer = call("plan", "missing.onnx", *arguments)
    assert answer.code == 2
    assert says in answer.err


def test_weights_that_are_none_are_refused(call, model, tmp_path: Path) -> None:
    file = tmp_path / "w.npz"
    file.write_bytes(b"no weights")
    answer = call("plan", model, "--planner", "get", "--weights", file)
    assert answer.code == 2
    assert str(file) in answer.err and "cannot read weights" in answer.err


def test_ctrl_c_keeps_the_best_plan_so_far(model, tmp_path: Path) -> None:
    """A search that would take hours, ended by the signal that Ctrl-C sends."""
    folder = tmp_path / "plans"
    command = [sys.executable, "-m", "tvm_dnnfusion.cli", "plan", str(model), "--planner", "get",
               "--explainer", "informed", "--search", "local", "--plans", "100000000",
               "--buffer", "8KB", "-o", str(folder), "--json"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "PYTHONUNBUFFERED": "1"}) as child:  # fmt: skip
        assert child.stderr is not None and child.stdout is not None
        line = child.stderr.readline()
        while line and not line.startswith("load: done"):
            line = child.stderr.readline()
        assert line, "the model was not loaded"
        time.sleep(1.0)  # the first plans of so small a net take milliseconds
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    assert "interrupted; its best plan so far is kept" in err
    (found,) = json.loads(out)["planners"]
    assert found["interrupted"] and found["groups"]
    written = json.loads((folder / "get.json").read_text())["plan"]
    assert sum(len(b["ops"]) for b in written["blocks"]) == sum(len(g["ops"]) for g in
                                                                found["groups"])  # fmt: skip


def test_figures_of_the_shipped_weights(call) -> None:
    pytest.importorskip("torch_geometric")
    for scheme in ("lbdf", "brr"):
        answer = call("gnn", "check", "--scheme", scheme, "--json")
        assert answer.code == 0, answer.err
        found = answer.json["networks_not_trained_on"]
        assert set(found) == FIGURES
        assert found["f1"] > 0.95 and found["accuracy"] > 0.95


def test_figures_on_a_model(call, model) -> None:
    pytest.importorskip("torch_geometric")
    answer = call("gnn", "check", model, "--scheme", "lbdf")
    assert answer.code == 0, answer.err
    (line,) = [x for x in answer.out.splitlines() if "small.onnx" in x]
    assert len(re.findall(r"\d+(?:\.\d+)?", line.partition("small.onnx")[2])) == len(FIGURES)


def test_training_writes_weights_that_plan_takes(call, model, tmp_path: Path) -> None:
    pytest.importorskip("torch_geometric")
    file = tmp_path / "weights.npz"
    answer = call("gnn", "train", "--scheme", "lbdf", "--networks", 2, "--epochs", 1, "--output",
                  file, "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["course"]["networks"] == 2
    with np.load(file) as arrays:
        assert {name.partition(".")[0] for name in arrays.files} == {"facts", "gnn", "pg", "rg"}
    planned = call("plan", model, "--planner", "get", "--explainer", "pg", "--search", "local",
                   "--memory-model", "lbdf", "--weights", file, "--plans", 5)  # fmt: skip
    assert planned.code == 0, planned.err


def test_without_torch_training_says_what_to_install(call, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    answer = call("gnn", "train", "--scheme", "lbdf", "--output", tmp_path / "w.npz")
    assert answer.code == 3
    assert "pip install 'tvm-dnnfusion[gnn]'" in answer.err
    assert not list(tmp_path.glob("*.npz"))
