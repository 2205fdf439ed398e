"""The profile database: rows, damage, other programs' files, speed."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tvm_dnnfusion.profile import Entry, ProfileDB, ProfileError, entry_key
from tvm_dnnfusion.profile.database import utc_now
from tvm_dnnfusion.profile.store import FORMAT


def row(number: int, latency_us: float = 5.0, device: str = "d", when: str = "") -> Entry:
    """A valid row; `number` tells blocks apart."""
    block = f'{{"n":{number}}}'
    key = entry_key(block, device, 2, "1")
    return Entry(key, block, device, 2, "1", latency_us, 0.01, 7, when or utc_now(), "0.1.0")


def test_a_row_comes_back_as_it_was_written_and_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "p.sqlite"
    with ProfileDB(path) as db:
        db.put(row(1))
        assert db.get(row(1).key) is not None
        assert db.get("0" * 64) is None
        stored = db.get(row(1).key)
    with ProfileDB(path) as again:
        assert again.get(row(1).key) == stored
        assert len(again) == 1


def test_a_newer_row_replaces_the_old(tmp_path: Path) -> None:
    with ProfileDB(tmp_path / "p.sqlite") as db:
        db.put(row(1, 5.0))
        db.put(row(1, 4.0))
        assert [e.latency_us for e in db.entries()] == [4.0]


def test_a_folder_holds_the_default_file(tmp_path: Path) -> None:
    with ProfileDB(tmp_path) as db:
        assert db.path == tmp_path / "profile.sqlite"


def test_status(tmp_path: Path) -> None:
    with ProfileDB(tmp_path / "p.sqlite") as db:
        assert (db.status().rows, db.status().newest) == (0, None)
        db.put_all((row(1), row(2, device="e"), row(3, when="2999-01-01T00:00:00+00:00")))
        status = db.status()
    assert (status.rows, status.devices, status.schedules) == (3, (("d", 2), ("e", 1)), (("1", 3),))
    assert status.newest == "2999-01-01T00:00:00+00:00"
    assert status.file_bytes > 0 and status.set_aside == ()


def test_many_rows_are_all_or_none(tmp_path: Path) -> None:
    with ProfileDB(tmp_path / "p.sqlite") as db:
        bad = replace(row(2), latency_us=None)  # type: ignore[arg-type]
        with pytest.raises(ProfileError):
            db.put_all((row(1), bad))
        assert len(db) == 0
        db.put(row(1))
        assert len(db) == 1


def damage(path: Path, how: str) -> bytes:
    """Damage the file and return what it holds then."""
    data = path.read_bytes()
    if how == "not a database":
        data = b"something else entirely" * 100
    elif how == "truncated":
        data = data[: len(data) // 2 + 100]
    else:
        middle = 4096
        data = data[:middle] + b"\xff" * 8192 + data[middle + 8192 :]
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("how", ["not a database", "truncated", "overwritten"])
def test_a_damaged_file_is_set_aside_with_a_warning(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "p.sqlite"
    with ProfileDB(path) as db:
        db.put_all(tuple(row(i) for i in range(400)))
    before = damage(path, how)
    with caplog.at_level(logging.WARNING), ProfileDB(path) as db:
        assert len(db) == 0
        db.put(row(1))
        aside = db.status().set_aside
    assert len(aside) == 1 and aside[0].read_bytes() == before
    assert str(aside[0]) in caplog.text and "set aside" in caplog.text
    with ProfileDB(path) as db:
        assert len(db) == 1
        assert len(db.status().set_aside) == 1


def test_damage_while_open_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "p.sqlite"
    with ProfileDB(path) as db:
        db.put_all(tuple(row(i) for i in range(40_000)))  # more than SQLite keeps in memory
    with ProfileDB(path) as db:
        before = path.read_bytes()[:4096].ljust(path.stat().st_size, b"\xff")
        path.write_bytes(before)
        assert db.entries() == ()
        db.put(row(7))
        assert len(db) == 1
        assert db.status().set_aside[0].read_bytes() == before
    assert "set aside" in caplog.text


def test_a_second_process_that_saw_the_damage_leaves_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "p.sqlite"
    path.write_bytes(b"damaged")
    slow = ProfileDB.__new__(ProfileDB)
    first = ProfileDB(path)
    first.put(row(1))
    slow.__init__(path)  # type: ignore[misc]
    slow._inode = -1
    slow._set_aside("seen before the first process mended it")
    assert len(first.status().set_aside) == 1
    assert slow.get(row(1).key) is not None


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_never_was_a_database_is_left_alone(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08weights" * 1000)
    before = path.read_bytes()
    with pytest.raises(ProfileError, match=r"model\.onnx is not a profile database") as error:
        ProfileDB(path, read_only=read_only)
    assert error.value.exit_code == 2
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_a_damaged_database_of_any_name_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "measurements"
    with ProfileDB(path) as db:
        db.put_all(tuple(row(i) for i in range(400)))
    damage(path, "overwritten")
    with ProfileDB(path) as db:
        assert len(db) == 0 and len(db.status().set_aside) == 1


@pytest.mark.parametrize("how", ["not a database", "truncated", "overwritten"])
def test_looking_reports_damage_and_renames_nothing(tmp_path: Path, how: str) -> None:
    path = tmp_path / "p.sqlite"
    with ProfileDB(path) as db:
        db.put_all(tuple(row(i) for i in range(400)))
    before = damage(path, how)
    with pytest.raises(ProfileError, match=r"damaged .* sets it aside"):
        ProfileDB(path, read_only=True)
    assert path.read_bytes() == before and not list(tmp_path.glob("*damaged*"))


def test_looking_reads_rows_and_makes_nothing(tmp_path: Path) -> None:
    with ProfileDB(tmp_path / "absent.sqlite", read_only=True) as db:
        assert (len(db), db.status().file_bytes, list(tmp_path.iterdir())) == (0, 0, [])
    with ProfileDB(tmp_path / "p.sqlite") as db:
        db.put(row(1))
        with ProfileDB(tmp_path / "p.sqlite", read_only=True) as other:
            assert other.get(row(1).key) == db.get(row(1).key)
            with pytest.raises(ProfileError, match="readonly"):
                other.put(row(2))


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "p.sqlite"
    path.touch()
    with ProfileDB(path) as db:
        db.put(row(1))
        assert len(db) == 1 and db.status().set_aside == ()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.sqlite"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE measurement (x)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(ProfileError, match="another program"):
        ProfileDB(path)
    assert path.read_bytes() == before


def test_a_later_format_is_refused_not_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "p.sqlite"
    ProfileDB(path).close()
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version = {FORMAT + 1}")
    raw.close()
    with pytest.raises(ProfileError, match=f"format {FORMAT + 1}"):
        ProfileDB(path)
    assert not list(tmp_path.glob("*damaged*"))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProfileError, match="cannot make its folder"):
        ProfileDB(tmp_path / "file" / "p.sqlite")


def test_a_lookup_takes_microseconds(tmp_path: Path) -> None:
    with ProfileDB(tmp_path / "p.sqlite") as db:
        db.put_all(tuple(row(i) for i in range(20_000)))
        keys = [row(i).key for i in range(0, 20_000, 20)]
        db.get(keys[0])
        started = time.perf_counter()
        assert all(db.get(k) is not None for k in keys)
        mean_us = (time.perf_counter() - started) / len(keys) * 1e6
    assert mean_us < 500, f"{mean_us:.0f} us per lookup"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_opens_the_file_for_itself(tmp_path: Path) -> None:
    with ProfileDB(tmp_path / "p.sqlite") as db:
        db.put(row(1))
        child = os.fork()
        if child == 0:
            try:
                db.put(row(2))
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        db.put(row(3))
        assert len(db) == 3
