"""A `dnnfusion` that runs in this process: exit code, stdout and stderr of one call."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tvm_dnnfusion.cli.app import run

IR_VERSION = 8
"""The one of opset 17; onnx writes a newer one than ONNX Runtime reads."""


@dataclass(frozen=True)
class Answer:
    """What a call gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch) -> Callable[..., Answer]:
    """Call `dnnfusion` with these arguments, with a cache folder of its own."""
    monkeypatch.setenv("DNNFUSION_CACHE", str(tmp_path / "cache"))

    def invoke(*args: object) -> Answer:
        capsys.readouterr()
        code = int(run([str(a) for a in args]))
        return Answer(code, *capsys.readouterr())

    return invoke


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small residual net: two convolutions, a skip, a pooling, a classifier; 8 ONNX nodes."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.2, shape).astype("float32"), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "block/conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "block/relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "block/conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "c1"], ["s"], "block/add"),
        helper.make_node("Relu", ["s"], ["r2"], "block/relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "head/pool"),
        helper.make_node("Flatten", ["p"], ["f"], "head/flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "head/gemm"),
    ]
    weights = [
        weight("w1", 8, 4, 3, 3),
        weight("b1", 8),
        weight("w2", 8, 8, 3, 3),
        weight("b2", 8),
        weight("w3", 8, 10),
        weight("b3", 10),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, 12, 12])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 10])],
        weights,
    )
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION), path)
    return path


@pytest.fixture(scope="session")
def optimized(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `optimize` writes for the small net."""
    folder = tmp_path_factory.mktemp("optimized") / "out"
    assert run(["optimize", str(model), "-o", str(folder), "--threads", "2"]) == 0
    return folder
