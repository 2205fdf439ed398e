"""--float16-sums: from the command's options to the kernels, for models narrowed or in float16."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tvm_dnnfusion.cli.build import Build
from tvm_dnnfusion.cli.options import parse_target

FLOAT16 = onnx.TensorProto.FLOAT16


class Reached(Exception):
    """The call that was looked for, with its options."""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A product in float16, as a file."""
    weight = np.random.default_rng(0).uniform(-1, 1, (512, 64)).astype("float16")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")], "narrow",
        [helper.make_tensor_value_info("x", FLOAT16, [16, 512])],
        [helper.make_tensor_value_info("y", FLOAT16, [16, 64])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("narrow") / "narrow.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.mark.parametrize("command", ["optimize", "verify", "run", "bench"])
def test_commands_that_compile_hand_it_on(call, model, monkeypatch, command):
    asked = []

    def compile_model(*args: object, **options: object) -> None:
        asked.append((options["float16"], options["float16_sums"]))
        raise Reached

    monkeypatch.setattr("tvm_dnnfusion.api.compile", compile_model)
    for words in ((), ("--float16-sums", "float16"), ("--float16-sums", "float32")):
        call(command, model, "--float16", *words)
    assert asked == [(True, "float16"), (True, "float16"), (True, "float32")]


def test_tuning_plans_for_the_same_device(call, model, monkeypatch):
    asked = []

    def fuse(module: object, options: object, say: object) -> None:
        asked.append(options.device)
        raise Reached

    monkeypatch.setattr("tvm_dnnfusion.pipeline.fuse", fuse)
    for sums in ("float16", "float32"):
        call("tune", model, "--target", "cortex-a76", "--float16", "--float16-sums", sums)
    assert [device.sums for device in asked] == ["", "float32"]
    assert asked[1].vector_registers == asked[0].vector_registers // 2


@pytest.mark.parametrize("sums", ["float16", "float32"])
def test_a_model_in_float16_needs_no_other_option(narrow, sums):
    target = parse_target('{"kind": "opencl", "device": "mali"}')
    build = Build(target, float16_sums=sums, tuning_records="none")
    made = build.compile(str(narrow), None, lambda *_: None)
    assert made.device.sums == ("float32" if sums == "float32" else "")
    assert ('T.Cast("float32"' in made.module.script()) == (sums == "float32")


def test_results_of_both(call, narrow, tmp_path):
    """512 terms: sums in float16 are off by more than the rounding of the result, wide ones not."""
    x = np.random.default_rng(1).uniform(-1, 1, (16, 512)).astype("float16")
    np.savez(tmp_path / "in.npz", x=x)
    weight = numpy_helper.to_array(onnx.load(narrow).graph.initializer[0])
    exact = x.astype("float64") @ weight.astype("float64")
    errors = {}
    for sums in ("float16", "float32"):
        out = tmp_path / f"{sums}.npz"
        answer = call("run", narrow, "--inputs", tmp_path / "in.npz", "--outputs", out,
                      "--float16-sums", sums)  # fmt: skip
        assert answer.code == 0, answer.err
        errors[sums] = float(np.abs(np.load(out)["y"] - exact).max())
    assert errors["float32"] <= 2.0**-10 * float(np.abs(exact).max())
    assert errors["float16"] > 4 * errors["float32"]
