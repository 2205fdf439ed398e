"""Bad input: each is a typed error that names the input, the reason and the way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.frontend.graphs import conv_bn_relu, model, unary
from tests.frontend.running import run_tvm
from tvm_dnnfusion.frontend import errors, load
from tvm_dnnfusion.frontend.onnx import load_onnx

IMAGE = "in.data/0"


def _saved(folder: Path, proto: onnx.ModelProto, name: str = "m.onnx") -> Path:
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def test_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "absent.onnx"
    with pytest.raises(errors.ModelNotFoundError, match="no such file") as caught:
        load_onnx(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_folder_names_the_models_in_it(tmp_path: Path) -> None:
    _saved(tmp_path, conv_bn_relu(), "inside.onnx")
    with pytest.raises(errors.ModelNotFoundError, match=r"folder.*inside\.onnx"):
        load_onnx(tmp_path)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty"),
        (b"hello, this is no model at all\n" * 9, "cannot be decoded"),
        (b"PK\x03\x04" + bytes(50), "zip archive"),
        (b"\x1c\0\0\0TFL3" + bytes(50), "TensorFlow Lite"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (np.random.default_rng(0).bytes(4096), "not an ONNX model"),
        (b"\x08\x08", "cut off"),
    ],
)
def test_not_onnx(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(errors.InputError, match=reason) as caught:
        load_onnx(path)
    assert isinstance(caught.value, errors.NotOnnxError | errors.TruncatedModelError)
    assert str(path) in str(caught.value)


def test_every_truncation_is_refused_and_most_are_called_so(tmp_path: Path) -> None:
    whole = conv_bn_relu().SerializeToString()
    path = tmp_path / "m.onnx"
    for size in range(2, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(errors.InputError) as caught:
            load_onnx(path)
        if isinstance(caught.value, errors.TruncatedModelError):
            assert f"{size} bytes" in caught.value.reason
        else:  # cut after the graph: only the operator set is missing
            assert isinstance(caught.value, errors.UnsupportedOpsetError)
            assert size > len(whole) - 16


def test_unsupported_operators_are_all_named_with_their_nodes() -> None:
    nodes = [
        helper.make_node("Celu", ["x"], ["a"], name="act_7"),
        helper.make_node("Relu", ["a"], ["b"], name="fine"),
        helper.make_node("Celu", ["b"], ["c"]),
        helper.make_node("Frob", ["c"], ["y"], name="mine", domain="my.domain"),
    ]
    proto = model(nodes[:3], {"x": [4]}, ["c"])
    proto.graph.node.append(nodes[3])
    with pytest.raises(errors.UnsupportedOperatorError) as caught:
        load_onnx(proto)
    assert caught.value.operators == {"Celu": ("act_7", "Celu_c"), "my.domain.Frob": ("mine",)}
    assert all(part in str(caught.value) for part in ("Celu (node act_7, Celu_c)", "mine"))


def test_a_node_that_cannot_be_converted_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    node = helper.make_node("TopK", ["x", "k"], ["v", "i"], name="pick")
    proto = model([node], {"x": [8]}, ["v"])
    proto.graph.input.append(helper.make_tensor_value_info("k", onnx.TensorProto.INT64, [1]))
    with pytest.raises(errors.NodeImportError, match=r"node pick \(TopK\).*constant") as caught:
        load_onnx(proto)
    assert (caught.value.node, caught.value.op_type) == ("pick", "TopK")
    assert "Error converting" not in capfd.readouterr().out


def test_a_model_that_breaks_the_rules_is_refused_with_the_checkers_words() -> None:
    proto = unary("Relu", [4])
    proto.graph.node[0].input[0] = "nowhere"
    with pytest.raises(errors.InvalidModelError, match=r"checker.*nowhere"):
        load_onnx(proto)


def test_a_missing_shape_comes_with_the_flag_that_gives_it() -> None:
    with pytest.raises(errors.MissingShapeError) as caught:
        load_onnx(unary("Relu", ["batch", 3, None]))
    assert '--input-shapes "x:[1,3,1]"' in str(caught.value)
    assert "[batch, 3, ?]" in caught.value.reason


def test_a_shape_that_is_given_is_used() -> None:
    mod = load_onnx(unary("Relu", ["batch", 3]), {"x": (5, 3)})
    assert [int(d) for d in mod["main"].params[0].ty.shape.values] == [5, 3]


def test_a_named_dimension_holds_for_all_inputs_that_name_it() -> None:
    proto = model(
        [helper.make_node("Add", ["a", "b"], ["y"])], {"a": ["n", 2], "b": ["n", 2]}, ["y"]
    )
    mod = load_onnx(proto, {"a": (7, 2)})
    assert [int(d) for d in mod["main"].params[1].ty.shape.values] == [7, 2]
    with pytest.raises(errors.InputShapeError, match="input b"):
        load_onnx(proto, {"a": (7, 2), "b": (8, 2)})


def test_symbolic_shapes_are_kept_on_request() -> None:
    mod = load_onnx(unary("Relu", ["batch", 3]), allow_symbolic=True)
    assert str(mod["main"].params[0].ty.shape.values[0]) == "batch"


@pytest.mark.parametrize("shape", [(1, 3, 8), (1, 4, 8, 8)])
def test_a_shape_that_contradicts_the_model_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(errors.InputShapeError, match=r"\[1, 3, 8, 8\]"):
        load_onnx(conv_bn_relu(), {IMAGE: shape})


def test_a_wrong_input_name_lists_the_right_ones() -> None:
    with pytest.raises(errors.InputNameError, match=r"no input 'data'.*in\.data/0"):
        load_onnx(conv_bn_relu(), {"data": (1, 3, 8, 8)})


def test_missing_and_short_external_data(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(conv_bn_relu(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    load_onnx(path)
    data = (tmp_path / "w.bin").read_bytes()
    (tmp_path / "w.bin").write_bytes(data[:9])
    with pytest.raises(errors.ExternalDataError, match=r"w\.bin, which has 9 bytes"):
        load_onnx(path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(errors.ExternalDataError, match=r"weights of w are in w\.bin.*missing"):
        load_onnx(path)


def test_opsets_that_cannot_be_read() -> None:
    newer = unary("Relu", [4])
    newer.opset_import[0].version = 9999
    with pytest.raises(errors.UnsupportedOpsetError, match="opset 9999 is newer"):
        load_onnx(newer)
    newer.ClearField("opset_import")
    with pytest.raises(errors.UnsupportedOpsetError, match="no operator set"):
        load_onnx(newer)


def test_an_old_opset_is_converted_or_refused() -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"], broadcast=1)
    proto = model([node], {"a": [2, 3, 4], "b": [4]}, ["y"], opset=6)
    a, b = np.zeros((2, 3, 4), np.float32), np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(run_tvm(load_onnx(proto), a, b)[0], a + b)
    node = helper.make_node("Add", ["a", "b"], ["y"], broadcast=1, axis=1)
    proto = model([node], {"a": [2, 3, 4], "b": [3]}, ["y"], opset=6)
    with pytest.raises(errors.UnsupportedOpsetError, match="opset 6 is older than 7"):
        load_onnx(proto)


def test_load_tells_what_a_model_can_be(tmp_path: Path) -> None:
    mod = load(conv_bn_relu())
    assert load(mod) is mod
    with pytest.raises(TypeError, match=r"not a builtins\.int"):
        load(3)
    with pytest.raises(errors.ModelNotFoundError):
        load(tmp_path / "absent.pt2")


def test_a_saved_torch_program_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(b"PK\x03\x04")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(errors.MissingPackageError, match="pip install torch") as caught:
        load(path)
    assert caught.value.exit_code == 3
