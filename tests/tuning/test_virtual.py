"""`dnnfusion tune --device virtual` from end to end: a net of two blocks, by instruction count."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.phone import needs_counts
from tvm_dnnfusion.cli.app import run
from tvm_dnnfusion.devices.virtual import process
from tvm_dnnfusion.profile.trials import INSTRUCTIONS, OWN, TuningDB

TARGET = ("--target", "cortex-a53", "--threads", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A convolution with Relu, and a product: two blocks, each a few thousand multiply-adds."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.2, shape).astype("float32"), name)
        for name, shape in (("w", (16, 8, 1, 1)), ("g", (16, 12)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "g"], ["y"], "gemm"),
    ]
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("x", float32, [1, 8, 6, 6])],
        [helper.make_tensor_value_info("y", float32, [1, 12])], weights,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path)
    return path


@needs_counts
def test_a_model_is_tuned_on_the_virtual_phone_by_instructions(
    phone, model, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(process, "running", lambda name=process.NAME: phone)
    records = tmp_path / "records.sqlite"

    def call(*args: object) -> dict:
        capsys.readouterr()
        code = run([str(a) for a in (*args, *TARGET, "--tuning-records", records, "--json")])
        answer = capsys.readouterr()
        assert code == 0, answer.err
        return json.loads(answer.out)

    first = call("tune", model, "--device", "virtual", "--trials", 7)
    assert first["unit"] == INSTRUCTIONS and first["trials"] == 7
    assert 0 < first["tuned"] <= first["untuned"]
    assert all(b["untuned"] == int(b["untuned"]) > 100 for b in first["blocks"]), "counts are exact"
    again = call("tune", model, "--device", "virtual", "--trials", 9)
    assert again["trials"] == 9 and again["untuned"] == first["untuned"], "it went on"
    assert again["tuned"] <= first["tuned"]
    with TuningDB(records, read_only=True) as db:
        trials = [t for s in db.subjects() for t in db.trials(s.key)]
        assert {s.unit for s in db.subjects()} == {INSTRUCTIONS}
    assert sum(t.search == OWN for t in trials) == len(again["blocks"])
    assert sum(t.cost is not None for t in trials) > len(again["blocks"]), "candidates ran as well"
    tuned = call("verify", model, "--device", f"rpc://{phone.host}:{phone.port}")
    assert tuned, "what was found computes the same on the phone"
