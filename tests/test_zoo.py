"""The zoo: its catalog, its files, the weights it gives and the models it exports."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.zoo import __main__ as command
from benchmarks.zoo import store
from benchmarks.zoo.catalog import ZOO, inputs

PAPER = 15


def test_the_papers_models_come_first_and_three_more_follow() -> None:
    described = [entry.paper is not None for entry in ZOO.values()]
    assert described == [True] * PAPER + [False] * 3


@pytest.mark.parametrize("name", ZOO)
def test_inputs_have_the_shapes_that_the_catalog_names(name: str) -> None:
    first, second = inputs(name), inputs(name, seed=1)
    for item in ZOO[name].inputs:
        array = first[item.name]
        assert array.shape == item.shape
        assert array.dtype == (np.float32 if item.kind == "pixels" else np.int64)
        assert np.array_equal(array, inputs(name)[item.name]), "the same on every call"
        if item.kind in ("pixels", "tokens"):
            assert not np.array_equal(array, second[item.name])
        if item.kind == "tokens":
            assert array.min() >= 0 and array.max() < item.below


def test_the_folder_is_outside_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DNNFUSION_ZOO", raising=False)
    assert Path(__file__).parent.parent not in store.path("unet").parents
    monkeypatch.setenv("DNNFUSION_ZOO", str(tmp_path))
    assert store.path("unet") == tmp_path / "unet.onnx"
    with pytest.raises(KeyError, match="no model 'unet2'"):
        store.path("unet2")


def test_without_torch_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "torch":
            raise ImportError("No module named 'torch'", name="torch")
        return real(name, *rest, **more)

    monkeypatch.setenv("DNNFUSION_ZOO", str(tmp_path))
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert command.main(["tinybert"]) == 1
    told = capsys.readouterr().err
    assert "tinybert" in told and "pip install '.[bench]'" in told
    assert list(tmp_path.iterdir()) == []


def test_list_tells_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DNNFUSION_ZOO", str(tmp_path))
    (tmp_path / "c3d.onnx").write_bytes(b"x" * 2_000_000)
    assert command.main(["--list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == list(ZOO)
    assert "2.0 MB" in lines["c3d"] and "not built" in lines["unet"]


def test_a_model_without_its_exact_outputs_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setenv("DNNFUSION_ZOO", str(tmp_path))
    monkeypatch.setattr(command, "_built", lambda name: made.append(name) is None)
    for file in ("unet.onnx", "c3d.onnx", "c3d.npz"):
        (tmp_path / file).write_bytes(b"x")
    assert command.main(["unet", "c3d", "s3d"]) == 0
    assert made == ["unet", "s3d"]
    assert command.main(["c3d", "--again"]) == 0
    assert made == ["unet", "s3d", "c3d"]


def test_an_unknown_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(["unet", "unet2"])
    assert stop.value.code == 2
    assert "unet2" in capsys.readouterr().err


def test_a_failed_build_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(model: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setenv("DNNFUSION_ZOO", str(tmp_path))
    monkeypatch.setattr(store, "make", lambda entry: (None, ()))
    monkeypatch.setattr("benchmarks.models.onnx.save", half)
    assert command.main(["unet"]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_deep_network_keeps_the_size_of_its_activations() -> None:
    torch = pytest.importorskip("torch")
    from benchmarks.zoo.layers import ConvNorm, Residual
    from benchmarks.zoo.settle import settle

    blocks = [Residual(torch.nn.Sequential(ConvNorm(8, 16), ConvNorm(16, 8))) for _ in range(20)]
    net = torch.nn.Sequential(ConvNorm(3, 8), *blocks, ConvNorm(8, 8, act=None))
    gen = torch.Generator().manual_seed(1)
    settle(net, [torch.randn((6, 3, 12, 12), generator=gen)])
    with torch.no_grad():
        other = net(torch.randn((1, 3, 12, 12), generator=gen))
    assert 0.3 < float(other.std()) < 3.0
    again = torch.nn.Sequential(ConvNorm(3, 8))
    first = settle(again, [torch.ones(2, 3, 4, 4)])[0][0].weight.clone()
    assert torch.equal(first, settle(again, [torch.ones(2, 3, 4, 4)])[0][0].weight)


def test_a_layer_may_have_a_gain_of_its_own() -> None:
    torch = pytest.importorskip("torch")
    from benchmarks.zoo.settle import settle

    plain, small = torch.nn.Linear(400, 300), torch.nn.Linear(400, 300)
    small.gain = 0.05
    settle(torch.nn.Sequential(plain), [torch.ones(1, 400)])
    settle(torch.nn.Sequential(small), [torch.ones(1, 400)])
    assert float(plain.weight.detach().std()) == pytest.approx(1 / 20, rel=0.02)
    assert float(small.weight.detach().std()) == pytest.approx(0.05 / 20, rel=0.02)


def test_an_exported_network_gives_what_torch_gives() -> None:
    torch, ort = pytest.importorskip("torch"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from benchmarks.zoo.efficient import SqueezeExcite
    from benchmarks.zoo.export import export
    from benchmarks.zoo.layers import ConvNorm, Head
    from benchmarks.zoo.settle import settle

    net = torch.nn.Sequential(ConvNorm(3, 8), SqueezeExcite(8, 2), Head(8, 5))
    x = torch.randn((1, 3, 12, 12), generator=torch.Generator().manual_seed(2))
    settle(net, [x])
    model = export(net, [x], ["pixels"], ["logits"])
    assert not any(node.metadata_props for node in model.graph.node), "no stack traces"
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"pixels": x.numpy()})
    with torch.no_grad():
        expected = net(x).numpy()
    assert found.shape == (1, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_figures_count_nodes_parameters_and_flops() -> None:
    from benchmarks.built import Net
    from benchmarks.zoo.figures import figures

    net = Net("two")
    y = net.conv(net.input("x", (1, 4, 8, 8)), (4, 6), "conv", strides=[2, 2], group=2)
    flat = net.node("Flatten", [y], "flat")
    net.output(net.linear(flat, (96, 5), "fc"), (1, 5))
    found = figures(net.build())
    assert found.nodes == 4
    assert found.parameters == 6 * 2 * 9 + 6 + 96 * 5 + 5
    assert found.flops == 2 * (6 * 16) * (2 * 9) + 2 * 96 * 5


def test_the_table_has_a_row_per_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.zoo.figures import table

    monkeypatch.setenv("DNNFUSION_ZOO", str(tmp_path))
    rows = table().splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [
        entry.title for entry in ZOO.values()
    ]
    assert "| VGG-16 |  | 51 |  | 138 |  | 31 |  |" in rows
