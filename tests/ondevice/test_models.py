"""Models that are unlike others on a device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.cli.conftest import call  # noqa: F401  # a fixture
from tvm_dnnfusion.devices.virtual import process


@pytest.mark.parametrize("kind", ["Identity", "NonZero", "Unique"])
def test_a_model_that_leaves_no_kernel(
    kind: str, call: Callable, phone: process.Phone, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    """Nothing is compiled of it; two of them are Python's in TVM, and the server's on a device."""
    types = {"Identity": TensorProto.FLOAT, "NonZero": TensorProto.INT64}
    graph = helper.make_graph(
        [helper.make_node(kind, ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4])],
        [helper.make_tensor_value_info("y", types.get(kind, TensorProto.FLOAT), None)],
    )  # fmt: skip
    path = tmp_path / "net.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    words = ("--device", f"rpc://{phone.host}:{phone.port}", "--target", "cortex-a53")
    answer = call("verify", path, *words)
    assert answer.code == 0, answer.err
    timed = call("bench", path, *words, "--repeat", 3, "--warmup", 0, "--threads", 1)
    assert timed.code == 0, timed.err
