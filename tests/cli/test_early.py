"""What is wrong with the options is said before a model is compiled, and names what it is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tvm_dnnfusion.devices import cpu


@pytest.fixture(autouse=True)
def no_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building fails loudly: nothing here may come so far."""

    def build(*args: object, **options: object) -> None:
        raise AssertionError("the model was compiled")

    monkeypatch.setattr("tvm.compile", build)


@pytest.mark.parametrize("command", ["optimize", "verify", "run", "bench"])
def test_an_inputs_file_that_cannot_be_read(call, model, tmp_path, command):
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    for name in ("text.npz", "cut.npz", "objects.npz"):
        answer = call(command, model, "--inputs", tmp_path / name)
        assert answer.code == 2
        assert f"{tmp_path / name} is not an .npz or .npy file" in answer.err
        assert "pickle" not in answer.err
    answer = call(command, model, "--inputs", tmp_path / "none.npz")
    assert (answer.code, f"no such file: {tmp_path / 'none.npz'}" in answer.err) == (2, True)
    answer = call(command, model, "--inputs", tmp_path)
    assert (answer.code, f"{tmp_path} cannot be read: Is a directory" in answer.err) == (2, True)


def test_a_place_for_outputs_that_cannot_be_written(call, model, tmp_path):
    answer = call("run", model, "--outputs", tmp_path / "absent" / "out.npz")
    assert answer.code == 2
    assert f"there is no folder {tmp_path / 'absent'}" in answer.err
    answer = call("run", model, "--outputs", tmp_path)
    assert (answer.code, "it is a folder" in answer.err) == (2, True)


def test_more_threads_than_processors(call, model):
    answer = call("run", model, "--threads", "4096")
    assert answer.code == 2
    assert "4096 threads" in answer.err and f"{cpu.processors()} processor" in answer.err


def test_verifying_a_library_that_is_none(call, model, tmp_path):
    (tmp_path / "folder").mkdir()
    for path, words in (
        (model, "is not a saved library"),
        (tmp_path / "nothing", "does not exist"),
        (tmp_path / "nothing.so", "no saved model here"),
        (tmp_path / "folder", "no saved model here"),
    ):
        answer = call("verify", model, "--library", path)
        assert answer.code == 2
        assert str(path) in answer.err and words in answer.err


def test_a_plan_file_that_holds_no_plan_is_named(call, model, optimized, tmp_path):
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "wrong.json").write_text(json.dumps({"plan": {"format": 1}, "graph": {}}))
    for path in (optimized / "stats.json", tmp_path / "empty.json", tmp_path / "wrong.json", model):
        for args in (("optimize", model, "--plan", path), ("explain", path, "a", "b")):
            answer = call(*args)
            assert answer.code == 2
            assert f"{path}: not a plan file: " in answer.err
            assert "codec" not in answer.err


def test_a_model_as_the_profile_database_is_refused_and_left_alone(call, model, tmp_path):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(model.read_bytes())
    answer = call("run", copy, "--db", copy)
    assert answer.code == 2
    assert f"{copy} is not a profile database" in answer.err
    assert copy.read_bytes() == model.read_bytes()
    assert list(tmp_path.glob("copy*")) == [copy]


@pytest.mark.parametrize("option", [("--winograd", 0), ("--winograd", 6), ("--winograd-memory", 3)])
@pytest.mark.parametrize("command", ["run", "bench"])
def test_a_saved_library_has_its_convolutions_already(call, optimized, command, option):
    answer = call(command, optimized, *option)
    assert answer.code == 2 and "is a saved library" in answer.err


@pytest.mark.parametrize("command", ["optimize", "verify", "run", "bench", "tune"])
def test_sums_of_float16_in_a_model_that_has_none(call, model, command):
    answer = call(command, model, "--float16-sums", "float32")
    assert answer.code == 2
    assert f"--float16-sums float32: {model} has nothing in float16; add --float16" in answer.err


def test_sums_of_float16_on_a_device_are_refused_before_it_is_asked(call, model):
    answer = call("bench", model, "--device", "rpc://127.0.0.1:1", "--float16-sums", "float32")
    assert answer.code == 2 and "has nothing in float16" in answer.err


def test_a_saved_library_has_its_sums_already(call, model, optimized):
    for command in ("run", "bench"):
        answer = call(command, optimized, "--float16-sums", "float32")
        assert answer.code == 2 and "--float16-sums does not apply to it" in answer.err
    answer = call("verify", model, "--library", optimized, "--float16-sums", "float32")
    assert answer.code == 2 and "not --float16-sums" in answer.err
