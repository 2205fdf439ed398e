"""The profile database: latencies of blocks, shared between models, processes and people.

SQLite with a write-ahead log. One committed row per measurement, so a process killed at any moment
loses at most the row it was writing. A lookup by key is one index probe, some microseconds. Two
processes may write at once: writers wait for each other, readers for nobody. A damaged database is
set aside under another name, never deleted, and a new one is begun; a file that never was a
database is left alone.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from tvm_dnnfusion.profile.records import Entry
from tvm_dnnfusion.profile.store import (
    ALL,
    ASK,
    GET,
    PUT,
    ProfileError,
    ProfileFileError,
    asked_in,
    check_whole,
    inode_of,
    looks_like_database,
    open_file,
    open_to_read,
    read_entries,
    transaction,
)

T = TypeVar("T")
log = logging.getLogger(__name__)

__all__ = ["FILE_NAME", "ProfileDB", "ProfileError", "Status", "read_entries", "utc_now"]

FILE_NAME = "profile.sqlite"
SUFFIXES = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Status:
    """What a database holds.

    `models` counts, by model, the keys that are measured and all that it asked for; `set_aside` are
    damaged files of the past beside it.
    """

    path: Path
    rows: int
    file_bytes: int
    devices: tuple[tuple[str, int], ...]
    schedules: tuple[tuple[str, int], ...]
    newest: str | None
    models: tuple[tuple[str, int, int], ...]
    set_aside: tuple[Path, ...]


def utc_now() -> str:
    """The time as rows carry it: UTC, ISO 8601, microseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


class ProfileDB:
    """Measurements by key, in one file.

    Parameters
    ----------
    path : Path or str
        File of the database, or a folder in which it is `profile.sqlite`. Made where it is absent.
    read_only : bool
        Only look: nothing is made, written or renamed. An absent file has no rows.

    Raises
    ------
    ProfileError
        Where the file cannot be opened or written, is no database or another program's, or was made
        by a later version. A damaged database is set aside with a warning; it is an error only
        where `read_only` is set.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        given = Path(path)
        self.read_only = read_only
        self.path = given / FILE_NAME if given.is_dir() else given
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        _OPEN.add(self)
        self._use(lambda c: None)

    def get(self, key: str) -> Entry | None:
        """The row of that key, or None."""
        row = self._use(lambda c: c.execute(GET, (key,)).fetchone())
        return None if row is None else Entry(*row)

    def put(self, entry: Entry) -> None:
        """Write a row and commit it; a row of the same key is replaced."""
        self._use(lambda c: self._write(c, (entry,)))

    def put_all(self, entries: tuple[Entry, ...]) -> None:
        """Write rows in one transaction: all of them or none."""
        self._use(lambda c: self._write(c, entries))

    def entries(self) -> tuple[Entry, ...]:
        """All rows, in order of their keys."""
        rows = self._use(lambda c: c.execute(ALL).fetchall())
        return tuple(Entry(*row) for row in rows)

    def ask(self, model: str, keys: Iterable[str]) -> None:
        """Remember that a model's planning asked for these keys, whether they are measured or not.

        One transaction; what is known already stays.
        """
        rows = [(model, key) for key in keys]

        def write(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.executemany(ASK, rows)

        self._use(write)

    def asked(self) -> dict[str, tuple[str, ...]]:
        """Which models asked for a key, by key, in order of their names."""
        out: dict[str, tuple[str, ...]] = {}
        for model, key in self._use(asked_in):
            out[key] = (*out.get(key, ()), model)
        return out

    def completeness(self) -> tuple[tuple[str, int, int], ...]:
        """(model, keys that are measured, keys that it asked for), by model."""
        query = (
            "SELECT model, count(m.key), count(*) FROM asked LEFT JOIN measurement AS m "
            "ON m.key = asked.key GROUP BY model ORDER BY model"
        )
        if not self._use(asked_in):
            return ()
        return tuple(self._use(lambda c: c.execute(query).fetchall()))

    def __len__(self) -> int:
        return int(self._use(lambda c: c.execute("SELECT count(*) FROM measurement").fetchone())[0])

    def status(self) -> Status:
        """Counts, sizes, damaged files that were set aside. Checks the whole file."""
        self._use(check_whole)
        newest = self._use(lambda c: c.execute('SELECT max("when") FROM measurement').fetchone())
        files = (Path(f"{self.path}{s}") for s in SUFFIXES)
        return Status(
            path=self.path,
            rows=len(self),
            file_bytes=sum(f.stat().st_size for f in files if f.exists()),
            devices=self._counts("device"),
            schedules=self._counts("schedule"),
            newest=newest[0],
            models=self.completeness(),
            set_aside=tuple(sorted(self.path.parent.glob(f"{self.path.name}.damaged-*"))),
        )

    def close(self) -> None:
        """Release the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def __enter__(self) -> ProfileDB:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _counts(self, column: str) -> tuple[tuple[str, int], ...]:
        query = f"SELECT {column}, count(*) FROM measurement GROUP BY 1 ORDER BY 1"
        return tuple(self._use(lambda c: c.execute(query).fetchall()))

    def _use(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Run an action on the connection; a damaged file is set aside, and the action repeated."""
        with self._lock:
            for last in (False, True):
                try:
                    return action(self._connect())
                except sqlite3.OperationalError as error:
                    raise ProfileError(f"profile database {self.path}: {error}") from error
                except sqlite3.DatabaseError as error:
                    if last:
                        raise ProfileError(f"profile database {self.path}: {error}") from error
                    self._set_aside(str(error))
            raise AssertionError("unreachable")

    def _connect(self) -> sqlite3.Connection:
        """The connection, opened where it is not; remembers which file it belongs to."""
        if self._connection is None:
            self._inode = inode_of(self.path)
            self._connection = (open_to_read if self.read_only else open_file)(self.path)
            self._inode = inode_of(self.path)
        return self._connection

    @staticmethod
    def _write(connection: sqlite3.Connection, entries: tuple[Entry, ...]) -> None:
        with transaction(connection):
            connection.executemany(PUT, [astuple(e) for e in entries])

    def _set_aside(self, what: str) -> None:
        """Rename the damaged file, with its log; leave it where another process has done so."""
        self.close()
        if self._inode is None or inode_of(self.path) != self._inode:
            return
        if not looks_like_database(self.path):
            raise ProfileFileError(
                f"{self.path} is not a profile database ({what}), and is left as it is; name "
                f"another file, or one that does not exist yet"
            )
        if self.read_only:
            raise ProfileError(
                f"profile database {self.path} is damaged ({what}). Nothing was changed: the next "
                f"command that plans sets it aside and begins a new one, or rename it yourself"
            )
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
        aside = Path(f"{self.path}.damaged-{stamp}-{os.getpid()}")
        for suffix in SUFFIXES:
            try:
                os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ProfileError(
                    f"profile database {self.path} is damaged ({what}) and cannot be renamed: "
                    f"{error}"
                ) from error
        log.warning(
            "profile database %s is damaged (%s); it was set aside as %s and a new one is begun",
            self.path,
            what,
            aside,
        )


_OPEN: weakref.WeakSet[ProfileDB] = weakref.WeakSet()


def _close_all() -> None:
    """SQLite's connections must not cross a fork; each side opens its own again."""
    for db in list(_OPEN):
        db.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_all)
