"""Export to JSON lines, and merging of lines and databases."""

from __future__ import annotations

import json
import lzma
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from tests.profile.test_database import row
from tvm_dnnfusion.profile import MergeReport, ProfileDB, ProfileError, export, merge

OLD, NEW = "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"


@pytest.fixture
def db(tmp_path: Path) -> ProfileDB:
    return ProfileDB(tmp_path / "main.sqlite")


def test_export_and_merge_are_inverse(db: ProfileDB, tmp_path: Path) -> None:
    db.put_all((row(1), row(2), row(3)))
    assert export(db, tmp_path / "a.jsonl") == 3
    with ProfileDB(tmp_path / "other.sqlite") as other:
        assert merge(other, tmp_path / "a.jsonl") == MergeReport(3, 0, 0)
        assert other.entries() == db.entries()
        export(other, tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert merge(db, tmp_path / "a.jsonl") == MergeReport(0, 0, 3)


def test_of_two_rows_the_newer_stays(db: ProfileDB, tmp_path: Path) -> None:
    db.put_all((row(1, 1.0, when=OLD), row(2, 1.0, when=NEW)))
    with ProfileDB(tmp_path / "other.sqlite") as other:
        other.put_all((row(1, 2.0, when=NEW), row(2, 2.0, when=OLD), row(3, 2.0)))
    assert merge(db, tmp_path / "other.sqlite") == MergeReport(1, 1, 1)
    assert {e.block: e.latency_us for e in db.entries()} == {
        '{"n":1}': 2.0,
        '{"n":2}': 1.0,
        '{"n":3}': 2.0,
    }


@pytest.mark.parametrize("form", ["database", "lines", "compressed lines"])
def test_what_models_asked_for_comes_along_from_another_machine(
    db: ProfileDB, tmp_path: Path, form: str
) -> None:
    here, there, open_still = row(1, device="here"), row(1, device="there"), row(2, device="there")
    assert here.key != there.key, "rows of different machines never answer for each other"
    db.put(here)
    db.ask("net", [here.key])
    with ProfileDB(tmp_path / "other.sqlite") as other:
        other.put(there)
        other.ask("net", [there.key, open_still.key])
        other.ask("another", [there.key])
        source = other.path
        if form != "database":
            source = tmp_path / "other.jsonl"
            export(other, source)
    if form == "compressed lines":
        packed = tmp_path / "other.jsonl.xz"
        packed.write_bytes(lzma.compress(source.read_bytes()))
        source = packed
    both = {here.key: ("net",), there.key: ("another", "net"), open_still.key: ("net",)}
    for expected in (MergeReport(1, 0, 0), MergeReport(0, 0, 1)):  # again changes nothing
        assert merge(db, source) == expected
        assert db.asked() == both
        assert db.status().models == (("another", 1, 1), ("net", 2, 3))
    assert dict(db.status().devices) == {"here": 1, "there": 1}


def test_a_database_of_a_version_without_questions_is_merged(db: ProfileDB, tmp_path: Path) -> None:
    with ProfileDB(tmp_path / "old.sqlite") as old:
        old.put(row(1))
    raw = sqlite3.connect(tmp_path / "old.sqlite")
    raw.execute("DROP TABLE asked")
    raw.commit()
    raw.close()
    db.ask("net", [row(1).key])
    assert merge(db, tmp_path / "old.sqlite") == MergeReport(1, 0, 0)
    assert db.status().models == (("net", 1, 1),)


def lines(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def record(entry: object) -> dict[str, object]:
    return {f: getattr(entry, f) for f in type(entry).__dataclass_fields__}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latency_us": -1.0}, "latency"),
        ({"device": "another"}, "hash"),
        ({"samples": 0}, "samples"),
        ({"latency_us": "fast"}, "line 2"),
        ({"key": 3}, "line 2"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_taken(
    db: ProfileDB, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    source = lines(tmp_path, record(row(1)), {**record(row(2)), **change})
    with pytest.raises(ProfileError, match=message) as error:
        merge(db, source)
    assert "line 2" in str(error.value)
    assert len(db) == 0


def test_what_cannot_be_merged(db: ProfileDB, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no such file"):
        merge(db, tmp_path / "absent")
    with pytest.raises(ProfileError, match="line 1"):
        merge(db, lines(tmp_path, "not json"))
    with pytest.raises(ProfileError, match="itself"):
        merge(db, db.path)


def test_a_damaged_source_is_neither_repaired_nor_renamed(db: ProfileDB, tmp_path: Path) -> None:
    source = tmp_path / "bad.sqlite"
    source.write_bytes(b"SQLite format 3\0" + b"\xff" * 4000)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(ProfileError, match="cannot be read"):
        merge(db, source)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_an_export_that_fails_leaves_the_old_file(
    db: ProfileDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    db.put_all((row(1), replace(row(2), latency_us=3.0)))

    def fail(_: object) -> bytes:
        raise OSError("disk full")

    monkeypatch.setattr("tvm_dnnfusion.profile.exchange.msgspec.json.encode", fail)
    with pytest.raises(ProfileError, match=r"cannot write .*out\.jsonl: disk full"):
        export(db, target)
    assert target.read_text() == "old"
    assert not list(tmp_path.glob(".out*"))
    with pytest.raises(ProfileError, match="cannot write"):
        export(db, tmp_path / "absent" / "out.jsonl")
