"""Whole models through the OpenCL device, here and behind an RPC server, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from benchmarks.models import model_names
from benchmarks.opencl import models
from benchmarks.opencl.models import LOCAL, SERVER, TARGETS

SMALL = ("attention", "se_block", "transformer")
"""Those whose kernels PoCL compiles in seconds."""
OTHERS = tuple(name for name in model_names() if name not in SMALL)


@pytest.fixture(scope="module")
def addresses(device: Any) -> Iterator[Mapping[str, str]]:
    pytest.importorskip("onnxruntime")
    with models.server() as address:
        yield {LOCAL: "local", SERVER: address}


@pytest.mark.parametrize("name", SMALL)
def test_outputs_equal_those_of_onnx_runtime(name: str, addresses: Mapping[str, str]) -> None:
    here, there = models.check(name, TARGETS[SMALL.index(name) % 2], addresses)
    assert (here.problem, there.problem) == ("", "")
    assert 0 < here.max_abs == there.max_abs, "the same kernels on the same inputs"


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", OTHERS)
def test_outputs_of_larger_models(
    name: str, target: str, addresses: Mapping[str, str], request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--thorough"):
        pytest.skip("minutes per model: with --thorough; benchmarks/results/opencl-models.md")
    assert [row.problem for row in models.check(name, target, addresses)] == ["", ""]


def test_a_place_that_is_not_there_is_a_problem_of_its_row() -> None:
    pytest.importorskip("onnxruntime")
    (row,) = models.check("se_block", TARGETS[0], {"nowhere": "rpc://127.0.0.1:1"})
    assert "nobody listens" in row.problem


def test_rows_are_kept_and_shown(tmp_path: Any) -> None:
    rows = [
        models.Row("unet", "mali-g76", LOCAL, "x", 20, 2e-6, 3e-7),
        models.Row("unet", "mali-g76", SERVER, "", 20, 0.0, 0.0, "lost"),
    ]
    models.write(tmp_path / "rows", rows)
    assert list(models.stored(tmp_path / "rows").values()) == rows
    table = (tmp_path / "rows.md").read_text()
    assert "| unet | mali-g76 | local | 20 | 2.0e-06 | 3.0e-07 | yes |" in table
    assert "| lost |" in table
