"""Tuning records and the profile database in a bench on a device."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from benchmarks import phone as zoo_bench
from benchmarks.models import load
from tests.cli.conftest import call  # noqa: F401  # a fixture
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.ondevice import VARIANTS
from tvm_dnnfusion.ondevice.known import known
from tvm_dnnfusion.profile.database import ProfileDB
from tvm_dnnfusion.profile.records import Entry
from tvm_dnnfusion.profile.trials import KEPT, TIME, Subject, Trial, TuningDB
from tvm_dnnfusion.schedules.dispatch import VERSION

BUILD = importlib.import_module("tvm_dnnfusion.ondevice.build")
SPEC = registry.get("cortex-a53")
SUBJECT = Subject("s", "form", SPEC.name, 4, str(VERSION), TIME, "matmul", "w", 1)
OWN = Trial("s", "{}", "template", 9.0, 0.0, 3, "", "2026", "0")
FOUND = Trial("s", '{"tile": 4}', "genetic", 1.0, 0.0, 3, KEPT, "2026", "0")
ENTRY = Entry("e", "[]", SPEC.name, 4, "1", 5.0, 0.0, 3, "2026", "0")


def test_what_they_hold_for_the_device_decides_a_measurement(tmp_path: Path) -> None:
    with (
        TuningDB(tmp_path / "t.sqlite", finds=True) as records,
        ProfileDB(tmp_path / "p.sqlite") as database,
    ):
        assert known(SPEC, None, None) == known(SPEC, records, database) == {}
        records.put_all([replace(SUBJECT, device="another")], [OWN])
        database.put(replace(ENTRY, device="another"))
        assert known(SPEC, records, database) == {}, "rows of another device"
        records.put_all([SUBJECT], [OWN, FOUND])
        tuned = known(SPEC, records, database)
        assert list(tuned) == ["tuning records"]
        database.put(ENTRY)
        both = known(SPEC, records, database)
        assert both["tuning records"] == tuned["tuning records"]
        database.put(replace(ENTRY, when="2027"))
        assert known(SPEC, records, database) == both, "the same figures"
        database.put(replace(ENTRY, latency_us=6.0))
        records.put(replace(FOUND, params='{"tile": 8}', cost=0.5))
        after = known(SPEC, records, database)
        assert not set(after.values()) & set(both.values())


@pytest.mark.parametrize("name", VARIANTS)
def test_records_are_for_all_columns_and_the_profile_for_the_planner_that_asks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def compile_model(*_: object, **given: Any) -> None:
        seen.update(given)
        raise ZeroDivisionError

    monkeypatch.setattr(BUILD, "compile_model", compile_model)
    with TuningDB(tmp_path / "t.sqlite") as records, ProfileDB(tmp_path / "p.sqlite") as database:
        with pytest.raises(ZeroDivisionError):
            BUILD.build(None, VARIANTS[name], SPEC, tmp_path, records=records, database=database)
        assert seen["tuning_records"] is records
        assert seen["profile"] is (database if name == "DNNF" else None)


@pytest.mark.parametrize(
    ("option", "said"),
    [("--db", "profile database"), ("--tuning-records", "there are no tuning records at")],
)
def test_a_file_that_is_not_there_is_said_before_any_work(
    option: str, said: str, call: Callable, tmp_path: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("a file where a folder would have to be")
    model, absent = tmp_path / "m.onnx", tmp_path / "file" / "x.sqlite"
    onnx.save(load("attention"), str(model))
    where = ("--device", "rpc://127.0.0.1:1", "--target", "cortex-a53", option, str(absent))
    answer = call("bench", model, *where, "-o", tmp_path / "out")
    usual = call("optimize", model, option, absent, "-o", tmp_path / "lib")
    assert said in answer.err and str(absent) in answer.err
    assert answer.code == usual.code != 0
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as ended:
        zoo_bench.main([*where, "--models", "attention", "--output", str(tmp_path / "out")])
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_float16_where_the_device_has_none_leaves_no_folder(
    call: Callable, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    model = tmp_path / "m.onnx"
    onnx.save(load("attention"), str(model))
    words = ("--device", "rpc://127.0.0.1:1", "--target", "cortex-a53", "-o", tmp_path / "out")
    answer = call("bench", model, *words, "--float16")
    assert answer.code == 2 and "does not compute in float16" in answer.err
    assert call("bench", model, *words).code == 3, "nobody listens"
    assert not (tmp_path / "out").exists()
