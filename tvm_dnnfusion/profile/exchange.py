"""Export and merge of profile databases: JSON lines out, JSON lines or databases in.

After the rows come, one line each, the models with the keys that their planning asked for. Rows are
checked on the way in: a row whose key is not the hash of what it says is refused, so that
an edited file cannot poison a database. Of two rows with one key the newer is kept.
"""

from __future__ import annotations

import errno
import lzma
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from tvm_dnnfusion.profile.database import ProfileDB
from tvm_dnnfusion.profile.keys import entry_key
from tvm_dnnfusion.profile.records import Entry
from tvm_dnnfusion.profile.store import (
    MAGIC,
    ProfileError,
    ProfileFileError,
    read_asked,
    read_entries,
)

_MODEL_LINE = b'{"model":'
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge did: rows added, replaced by newer ones, kept as newer than what came."""

    added: int
    replaced: int
    kept: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A line of an export: the keys that a model asked for."""

    model: str
    keys: tuple[str, ...]


def export(db: ProfileDB, path: Path | str) -> int:
    """Write all rows as JSON lines in order of their keys, whole or not at all.

    Lines with "model" and "keys" follow. Returns the number of rows. The same rows give the same
    bytes. Raises ProfileFileError where the file cannot be written there, ProfileError where the
    disk is full.
    """
    rows = db.entries()
    target = Path(path)
    try:
        _write_whole(target, (*rows, *_by_model(db.asked())))
    except OSError as error:
        # the system's words only: its file name is that of the temporary file
        kind = ProfileError if error.errno in _FULL else ProfileFileError
        raise kind(f"cannot write {target}: {error.strerror or error}") from error
    return len(rows)


def _by_model(asked: Mapping[str, tuple[str, ...]]) -> list[Asked]:
    keys: dict[str, list[str]] = {}
    for key, models in asked.items():
        for model in models:
            keys.setdefault(model, []).append(key)
    return [Asked(model, tuple(sorted(keys[model]))) for model in sorted(keys)]


def _write_whole(target: Path, rows: Iterable[Entry | Asked]) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            for row in rows:
                out.write(msgspec.json.encode(row) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def merge(db: ProfileDB, source: Path | str) -> MergeReport:
    """Add the rows of another database or of a file of JSON lines, in one transaction.

    Lines may be compressed by xz, where the file's name ends so.

    Raises ProfileFileError, and changes nothing, where the source is absent or a row is not valid.
    """
    path = Path(source)
    if not path.is_file():
        raise ProfileFileError(f"no such file: {path}")
    if path.resolve() == db.path.resolve():
        raise ProfileFileError(f"{path} cannot be merged with itself")
    asked: list[Asked] = []
    incoming = _from_database(path, asked) if _is_sqlite(path) else _from_lines(path, asked)
    taken: dict[str, Entry] = {}
    added = replaced = kept = 0
    for row in incoming:
        present = taken.get(row.key) or db.get(row.key)
        if present is not None and present.when >= row.when:
            kept += 1
            continue
        added += present is None
        replaced += present is not None
        taken[row.key] = row
    db.put_all(tuple(taken.values()))
    for line in asked:
        db.ask(line.model, line.keys)
    return MergeReport(added, replaced, kept)


def check(entry: Entry) -> str | None:
    """What is wrong with a row, or None."""
    if entry.key != entry_key(entry.block, entry.device, entry.threads, entry.schedule):
        return "its key is not the hash of its block, device, threads and schedule"
    if not (math.isfinite(entry.latency_us) and entry.latency_us > 0):
        return f"its latency is {entry.latency_us} us"
    if entry.threads < 1 or entry.samples < 1 or not entry.spread >= 0:
        return "threads and samples must be at least 1, the spread not negative"
    return None


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _from_database(path: Path, asked: list[Asked]) -> Iterable[Entry]:
    by_model: dict[str, list[str]] = {}
    for model, key in read_asked(path):
        by_model.setdefault(model, []).append(key)
    asked += [Asked(model, tuple(keys)) for model, keys in by_model.items()]
    for at, row in enumerate(read_entries(path), 1):
        yield _checked(row, f"{path}, row {at}")


def _from_lines(path: Path, asked: list[Asked]) -> Iterable[Entry]:
    decoder = msgspec.json.Decoder(Entry, strict=True)
    models = msgspec.json.Decoder(Asked, strict=True)
    with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
        for at, line in _lines(file, path):
            if not line.strip():
                continue
            try:
                if line.startswith(_MODEL_LINE):
                    asked.append(models.decode(line))
                    continue
                row = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ProfileFileError(f"{path}, line {at}: {error}") from error
            yield _checked(row, f"{path}, line {at}")


def _lines(file: IO[bytes], path: Path) -> Iterable[tuple[int, bytes]]:
    """Numbered lines; ProfileFileError where a compressed file is damaged."""
    try:
        yield from enumerate(file, 1)
    except (lzma.LZMAError, EOFError) as error:
        raise ProfileFileError(f"{path}: {error}") from error


def _checked(entry: Entry, where: str) -> Entry:
    wrong = check(entry)
    if wrong is not None:
        raise ProfileFileError(f"{where}: {wrong}")
    return entry
