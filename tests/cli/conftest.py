"""A `dnnfusion` that runs in this process: exit code, stdout and stderr of one call."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tvm_dnnfusion.cli.app import run


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
def call(
    capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch
) -> Callable[..., Answer]:
    """Call `dnnfusion` with these arguments, with a cache folder of its own."""
    monkeypatch.setenv("DNNFUSION_CACHE", str(tmp_path / "cache"))

    def invoke(*args: object) -> Answer:
        capsys.readouterr()
        code = int(run([str(a) for a in args]))
        return Answer(code, *capsys.readouterr())

    return invoke
