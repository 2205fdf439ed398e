"""Commands take a Relay JSON, with --params, wherever they take an ONNX file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.cli.conftest import call, model  # noqa: F401  (fixtures)
from tests.relay.cases import Case, case
from tvm_dnnfusion import compile as compile_model


@pytest.fixture(scope="module")
def mlp() -> Case:
    return case("model_mlp")


def test_inspect(call, mlp, tmp_path):  # noqa: F811
    path = mlp.save(tmp_path)
    params = path.with_suffix(".params")
    answer = call("inspect", path, "--params", params, "--json")
    assert answer.code == 0
    assert answer.json["operators"] == 10  # flatten, 3 products, 3 biases, 2 relus, softmax
    assert call("inspect", path, "--json").json["operators"] > answer.json["operators"]


def test_run_gives_the_recorded_outputs(call, mlp, tmp_path):  # noqa: F811
    path = mlp.save(tmp_path)
    inputs = {n.removeprefix("in."): a for n, a in mlp.arrays.items() if n.startswith("in.")}
    np.savez(tmp_path / "in.npz", **inputs)
    files = ("--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz")
    answer = call("run", path, "--params", path.with_suffix(".params"), *files, "--threads", 1)
    assert answer.code == 0, answer.err
    with np.load(tmp_path / "out.npz") as out:
        np.testing.assert_allclose(out["output0"], mlp.outputs[0], rtol=1e-4, atol=1e-5)


def test_optimize_then_verify_the_library(call, mlp, tmp_path):  # noqa: F811
    path, folder = mlp.save(tmp_path), tmp_path / "out"
    params = path.with_suffix(".params")
    answer = call(
        "optimize", path, "--params", params, "-o", folder, "--threads", 1, "--no-profile"
    )
    assert answer.code == 0, answer.err
    assert {"library.so", "plan.json"} <= {p.name for p in folder.iterdir()}
    answer = call("verify", path, "--params", params, "--library", folder, "--json")
    assert answer.code == 0, answer.err
    assert [v["against"] for v in answer.json["verification"]] == ["the unfused module"]
    answer = call("run", folder, "--params", params)
    assert answer.code == 2 and "is a saved library" in answer.err


def test_verify_with_onnx_runtime_is_refused(call, mlp, tmp_path):  # noqa: F811
    path = mlp.save(tmp_path)
    answer = call("verify", path, "--params", path.with_suffix(".params"), "--against",
                  "onnxruntime")  # fmt: skip
    assert answer.code == 2 and "ONNX files only" in answer.err


@pytest.mark.parametrize("command", ["inspect", "run", "verify", "bench", "optimize"])
def test_errors_leave_with_2(call, command, tmp_path):  # noqa: F811
    path = tmp_path / "m.json"
    graph = json.loads(case("let").text)
    for node in graph["nodes"]:
        if node["type_key"] == "Op":
            node["repr_str"] = "no.such_op"
    path.write_text(json.dumps(graph))
    answer = call(command, path)
    assert answer.code == 2
    assert "no.such_op: no row in the operator table (at call 1 of main" in answer.err


def test_params_beside_an_onnx_file(call, model, tmp_path):  # noqa: F811
    answer = call("inspect", model, "--params", tmp_path / "p")
    assert answer.code == 2 and "not a Relay module" in answer.err


def test_compile_takes_parameters(mlp, tmp_path):
    path = mlp.save(tmp_path)
    compiled = compile_model(path, {"kind": "llvm"}, params=mlp.params)
    assert len(compiled.original["main"].params) == 1
    assert len(compiled.plan.blocks) == 4
