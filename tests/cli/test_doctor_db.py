"""doctor and db: what they find, and what they say of broken things."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_dnnfusion.cli import checks
from tvm_dnnfusion.cli.checks import Line, State
from tvm_dnnfusion.profile.database import ProfileDB
from tvm_dnnfusion.profile.keys import entry_key
from tvm_dnnfusion.profile.records import Entry

CORRUPT = b"SQLite format 3\0" + b"garbage" * 99


def entry(block: str, latency_us: float = 12.5) -> Entry:
    key = entry_key(block, "test-cpu", 2, "1")
    return Entry(
        key,
        block,
        "test-cpu",
        2,
        "1",
        latency_us,
        0.01,
        10,
        "2026-01-01T00:00:00.000000+00:00",
        "0.1.0",
    )


def test_doctor_passes_where_the_tests_run(call):
    answer = call("doctor", "--json")
    assert answer.code == 0, answer.out
    found = {c["name"]: c for c in answer.json["checks"]}
    for name in ("python", "apache-tvm", "llvm", "device", "threads", "compiler", "build", "cache"):
        assert found[name]["state"] == "ok", found[name]


def test_doctor_exits_with_3_and_says_how_to_mend(call, monkeypatch):
    broken = [Line("a", State.OK, "fine"), Line("b", State.FAIL, "broken", "turn it off and on")]
    monkeypatch.setattr("tvm_dnnfusion.cli.doctor.all_checks", lambda: broken)
    answer = call("doctor")
    assert answer.code == 3
    assert "fail  b: broken\n      mend it: turn it off and on" in answer.out
    assert not call("doctor", "--json").json["ok"]


def test_warnings_do_not_fail(call, monkeypatch):
    monkeypatch.setattr(
        "tvm_dnnfusion.cli.doctor.all_checks", lambda: [Line("a", State.WARN, "hm", "see")]
    )
    assert call("doctor").code == 0


def test_a_check_that_breaks_is_a_failure_of_its_own(monkeypatch):
    def explode():
        raise RuntimeError("bang")
        yield

    monkeypatch.setattr(checks, "memory", explode)
    lines = {line.name: line for line in checks.all_checks()}
    assert lines["memory"].state is State.FAIL
    assert "bang" in lines["memory"].text
    assert lines["cache"].state is not None


def test_a_cache_that_cannot_be_written_is_found(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DNNFUSION_CACHE", str(tmp_path / "file" / "sub"))
    (line,) = checks.cache()
    assert line.state is State.FAIL
    assert "DNNFUSION_CACHE" in line.mend


def test_a_damaged_database_is_seen_and_left_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("DNNFUSION_CACHE", str(tmp_path))
    path = tmp_path / "profile.sqlite"
    path.write_bytes(b"SQLite format 3\0" + b"garbage" * 99)
    (line,) = checks.database()
    assert line.state is State.WARN
    assert [p.name for p in tmp_path.iterdir()] == ["profile.sqlite"]


def test_no_compiler_is_a_failure(monkeypatch):
    monkeypatch.setattr("tvm.support.cc.get_cc", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name, **kwargs: None)
    (line,) = checks.compiler()
    assert line.state is State.FAIL


def test_status_of_an_empty_database(call, tmp_path):
    answer = call("db", "status", "--json")
    assert answer.code == 0
    assert answer.json["rows"] == 0
    assert answer.json["path"] == str(tmp_path / "cache" / "profile.sqlite")


def test_export_and_merge_bring_rows_across(call, tmp_path):
    with ProfileDB(tmp_path / "a.sqlite") as db:
        db.put(entry('["one"]'))
        db.put(entry('["two"]'))
    answer = call("db", "export", tmp_path / "rows.jsonl", "--db", tmp_path / "a.sqlite", "--json")
    assert answer.json == {"file": str(tmp_path / "rows.jsonl"), "rows": 2}
    merged = call("db", "merge", tmp_path / "rows.jsonl", "--json")
    assert merged.json[0]["added"] == 2
    assert call("db", "status", "--json").json["devices"] == {"test-cpu": 2}
    again = call("db", "merge", tmp_path / "rows.jsonl", tmp_path / "a.sqlite", "--json").json
    assert [(r["added"], r["kept"]) for r in again] == [(0, 2), (0, 2)]


def test_merging_nonsense_is_an_error_and_changes_nothing(call, tmp_path):
    (tmp_path / "rows.jsonl").write_text("{]\n")
    answer = call("db", "merge", tmp_path / "rows.jsonl")
    assert answer.code == 2
    assert "line 1" in answer.err
    assert call("db", "merge", tmp_path / "none").code == 2
    (tmp_path / "garbage.db").write_bytes(CORRUPT)
    assert call("db", "merge", tmp_path / "garbage.db").code == 2
    assert call("db", "status", "--json").json["rows"] == 0


@pytest.mark.parametrize("verb", [["status"], ["export", "rows.jsonl"]])
def test_looking_at_a_corrupt_database_says_so_and_leaves_it(call, tmp_path, verb):
    path = tmp_path / "p.sqlite"
    path.write_bytes(CORRUPT)
    answer = call("db", *verb, "--db", path, "--json")
    assert answer.code == 3
    assert "damaged" in answer.err and "sets it aside" in answer.err
    assert [p.name for p in tmp_path.iterdir()] == ["p.sqlite"]


def test_merging_into_a_corrupt_database_sets_it_aside(call, tmp_path):
    with ProfileDB(tmp_path / "good.sqlite") as db:
        db.put(entry('["one"]'))
    path = tmp_path / "p.sqlite"
    path.write_bytes(CORRUPT)
    assert call("db", "merge", tmp_path / "good.sqlite", "--db", path).code == 0
    answer = call("db", "status", "--db", path, "--json").json
    assert answer["rows"] == 1
    (aside,) = answer["set_aside"]
    assert Path(aside).read_bytes() == CORRUPT


@pytest.mark.parametrize("verb", [["status"], ["export", "rows.jsonl"], ["merge", "a.jsonl"]])
def test_a_file_that_is_no_database_is_refused_and_left_alone(call, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").touch()
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights" * 999)
    answer = call("db", *verb, "--db", path)
    assert answer.code == 2
    assert f"{path} is not a profile database" in answer.err
    assert path.read_bytes() == b"weights" * 999
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "model.onnx"]


def test_export_to_a_place_that_cannot_be_written_names_only_that_place(call, tmp_path):
    (tmp_path / "folder").mkdir()
    for place, words in (("absent/rows.jsonl", "No such file"), ("folder", "Is a directory")):
        answer = call("db", "export", tmp_path / place)
        assert answer.code == 2
        assert f"error: cannot write {tmp_path / place}: {words}" in answer.err
        assert "." not in answer.err.split(": ")[-1]


def test_status_makes_no_file(call, tmp_path):
    assert call("db", "status", "--db", tmp_path / "none.sqlite").code == 0
    assert list(tmp_path.iterdir()) == []
