"""The version check: what it accepts, what it says, and that it comes before TVM is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tvm_dnnfusion import _versions

ROOT = Path(__file__).resolve().parent.parent
FFI = next(pin for pin in _versions.PINS if pin.name == "apache-tvm-ffi")


@pytest.mark.parametrize(
    ("version", "spec", "expected"),
    [
        ("0.27.0.post1", ">=0.27,<0.28", True),
        ("0.27.0", ">=0.27,<0.28", True),
        ("0.27.0rc1", ">=0.27,<0.28", False),
        ("0.28.0", ">=0.27,<0.28", False),
        ("0.28.0rc0", ">=0.27,<0.28", False),
        ("0.26.9", ">=0.27,<0.28", False),
        ("0.1.14", FFI.spec, False),
        ("0.1.14.post0", FFI.spec, True),
        ("0.1.14.post12", FFI.spec, True),
        ("0.1.15", FFI.spec, False),
        ("0.1.15.post2", FFI.spec, False),
        ("0.1.15.dev1", FFI.spec, False),
        ("0.1.9", FFI.spec, False),
        ("1.0", FFI.spec, False),
    ],
)
def test_bounds_follow_pep_440(version: str, spec: str, expected: bool) -> None:
    assert _versions.satisfies(version, spec) is expected


def test_post_releases_are_ordered_as_numbers() -> None:
    assert _versions.version_key("1.0.post2") < _versions.version_key("1.0.post10")
    assert _versions.version_key("1.0") == _versions.version_key("1.0.0")


def test_text_that_is_no_version_is_refused() -> None:
    with pytest.raises(ValueError, match="not a version"):
        _versions.version_key("main")
    with pytest.raises(ValueError, match="unknown bound"):
        _versions.satisfies("1.0", "~=1.0")


def test_a_wrong_version_is_named_with_the_line_that_mends_it() -> None:
    (text,) = _versions.complaints((FFI,), find=lambda _: "0.1.15.post2")
    assert "0.1.15.post2 is installed" in text
    assert 'pip install "apache-tvm-ffi>=0.1.14.post0,<0.1.15"' in text


def test_an_absent_distribution_is_named_unless_its_module_is_there() -> None:
    absent = _versions.Pin("no-such-distribution", ">=1", "no_such_module_at_all")
    (text,) = _versions.complaints((absent,), find=lambda _: None)
    assert "no-such-distribution is not installed" in text
    built_from_source = _versions.Pin("no-such-distribution", ">=1", "json")
    assert _versions.complaints((built_from_source,), find=lambda _: None) == ()


def test_every_wrong_pin_is_reported() -> None:
    assert len(_versions.complaints(find=lambda _: "99.0")) == len(_versions.PINS)


def test_pins_are_those_of_the_project_file() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for pin in _versions.PINS:
        assert f'"{pin.name}{pin.spec}"' in text


def _import_with_ffi(version: str, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` where importlib.metadata finds apache-tvm-ffi in `version` first."""
    info = folder / f"apache_tvm_ffi-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: apache-tvm-ffi\nVersion: {version}\n"
    )
    paths = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_import_fails_readably_before_tvm_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "try:\n    import tvm_dnnfusion\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__, error, 'tvm loaded:', 'tvm' in sys.modules)\n"
    )
    out = _import_with_ffi("0.1.15.post2", tmp_path, code).stdout
    assert out.startswith("VersionError")
    assert "0.1.15.post2" in out
    assert "tvm loaded: False" in out


def test_the_command_exits_with_the_environment_code_and_no_traceback(tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['/usr/bin/dnnfusion', 'doctor']; import tvm_dnnfusion"
    done = _import_with_ffi("0.1.15", tmp_path, code)
    assert done.returncode == 3
    assert done.stderr.startswith("error: tvm_dnnfusion needs apache-tvm-ffi")
    assert "Traceback" not in done.stderr


def test_a_right_version_imports(tmp_path: Path) -> None:
    done = _import_with_ffi(
        "0.1.14.post0", tmp_path, "import tvm_dnnfusion as t; print(t.__version__)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0.1.0"
