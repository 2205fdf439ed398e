"""The test models themselves: sane, reproducible, and able to show a wrong result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import models as bench_models
from benchmarks.light import randomize
from benchmarks.weights import Role, fan_in, weight
from tests import models

ROOT = Path(__file__).resolve().parent.parent
ort = pytest.importorskip("onnxruntime")


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _before_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without a softmax at its end: probabilities hide differences."""
    output = model.graph.output[0]
    last = next(node for node in model.graph.node if output.name in node.output)
    if last.op_type == "Softmax":
        output.CopyFrom(onnx.ValueInfoProto(name=last.input[0]))
        output.type.CopyFrom(onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
    return model


@pytest.mark.parametrize("name", models.model_names())
def test_outputs_are_finite_spread_and_depend_on_the_input(name: str) -> None:
    bare = _before_softmax(models.load(name))
    session = _session(bare)
    first, second = (session.run(None, models.inputs(name, seed))[0] for seed in (0, 1))
    spread = float(first.std())
    assert np.isfinite(first).all() and np.isfinite(second).all()
    assert 0.05 < spread < 10
    assert np.abs(first - second).mean() > 0.03 * spread
    assert np.mean(first == 0) < 0.6


@pytest.mark.parametrize("name", models.LIGHT)
def test_no_constant_of_shape_is_left_and_reshapes_are_kept(name: str) -> None:
    model, source = models.load(name), onnx.load(models.light_path(name))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == [n.op_type for n in source.graph.node if n.op_type != "ConstantOfShape"]
    assert [i.name for i in model.graph.input] == list(models.inputs(name))
    ints = {t.name: t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT64}
    for tensor in source.graph.initializer:
        if tensor.name in ints:
            assert tensor.SerializeToString() == ints[tensor.name].SerializeToString()
    assert set(ints) <= {n.input[1] for n in model.graph.node if n.op_type == "Reshape"}
    assert ints or "Reshape" not in kinds
    onnx.checker.check_model(model)


@pytest.mark.parametrize("name", tuple(models.BUILT))
def test_built_models_pass_the_checker_with_every_shape_known(name: str) -> None:
    model = models.load(name)
    onnx.checker.check_model(model, full_check=True)
    known = {v.name for v in (*model.graph.value_info, *model.graph.output)}
    assert {out for node in model.graph.node for out in node.output} <= known


def test_structures_are_there() -> None:
    kinds = {name: [n.op_type for n in models.load(name).graph.node] for name in models.BUILT}
    assert "LayerNormalization" not in kinds["transformer"]
    assert {"Erf", "Softmax", "ReduceMean", "Pow", "Sqrt"} <= set(kinds["transformer"])
    assert {"GlobalAveragePool", "Sigmoid", "Mul"} <= set(kinds["se_block"])
    assert {"Cast", "Softmax"} <= set(kinds["attention"])
    assert kinds["unet"].count("ConvTranspose") == kinds["unet"].count("MaxPool") == 2
    assert {len(t.dims) for t in models.load("conv3d").graph.initializer} >= {5}


def test_a_mask_hides_the_last_positions() -> None:
    model, feed = models.load("attention"), models.inputs("attention")
    hidden = int((feed["mask"] == 0).sum())
    assert 1 <= hidden <= bench_models.MASKED_TAIL
    changed = {**feed, "x": feed["x"].copy()}
    changed["x"][:, -hidden:] += 1
    seen = slice(0, feed["x"].shape[1] - hidden)
    session = _session(model)
    (plain,), (other,) = session.run(None, feed), session.run(None, changed)
    np.testing.assert_allclose(plain[:, seen], other[:, seen], rtol=1e-5, atol=1e-5)


def test_weights_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import hashlib; from benchmarks.models import load, inputs\n"
        "m = load('squeezenet'); h = hashlib.sha256()\n"
        "for t in m.graph.initializer: h.update(t.raw_data)\n"
        "for v in inputs('squeezenet', 3).values(): h.update(v.tobytes())\n"
        "print(h.hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(seen) == 1


def test_another_seed_gives_other_weights() -> None:
    one, two = (onnx.load(models.light_path("squeezenet")) for _ in range(2))
    randomize(one, seed=0)
    randomize(two, seed=1)
    weights = [next(t.raw_data for t in m.graph.initializer if t.dims[0] == 64) for m in (one, two)]
    assert weights[0] != weights[1]


def test_he_scale() -> None:
    role = Role("Conv", 1, rectified=True)
    values = weight("w", (256, 64, 3, 3), role)
    assert fan_in(values.shape, role) == 576
    assert values.std() == pytest.approx(np.sqrt(2 / 576), rel=0.02)
    variance = weight("v", (1000,), Role("BatchNormalization", 4))
    assert variance.min() >= 0.5 and variance.max() <= 1.5


def test_unknown_names_are_refused() -> None:
    with pytest.raises(KeyError, match="squeezenet"):
        bench_models.load("no_such_model")


def test_the_command_writes_a_whole_model(tmp_path: Path) -> None:
    path = tmp_path / "se.onnx"
    assert bench_models.main(["se_block", "--output", str(path)]) == 0
    assert onnx.load(path) == models.load("se_block")
    assert [p.name for p in tmp_path.iterdir()] == ["se.onnx"]
