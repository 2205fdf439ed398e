"""Files and folders that appear whole or not at all.

What is written goes to a temporary name beside its place and is renamed when it is complete, so a
reader, or a user after a crash, never sees half of it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tvm_dnnfusion.runtime.errors import ArtefactError


@contextmanager
def whole_file(path: Path | str) -> Generator[Path]:
    """Give a temporary path; what is written there becomes `path` if the body succeeds."""
    target = Path(path)
    _check_parent(target)
    if target.is_dir():
        raise ArtefactError(f"cannot write {target}: it is a folder")
    with whole_names(target) as (temporary,):
        yield temporary


@contextmanager
def whole_names(*targets: Path) -> Generator[tuple[Path, ...]]:
    """Temporary paths for several files of one folder, renamed in order at the end."""
    folder = targets[0].parent
    try:
        work = Path(tempfile.mkdtemp(dir=folder, prefix=f".{targets[0].name}."))
    except OSError as error:
        raise ArtefactError(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        names = tuple(work / target.name for target in targets)
        yield names
        for name, target in zip(names, targets, strict=True):
            _sync(name)
            os.replace(name, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def whole_folder(path: Path | str, marker: str) -> Generator[Path]:
    """Give a temporary folder; it becomes `path` if the body succeeds.

    A folder at `path` is replaced only if it is empty or has a file named `marker`: nobody's other
    files are removed. Raises ArtefactError otherwise, before the body runs.
    """
    target = Path(path)
    _check_parent(target)
    _check_replaceable(target, marker)
    try:
        work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise ArtefactError(f"cannot write to {target.parent}: {error.strerror}") from error
    try:
        fresh = work / "new"
        fresh.mkdir()
        yield fresh
        for file in sorted(fresh.rglob("*")):
            _sync(file)
        _swap(fresh, target, work / "old")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _swap(fresh: Path, target: Path, old: Path) -> None:
    """Put `fresh` at `target`; what was there comes back if that fails."""
    had = target.exists()
    if had:
        os.rename(target, old)
    try:
        os.rename(fresh, target)
    except BaseException:  # an interrupt too: the caller deletes `old` next
        if had and not target.exists():
            os.rename(old, target)
        raise


def _check_parent(target: Path) -> None:
    if not target.parent.is_dir():
        raise ArtefactError(f"cannot write {target}: there is no folder {target.parent}")


def _check_replaceable(target: Path, marker: str) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_dir() or target.is_symlink():
        raise ArtefactError(f"cannot write the folder {target}: a file of that name is there")
    if any(target.iterdir()) and not (target / marker).is_file():
        raise ArtefactError(
            f"{target} is a folder with other files; it is left as it is. Give another name"
        )


def _sync(path: Path) -> None:
    """Have the data on disk before the name points to it."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())
