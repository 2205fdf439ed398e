"""PyTorch programs, where PyTorch is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.frontend.running import kinds, run_tvm
from tvm_dnnfusion.frontend import errors, load

torch = pytest.importorskip("torch")


def _program() -> tuple[object, object, np.ndarray]:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU()).eval()
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    return torch.export.export(net, (torch.from_numpy(x),)), net, x


def test_an_exported_program_and_its_file(tmp_path: Path) -> None:
    program, net, x = _program()
    path = tmp_path / "m.pt2"
    torch.export.save(program, path)
    wanted = net(torch.from_numpy(x)).detach().numpy()
    for mod in (load(program), load(path)):
        assert "nn.conv2d" in kinds(mod)
        np.testing.assert_allclose(run_tvm(mod, x)[0], wanted, rtol=1e-4, atol=1e-5)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(errors.NotOnnxError, match=r"torch\.export\.save"):
        load(path)
