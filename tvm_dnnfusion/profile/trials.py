"""The records of tuning: what was tried on which block, and how fast it was. No TVM.

SQLite with a write-ahead log, one committed row per trial: a process killed at any moment loses at
most the trial in flight. The key of a block says all that its kernel is made from, and the device,
threads and version of the schedules that it was tried with; so a compile finds the best trial of
each of its blocks by one probe, and records of another device or version are never taken.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from tvm_dnnfusion.profile.store import (
    WAIT_S,
    ProfileError,
    ProfileFileError,
    to_wal,
    transaction,
)

FILE_NAME = "tuning.sqlite"
FORMAT = 1
APPLICATION_ID = 0x444E4E54
"""Marks the file as ours ("DNNT")."""

TIME = "us"
"""Unit of trials that were timed: microseconds."""
INSTRUCTIONS = "instructions"
"""Unit of trials on a virtual device, whose time means nothing and whose counts are exact."""
UNITS = (TIME, INSTRUCTIONS)
"""A compile takes what was timed before what was counted."""

OWN = "template"
"""The search of trials that are the template's own choice: the first of every block."""
IMPORTED = "imported"
"""The search of trials that came from another program's database."""

CONFIRMED = "confirmed"
"""The message of trials that were faster than the template's own when both were timed again."""
LOST = "not faster when timed again"
KEPT = "faster in the model"
"""The message of finds that a model was faster with; only these are taken by a compile."""
SLOWER = "slower in the model"


@dataclass(frozen=True, slots=True)
class Subject:
    """A block that is tuned, once for all blocks equal to it.

    `form` is `codegen.form`'s signature (or `BY_WORKLOAD` with the hash of a TIR module that came
    from elsewhere), `kind` its template, `workload` the structural hash of its TIR, `flops` its
    work.
    """

    key: str
    form: str
    device: str
    threads: int
    schedule: str
    unit: str
    kind: str
    workload: str
    flops: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate of a block: `params` as JSON ({"trace": ...} from MetaSchedule), what it cost
    in the unit of its subject (None where it failed, `message` says how), `search` who asked."""

    key: str
    params: str
    search: str
    cost: float | None
    spread: float
    samples: int
    message: str
    when: str
    library: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a block is tuned: `own` is the cost of the template's own choice, `best` of what a
    compile takes."""

    subject: Subject
    trials: int
    failed: int
    own: float | None
    best: float | None


def subject_key(form: str, device: str, threads: int, schedule: str, unit: str) -> str:
    """sha256 of what a trial belongs to: 64 hexadecimal digits."""
    text = json.dumps([form, device, threads, schedule, unit], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


_TABLES = """
CREATE TABLE IF NOT EXISTS subject (
    key TEXT PRIMARY KEY, form TEXT NOT NULL, device TEXT NOT NULL, threads INTEGER NOT NULL,
    schedule TEXT NOT NULL, unit TEXT NOT NULL, kind TEXT NOT NULL, workload TEXT NOT NULL,
    flops INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trial (
    key TEXT NOT NULL, params TEXT NOT NULL, search TEXT NOT NULL, cost REAL,
    spread REAL NOT NULL, samples INTEGER NOT NULL, message TEXT NOT NULL, "when" TEXT NOT NULL,
    library TEXT NOT NULL, PRIMARY KEY (key, params)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS fastest ON trial (key, cost);
CREATE TABLE IF NOT EXISTS workload (
    hash TEXT PRIMARY KEY, module TEXT NOT NULL, target TEXT NOT NULL
);
"""


def _names(record: type[Subject] | type[Trial]) -> str:
    return ", ".join(f'"{f.name}"' for f in fields(record))


def _put(table: str, record: type[Subject] | type[Trial]) -> str:
    marks = ", ".join("?" * len(fields(record)))
    return f"INSERT OR REPLACE INTO {table} ({_names(record)}) VALUES ({marks})"


_SUBJECT, _TRIAL = _names(Subject), _names(Trial)
_PUT_SUBJECT, _PUT_TRIAL = _put("subject", Subject), _put("trial", Trial)


class TuningDB:
    """Trials by block, in one file.

    Parameters
    ----------
    path : file of the database; made where it is absent.
    read_only : nothing is made or written; an absent file has no rows.
    finds : whether a compile also takes what was found and not compared in a model yet.

    Raises
    ------
    ProfileFileError for a file that is no tuning database or damaged (it is left as it is),
    ProfileError where it cannot be opened or written, or was made by a later version.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False, finds: bool = False) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self.finds = finds
        self._lock = threading.RLock()
        try:
            self._connection = self._open()
        except sqlite3.OperationalError as error:
            raise ProfileError(f"tuning records {self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ProfileFileError(
                f"tuning records {self.path} cannot be read ({error}); the file is left as it is: "
                f"name another one, or move it away"
            ) from error

    def begin(self, subject: Subject) -> None:
        """Write a subject, and commit it."""
        self._write(_PUT_SUBJECT, (astuple(subject),))

    def put(self, trial: Trial) -> None:
        """Write a trial and commit it; one of the same parameters is replaced."""
        self._write(_PUT_TRIAL, (astuple(trial),))

    def put_all(self, subjects: Iterable[Subject], trials: Iterable[Trial]) -> None:
        """Write rows in one transaction: all of them or none."""
        with self._lock, transaction(self._connection):
            self._connection.executemany(_PUT_SUBJECT, [astuple(s) for s in subjects])
            self._connection.executemany(_PUT_TRIAL, [astuple(t) for t in trials])

    def keep_workload(self, digest: str, module: str, target: str) -> None:
        """Keep the TIR module that traces of a subject belong to, and the target, as JSON."""
        self._write("INSERT OR IGNORE INTO workload VALUES (?, ?, ?)", ((digest, module, target),))

    def workloads(self) -> dict[str, tuple[str, str]]:
        """Kept modules and their targets by hash."""
        rows = self._rows("SELECT hash, module, target FROM workload ORDER BY hash")
        return {digest: (module, target) for digest, module, target in rows}

    def subjects(self) -> tuple[Subject, ...]:
        """All subjects, in order of their keys."""
        return tuple(
            Subject(*r) for r in self._rows(f"SELECT {_SUBJECT} FROM subject ORDER BY key")
        )

    def trials(self, key: str) -> tuple[Trial, ...]:
        """The trials of a subject in the order in which they were made."""
        query = f'SELECT {_TRIAL} FROM trial WHERE key = ? ORDER BY "when", params'
        return tuple(Trial(*row) for row in self._rows(query, key))

    def best(self, key: str) -> Trial | None:
        """The cheapest trial of a subject that succeeded, and lost no comparison since."""
        return self._cheapest(key, f"message NOT IN ('{LOST}', '{SLOWER}')")

    def taken(self, key: str) -> Trial | None:
        """What a compile takes: the cheapest of the template's own choice, what was kept in a
        model, what was imported, and what was counted, which needs no second look.

        With `finds` whatever is best, so that it can be compared.
        """
        if self.finds:
            return self.best(key)
        counted = f"(SELECT unit FROM subject WHERE key = trial.key) = '{INSTRUCTIONS}'"
        chosen = f"search IN ('{OWN}', '{IMPORTED}') OR message = '{KEPT}' OR {counted}"
        return self._cheapest(key, f"({chosen}) AND message NOT IN ('{LOST}', '{SLOWER}')")

    def _cheapest(self, key: str, condition: str) -> Trial | None:
        query = f"""SELECT {_TRIAL} FROM trial WHERE key = ? AND cost IS NOT NULL AND ({condition})
            ORDER BY cost, search != '{OWN}', params LIMIT 1"""
        found = self._rows(query, key)
        return Trial(*found[0]) if found else None

    def progress(self) -> tuple[Progress, ...]:
        """How far each subject is, the slowest first."""
        out = [self._progress(subject) for subject in self.subjects()]
        return tuple(sorted(out, key=lambda p: (-(p.best or 0.0), p.subject.key)))

    def _progress(self, subject: Subject) -> Progress:
        query = """SELECT count(*), count(*) - count(cost),
            min(CASE WHEN search = ? THEN cost END) FROM trial WHERE key = ?"""
        ((trials, failed, own),) = self._rows(query, OWN, subject.key)
        taken = self.taken(subject.key)
        best = None if taken is None else taken.cost
        return Progress(subject, int(trials), int(failed), own, best)

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> TuningDB:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise ProfileError(f"tuning records {self.path}: {error}") from error

    def _write(self, query: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self._lock:
            try:
                with transaction(self._connection):
                    self._connection.executemany(query, rows)
            except sqlite3.Error as error:
                raise ProfileError(f"tuning records {self.path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        if self.read_only:
            return self._open_to_read()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProfileError(f"tuning records {self.path}: no folder: {error}") from error
        connection = _connect(str(self.path))
        try:
            if not self._is_set_up(connection):
                to_wal(connection)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.executescript(_TABLES)
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_to_read(self) -> sqlite3.Connection:
        if not self.path.exists():
            connection = _connect(":memory:")
            connection.executescript(_TABLES)
            return connection
        connection = _connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            if not self._is_set_up(connection):
                raise ProfileFileError(f"{self.path} holds no tuning records")
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_set_up(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is ours; raises where it is another's or too new."""
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if owner != APPLICATION_ID and tables:
            raise ProfileFileError(
                f"{self.path} is a database, but not one of tuning records; choose another file"
            )
        if owner == APPLICATION_ID and version > FORMAT:
            raise ProfileError(
                f"tuning records {self.path} have format {version}; this version of the library "
                f"reads {FORMAT}. Use a newer library, or another file"
            )
        return bool(owner == APPLICATION_ID and tables)


def _connect(name: str, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        name, timeout=WAIT_S, isolation_level=None, check_same_thread=False, uri=uri
    )
