"""The file of tuning records: what is put is found, the best is the cheapest; whose file it is."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, replace

import pytest

from tvm_dnnfusion.profile.store import ProfileError, ProfileFileError
from tvm_dnnfusion.profile.trials import (
    CONFIRMED,
    IMPORTED,
    INSTRUCTIONS,
    KEPT,
    LOST,
    OWN,
    SLOWER,
    Subject,
    Trial,
    TuningDB,
    subject_key,
)
from tvm_dnnfusion.profile.trials_merge import holds_trials, merge_trials

KEY = subject_key("{}", "cpu", 2, "1", "us")
SUBJECT = Subject(KEY, "{}", "cpu", 2, "1", "us", "conv", "0" * 16, 1000)


def trial(params, cost, search="genetic", when="1"):
    return Trial(KEY, params, search, cost, 0.0, 7, "", when, "0")


def test_the_best_is_the_cheapest_that_succeeded(tmp_path):
    with TuningDB(tmp_path / "t.sqlite") as db:
        assert db.best(KEY) is None
        db.begin(SUBJECT)
        for row in (trial("{}", 5.0, OWN, "0"), trial("a", None), trial("b", 4.0), trial("c", 6.0)):
            db.put(row)
        assert db.best(KEY).params == "b"
        assert [t.params for t in db.trials(KEY)] == ["{}", "a", "b", "c"]
        (found,) = db.progress()
        assert (found.trials, found.failed, found.own, found.best) == (4, 1, 5.0, 5.0)
        db.put(trial("b", 5.0))
        assert db.best(KEY).search == OWN, "of two alike the template's own"


@pytest.mark.parametrize(("message", "search", "best", "taken", "with_finds"), [
    ("", "genetic", "a", "{}", "a"),
    (CONFIRMED, "genetic", "a", "{}", "a"),
    (KEPT, "genetic", "a", "a", "a"),
    (LOST, "genetic", "{}", "{}", "{}"),
    (SLOWER, "genetic", "{}", "{}", "{}"),
    ("", IMPORTED, "a", "a", "a"),
    (SLOWER, IMPORTED, "{}", "{}", "{}"),
])  # fmt: skip
def test_a_compile_takes_what_was_compared_or_imported(
    tmp_path, message, search, best, taken, with_finds
):
    with TuningDB(tmp_path / "t.sqlite") as db:
        db.begin(SUBJECT)
        db.put(trial("{}", 5.0, OWN))
        db.put(replace(trial("a", 4.0, search), message=message))
        assert (db.best(KEY).params, db.taken(KEY).params) == (best, taken)
        assert db.progress()[0].best == (4.0 if taken == "a" else 5.0)
    with TuningDB(tmp_path / "t.sqlite", read_only=True, finds=True) as db:
        assert db.taken(KEY).params == with_finds


def test_what_was_counted_needs_no_second_look(tmp_path):
    with TuningDB(tmp_path / "t.sqlite") as db:
        db.begin(replace(SUBJECT, unit=INSTRUCTIONS))
        db.put(trial("{}", 5.0, OWN))
        db.put(trial("a", 4.0))
        assert db.taken(KEY).params == "a"


def test_records_of_another_machine_are_added_and_the_newer_wins(tmp_path):
    here, there = tmp_path / "h.sqlite", tmp_path / "t.sqlite"
    other = Subject(*(("x" * 64,) + astuple(SUBJECT)[1:]))
    with TuningDB(there) as db:
        for subject in (SUBJECT, other):
            db.begin(subject)
        for row in (trial("a", 3.0, when="2"), trial("b", 4.0, when="1"), trial("c", 5.0)):
            db.put(row)
        db.put(replace(trial("d", 1.0), key=other.key))
        db.keep_workload("w", "{}", "{}")
    with TuningDB(here) as db:
        db.begin(SUBJECT)
        db.put(trial("a", 30.0, when="1"))
        db.put(trial("b", 40.0, when="2"))
        report = merge_trials(db, there)
        assert (report.added, report.replaced, report.kept) == (2, 1, 1)
        assert {t.params: t.cost for t in db.trials(KEY)} == {"a": 3.0, "b": 40.0, "c": 5.0}
        assert [t.params for t in db.trials(other.key)] == ["d"] and "w" in db.workloads()
        with pytest.raises(ProfileFileError, match="with itself"):
            merge_trials(db, here)
    assert holds_trials(here) and not holds_trials(tmp_path / "none")


def test_rows_outlive_the_connection_and_are_read_without_writing(tmp_path):
    path = tmp_path / "t.sqlite"
    with TuningDB(path) as db:
        db.begin(SUBJECT)
        db.put(trial("{}", 5.0))
    with TuningDB(path, read_only=True) as db:
        assert db.subjects() == (SUBJECT,) and db.best(KEY).cost == 5.0
        with pytest.raises(ProfileError, match="readonly"):
            db.put(trial("x", 1.0))
    with TuningDB(tmp_path / "none.sqlite", read_only=True) as db:
        assert db.subjects() == ()
    assert not (tmp_path / "none.sqlite").exists()


def test_all_rows_of_a_batch_or_none(tmp_path):
    with TuningDB(tmp_path / "t.sqlite") as db:
        with pytest.raises(sqlite3.IntegrityError):
            db.put_all([SUBJECT], [trial("{}", 1.0), replace(trial("a", 1.0), message=None)])
        assert db.subjects() == () and db.trials(KEY) == ()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_what_is_no_database_is_left_alone(tmp_path, content):
    path = tmp_path / "t.sqlite"
    path.write_bytes(content)
    if not content:
        TuningDB(path).close()  # an empty file becomes one, as SQLite has it
        return
    with pytest.raises(ProfileFileError, match="left as it is"):
        TuningDB(path)
    assert path.read_bytes() == content


def test_databases_of_others_and_of_later_versions_are_refused(tmp_path):
    other, later = tmp_path / "o.sqlite", tmp_path / "l.sqlite"
    with sqlite3.connect(other) as c:
        c.execute("CREATE TABLE x (y)")
    with pytest.raises(ProfileFileError, match="not one of tuning records"):
        TuningDB(other)
    TuningDB(later).close()
    with sqlite3.connect(later) as c:
        c.execute("PRAGMA user_version = 99")
    with pytest.raises(ProfileError, match="format 99"):
        TuningDB(later)


def test_the_key_tells_apart_what_must_not_be_mixed():
    base = ("{}", "cpu", 2, "1", "us")
    other = [("{ }", *base[1:]), ("{}", "gpu", *base[2:]), ("{}", "cpu", 4, "1", "us")]
    other += [("{}", "cpu", 2, "2", "us"), ("{}", "cpu", 2, "1", "instructions")]
    assert len({subject_key(*fields) for fields in [base, *other]}) == 6
