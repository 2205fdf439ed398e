"""The project's texts say what is there: commands, files, variables, make targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tvm_dnnfusion import settings
from tvm_dnnfusion.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "benchmarks/README.md")


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_command_is_in_the_readme_and_no_other() -> None:
    named = set(re.findall(r"`dnnfusion (\w+)", _text("README.md")))
    assert named == set(COMMANDS)


@pytest.mark.parametrize("name", TEXTS)
def test_files_that_a_text_names_exist(name: str) -> None:
    named = set(re.findall(r"`([\w./-]+(?:\.py|\.md|/))`", _text(name)))
    named -= {p for p in named if "NAME" in p or "PATH" in p}
    homes = (ROOT, ROOT / "tvm_dnnfusion", (ROOT / name).parent)
    missing = {p for p in named if not any((home / p).exists() for home in homes)}
    assert missing == set()


@pytest.mark.parametrize("name", TEXTS)
def test_make_targets_that_a_text_names_exist(name: str) -> None:
    targets = set(re.findall(r"^(\w+):", _text("Makefile"), flags=re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make (\w+)", _text(name), flags=re.MULTILINE)) <= targets


def test_environment_variables_are_those_that_are_read() -> None:
    ours = r"DNNFUSION_[A-Z]+"
    assert set(re.findall(ours, _text("README.md"))) == set(
        re.findall(ours, (ROOT / "tvm_dnnfusion" / "settings.py").read_text(encoding="utf-8"))
    )
    assert settings.read({"DNNFUSION_DEBUG": "3"}).debug is settings.Debug.IR


def test_the_public_names_of_the_readme_can_be_imported() -> None:
    import tvm_dnnfusion

    for name in re.findall(r"tvm_dnnfusion\.(\w+)\(", _text("README.md")):
        assert callable(getattr(tvm_dnnfusion, name))
    for name in re.findall(r"from tvm_dnnfusion import (\w+)", _text("README.md")):
        assert callable(getattr(tvm_dnnfusion, name))
