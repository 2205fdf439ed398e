"""The project's own rules: imports point one way, files stay small, one environment reader."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tvm_dnnfusion"
MAX_LINES = 500

# A room may import those of earlier rows: the order is that in which a model flows through them.
LAYERS = (
    ("opencl",),
    ("ecg", "devices"),
    ("frontend", "rewrite", "profile"),
    ("relay",),
    ("cost", "gnn"),
    ("planners",),
    ("codegen",),
    ("schedules", "runtime"),
    ("trace",),
    ("pipeline", "measuring", "report"),
    ("tuning",),
    ("passes",),
    ("api",),
    ("ondevice",),
    ("cli",),
)
TVM_FREE = ("ecg", "rewrite", "planners", "cost", "profile", "devices")
# Any room may use these; they use none.
COMMON = {"settings", "_versions", "named"}


def _sources(*folders: str) -> list[Path]:
    """Python files below the folders; a name with a file of its own (`api`) stands for that."""
    files = [ROOT / f"{folder}.py" for folder in folders]
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted([*found, *(path for path in files if path.is_file())])


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in the file, wherever it stands."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    package = list(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def _room(dotted: str) -> str | None:
    """Room of our package that a dotted name is in; None for the package itself and for others."""
    parts = dotted.split(".")
    if parts[0] != PACKAGE.name or len(parts) < 2:
        return None
    there = PACKAGE / parts[1]
    return parts[1] if there.is_dir() or there.with_suffix(".py").is_file() else None


def test_imports_point_one_way() -> None:
    wrong: list[str] = []
    earlier: set[str | None] = {None, *COMMON}
    for layer in LAYERS:
        wrong += [
            f"{path.relative_to(ROOT)}:{line} imports {name}"
            for room in layer
            for path in _sources(f"tvm_dnnfusion/{room}")
            for line, name in _imports(path)
            if _room(name) not in {room, *earlier}
        ]
        earlier |= set(layer)
    assert wrong == []


def test_every_room_has_a_place_in_the_order() -> None:
    rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()}
    files = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
    assert rooms | files == {room for layer in LAYERS for room in layer} | COMMON


def test_a_wrong_import_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above is worth nothing if it overlooks relative and nested imports."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / PACKAGE.name)
    room = tmp_path / PACKAGE.name / "ecg"
    room.mkdir(parents=True)
    (room.parent / "planners").mkdir()
    (room / "a.py").write_text("def f():\n    from ..planners import plan\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"ecg/a\.py:2 imports tvm_dnnfusion\.planners"):
        test_imports_point_one_way()


def test_common_files_import_no_room() -> None:
    files = [PACKAGE / f"{name}.py" for name in sorted(COMMON)]
    named = [_room(name) for path in files if path.is_file() for _, name in _imports(path)]
    assert set(named) <= {None, *COMMON}


@pytest.mark.parametrize("room", TVM_FREE)
def test_room_imports_without_tvm(room: str) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in _sources(f"tvm_dnnfusion/{room}")
        if path.name != "__main__.py"
    ]
    code = (
        "import sys, importlib\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('tvm', 'tvm_ffi')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_no_file_is_too_long() -> None:
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in _sources("tvm_dnnfusion", "benchmarks", "tests")
    }
    assert sizes, "no sources found"
    assert {name: lines for name, lines in sizes.items() if lines > MAX_LINES} == {}


def _environment_reads(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        attribute = isinstance(node, ast.Attribute) and ast.unparse(node) in _ENVIRONMENT
        imported = isinstance(node, ast.ImportFrom) and node.module == "os"
        if attribute or (imported and {a.name for a in node.names} & {"environ", "getenv"}):
            yield node.lineno


_ENVIRONMENT = {"os.environ", "os.getenv", "os.environb", "os.putenv"}


def test_one_file_reads_the_environment() -> None:
    readers = {
        str(path.relative_to(PACKAGE)): list(_environment_reads(path))
        for path in _sources("tvm_dnnfusion")
    }
    found = {name: lines for name, lines in readers.items() if lines}
    assert list(found) == ["settings.py"]


def test_star_imports_are_absent() -> None:
    starred = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in _sources("tvm_dnnfusion", "benchmarks", "tests")
        for line, name in _imports(path)
        if name.endswith(".*")
    ]
    assert starred == []
