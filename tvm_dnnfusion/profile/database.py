"""The profile database: latencies of blocks, shared between models, processes and people.

SQLite with a write-ahead log. One committed row per measurement, so a process killed at any moment
loses at most the row it was writing. A lookup by key is one index probe, some microseconds. Two
processes may write at once: writers wait for each other, readers for nobody. A damaged file is set
aside under another name, never deleted, and a new one is begun.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from tvm_dnnfusion.profile.records import Entry

T = TypeVar("T")
log = logging.getLogger(__name__)

FILE_NAME = "profile.sqlite"
FORMAT = 1
"""Version of the table, kept in SQLite's `user_version`."""
APPLICATION_ID = 0x444E4E46
"""Marks the file as ours ("DNNF"), so that another program's database is not written to."""
WAIT_S = 60.0
"""How long a writer waits for another before it gives up; one row takes milliseconds."""
SUFFIXES = ("", "-wal", "-shm")

_COLUMNS = tuple(f.name for f in fields(Entry))
_TABLE = """
CREATE TABLE IF NOT EXISTS measurement (
    key TEXT PRIMARY KEY, block TEXT NOT NULL, device TEXT NOT NULL, threads INTEGER NOT NULL,
    schedule TEXT NOT NULL, latency_us REAL NOT NULL, spread REAL NOT NULL,
    samples INTEGER NOT NULL, "when" TEXT NOT NULL, library TEXT NOT NULL
) WITHOUT ROWID
"""
_NAMES = ", ".join(f'"{c}"' for c in _COLUMNS)
_GET = f"SELECT {_NAMES} FROM measurement WHERE key = ?"
_PUT = f"INSERT OR REPLACE INTO measurement ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class ProfileError(RuntimeError):
    """The database cannot be used; the message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a database holds. `set_aside` are damaged files of the past beside it."""

    path: Path
    rows: int
    file_bytes: int
    devices: tuple[tuple[str, int], ...]
    schedules: tuple[tuple[str, int], ...]
    newest: str | None
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

    Raises
    ------
    ProfileError
        Where the file cannot be opened or written, is another program's database, or was made by
        a later version. A damaged file is no error: it is set aside with a warning.
    """

    def __init__(self, path: Path | str) -> None:
        given = Path(path)
        self.path = given / FILE_NAME if given.is_dir() else given
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        _OPEN.add(self)
        self._use(lambda c: None)

    def get(self, key: str) -> Entry | None:
        """The row of that key, or None."""
        row = self._use(lambda c: c.execute(_GET, (key,)).fetchone())
        return None if row is None else Entry(*row)

    def put(self, entry: Entry) -> None:
        """Write a row and commit it; a row of the same key is replaced."""
        self._use(lambda c: self._write(c, (entry,)))

    def put_all(self, entries: tuple[Entry, ...]) -> None:
        """Write rows in one transaction: all of them or none."""
        self._use(lambda c: self._write(c, entries))

    def entries(self) -> tuple[Entry, ...]:
        """All rows, in order of their keys."""
        rows = self._use(
            lambda c: c.execute(f"SELECT {_NAMES} FROM measurement ORDER BY key").fetchall()
        )
        return tuple(Entry(*row) for row in rows)

    def __len__(self) -> int:
        return int(self._use(lambda c: c.execute("SELECT count(*) FROM measurement").fetchone())[0])

    def status(self) -> Status:
        """Counts, sizes, and damaged files that were set aside."""
        newest = self._use(lambda c: c.execute('SELECT max("when") FROM measurement').fetchone())
        files = (Path(f"{self.path}{s}") for s in SUFFIXES)
        return Status(
            path=self.path,
            rows=len(self),
            file_bytes=sum(f.stat().st_size for f in files if f.exists()),
            devices=self._counts("device"),
            schedules=self._counts("schedule"),
            newest=newest[0],
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
            self._inode = _inode(self.path)
            self._connection = _open(self.path)
            self._inode = _inode(self.path)
        return self._connection

    @staticmethod
    def _write(connection: sqlite3.Connection, entries: tuple[Entry, ...]) -> None:
        with transaction(connection):
            connection.executemany(_PUT, [astuple(e) for e in entries])

    def _set_aside(self, what: str) -> None:
        """Rename the damaged file, with its log; leave it where another process has done so."""
        self.close()
        if self._inode is None or _inode(self.path) != self._inode:
            return
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
            self.path, what, aside,
        )


_OPEN: weakref.WeakSet[ProfileDB] = weakref.WeakSet()


def _close_all() -> None:
    """SQLite's connections must not cross a fork; each side opens its own again."""
    for db in list(_OPEN):
        db.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_all)


def read_entries(path: Path | str) -> tuple[Entry, ...]:
    """All rows of a database file that is only read: nothing is repaired, renamed or made.

    Raises ProfileError where it is absent, damaged, or not a profile database.
    """
    address = f"{Path(path).resolve().as_uri()}?mode=ro"
    query = f"SELECT {_NAMES} FROM measurement ORDER BY key"
    try:
        connection = sqlite3.connect(address, uri=True, timeout=WAIT_S)
        try:
            return tuple(Entry(*row) for row in connection.execute(query))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ProfileError(f"{path} cannot be read as a profile database: {error}") from error


def _inode(path: Path) -> int | None:
    """Identity of the file at a path; None where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Take the write lock at once, and commit on the way out, or roll back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _open(path: Path) -> sqlite3.Connection:
    """Open or make a database; sqlite3.DatabaseError where the file is damaged."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProfileError(f"profile database {path}: cannot make its folder: {error}") from error
    connection = sqlite3.connect(
        path, timeout=WAIT_S, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file is whole and ours, and set it up."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(str(found).splitlines()[-1])
    # Tables first: another process may be making them, and marks the file in the same commit.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if owner == APPLICATION_ID and version > FORMAT:
        raise ProfileError(
            f"profile database {path} has format {version}; this version of the library reads "
            f"{FORMAT}. Use a newer library, or another file"
        )
    if owner != APPLICATION_ID and tables:
        raise ProfileError(f"{path} is a database of another program; choose another file")
    _to_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    if owner == APPLICATION_ID and tables:
        return
    with transaction(connection):
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")


def _to_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; SQLite does not wait for a lock here, so we do.

    File systems without shared memory stay with the rollback journal, which is as safe and slower.
    """
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
