"""The file of a profile database: opening, checking and preparing it. See `database.py`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from tvm_dnnfusion.profile.records import Entry

FORMAT = 1
"""Version of the table, kept in SQLite's `user_version`."""
APPLICATION_ID = 0x444E4E46
"""Marks the file as ours ("DNNF"), so that another program's database is not written to."""
WAIT_S = 60.0
"""How long a writer waits for another before it gives up; one row takes milliseconds."""
MAGIC = b"SQLite format 3\0"
"""How every SQLite file begins."""
ENDINGS = (".sqlite", ".db")
"""Names by which a database is known even where damage took its first bytes."""

_TABLE = """
CREATE TABLE IF NOT EXISTS measurement (
    key TEXT PRIMARY KEY, block TEXT NOT NULL, device TEXT NOT NULL, threads INTEGER NOT NULL,
    schedule TEXT NOT NULL, latency_us REAL NOT NULL, spread REAL NOT NULL,
    samples INTEGER NOT NULL, "when" TEXT NOT NULL, library TEXT NOT NULL
) WITHOUT ROWID
"""
_ASKED_TABLE = """
CREATE TABLE IF NOT EXISTS asked (
    model TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (model, key)
) WITHOUT ROWID
"""
_COLUMNS = tuple(f.name for f in fields(Entry))
NAMES = ", ".join(f'"{c}"' for c in _COLUMNS)
GET = f"SELECT {NAMES} FROM measurement WHERE key = ?"
ALL = f"SELECT {NAMES} FROM measurement ORDER BY key"
PUT = f"INSERT OR REPLACE INTO measurement ({NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))})"


ASK = "INSERT OR IGNORE INTO asked (model, key) VALUES (?, ?)"
ASKED = "SELECT model, key FROM asked ORDER BY model, key"
_HAS_ASKED = "SELECT count(*) FROM sqlite_master WHERE name = 'asked'"
CHECKED_BYTES = 64 << 20
"""Files up to this size are checked page by page when they are opened: about 3 ms per MB. In larger
ones damage is found when it is read, or by `db status`."""


class ProfileError(RuntimeError):
    """The database cannot be used; the message names the file and what to do."""

    exit_code = 3


class ProfileFileError(ProfileError):
    """A file that was named is absent, or is not what it should be; nothing was changed."""

    exit_code = 2


def looks_like_database(path: Path) -> bool:
    """Whether a file is, or was before it was damaged, a database; nothing else may be renamed."""
    if path.suffix.lower() in ENDINGS:
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_entries(path: Path | str) -> tuple[Entry, ...]:
    """All rows of a database file that is only read: nothing is repaired, renamed or made.

    Raises ProfileFileError where it is absent, damaged, or not a profile database.
    """
    try:
        connection = sqlite3.connect(_read_only(Path(path)), uri=True, timeout=WAIT_S)
        try:
            return tuple(Entry(*row) for row in connection.execute(ALL))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ProfileFileError(f"{path} cannot be read as a profile database: {error}") from error


def read_asked(path: Path | str) -> tuple[tuple[str, str], ...]:
    """(model, key) of a database file that is only read; none where it has no such table."""
    try:
        connection = sqlite3.connect(_read_only(Path(path)), uri=True, timeout=WAIT_S)
        try:
            return asked_in(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ProfileFileError(f"{path} cannot be read as a profile database: {error}") from error


def asked_in(connection: sqlite3.Connection) -> tuple[tuple[str, str], ...]:
    """(model, key) of all keys that models asked for; files of version 0.1 have no such table."""
    if not connection.execute(_HAS_ASKED).fetchone()[0]:
        return ()
    return tuple((str(m), str(k)) for m, k in connection.execute(ASKED))


def check_whole(connection: sqlite3.Connection) -> None:
    """Read every page. Raises sqlite3.DatabaseError where the file is damaged."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(str(found).splitlines()[-1])


def _read_only(path: Path) -> str:
    return f"{path.resolve().as_uri()}?mode=ro"


def inode_of(path: Path) -> int | None:
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


def open_file(path: Path) -> sqlite3.Connection:
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


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a database without writing to it; an empty one in memory where there is no file.

    Raises sqlite3.DatabaseError where the file is damaged.
    """
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return _empty()
    connection = sqlite3.connect(
        _read_only(path), uri=True, timeout=WAIT_S, isolation_level=None, check_same_thread=False
    )
    try:
        done = _is_set_up(connection, path)
    except BaseException:
        connection.close()
        raise
    if not done:  # its maker was killed before the first table, or is about to make it
        connection.close()
        return _empty()
    return connection


def _empty() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.execute(_TABLE)
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file is whole and ours, and set it up."""
    done = _is_set_up(connection, path)
    to_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    if done:
        if not connection.execute(_HAS_ASKED).fetchone()[0]:
            connection.execute(_ASKED_TABLE)
        return
    with transaction(connection):
        connection.execute(_ASKED_TABLE)
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")


def _is_set_up(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the table is there; raises where the file is damaged, not ours, or too new."""
    if path.stat().st_size <= CHECKED_BYTES:
        check_whole(connection)
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
        raise ProfileFileError(f"{path} is a database of another program; choose another file")
    return bool(owner == APPLICATION_ID and tables)


def to_wal(connection: sqlite3.Connection) -> None:
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
