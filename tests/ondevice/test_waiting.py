"""The bench of many models: its options, and how long it waits for which device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import phone as zoo_bench
from tvm_dnnfusion.devices.sessions import LostError, UnreachableError
from tvm_dnnfusion.ondevice import Report
from tvm_dnnfusion.ondevice.records import Result, to_json

REPORT = Report("k", "attention", "d", "local", {}, "aarch64", "", 2, 1, "")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that only sleeping moves."""
    made = SimpleNamespace(now=1000.0)

    def sleep(seconds: float) -> None:
        made.now += seconds

    fake = SimpleNamespace(monotonic=lambda: made.now, sleep=sleep)
    monkeypatch.setattr(zoo_bench, "time", fake)
    return made


def words(folder: Path, *more: str, names: str = "attention") -> list[str]:
    return ["--device", "rpc://h:1", "--target", "cortex-a53", "--models", names, "--output",
            str(folder), *more]  # fmt: skip


def play(monkeypatch: pytest.MonkeyPatch, *ends: object) -> Iterator[object]:
    """Runs of a model that end so; a number is that of the samples when the device was lost."""
    rest = iter(ends)

    def once(name: str, options: object, file: Path, answered: Callable[[], None]) -> Report:
        end = next(rest)
        if isinstance(end, UnreachableError):
            raise end
        answered()
        if isinstance(end, int):
            partial = Result("OurB", 1, 1, problem="lost", samples_us=(1.0,) * end)
            file.write_text(to_json(replace(REPORT, results=(partial,))), encoding="utf-8")
        if not isinstance(end, Report):
            raise LostError("gone")
        file.write_text(to_json(REPORT), encoding="utf-8")
        return REPORT

    monkeypatch.setattr(zoo_bench, "_once", once)
    return rest


def test_many_models_wait_for_a_device_that_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: SimpleNamespace
) -> None:
    """The column under way is taken again; a device that stays away ends it with what is done."""
    ends = play(monkeypatch, 0, UnreachableError("not back"), REPORT)
    assert zoo_bench.main(words(tmp_path)) == 0
    assert next(ends, None) is None
    play(monkeypatch, REPORT, 0)
    both = words(tmp_path, "--wait", "0", names="attention,se_block")
    assert zoo_bench.main(both) == zoo_bench.AWAY
    assert "| attention |" in (tmp_path / "phone.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("poll", [1, 7, 1000])
def test_a_device_that_never_answers_is_waited_for_as_long_as_asked(
    poll: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: SimpleNamespace
) -> None:
    play(monkeypatch, *[UnreachableError("nobody listens")] * 1000)
    given = words(tmp_path, "--poll", str(poll), "--wait", "600")
    assert zoo_bench.main(given) == zoo_bench.AWAY
    assert clock.now == 1600.0


def test_waiting_begins_again_when_the_device_has_answered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: SimpleNamespace
) -> None:
    away = [UnreachableError("away")] * 9
    play(monkeypatch, 0, *away, 0, *away, REPORT)
    assert zoo_bench.main(words(tmp_path, "--poll", "10", "--wait", "101")) == 0


def test_losses_without_a_new_sample_are_the_model_s_doing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: SimpleNamespace
) -> None:
    ends = play(monkeypatch, *[0] * (zoo_bench.LOSSES + 1), REPORT)
    assert zoo_bench.main(words(tmp_path)) == zoo_bench.AWAY
    assert next(ends) is REPORT
    play(monkeypatch, *range(3, 40), REPORT)  # a sample more each time
    assert zoo_bench.main(words(tmp_path)) == 0


def test_an_interrupt_of_many_models(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def once(*_: object) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo_bench, "_once", once)
    assert zoo_bench.main(words(tmp_path)) == zoo_bench.STOPPED
    assert f"interrupted; what is done is kept in {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("samples", "0", "0 is not in the range x>=3"),
        ("samples", "-5", "-5 is not in the range x>=3"),
        ("samples", "x", "'x' is not a valid integer"),
        ("timeout", "0", "not in the range x>0"),
        ("timeout", "-3", "not in the range x>0"),
        ("timeout", "inf", "not a finite number"),
        ("poll", "-1", "not in the range x>=0"),
        ("wait", "-1", "not in the range x>=0"),
        ("wait", "nan", "not a finite number"),
        ("threads", "0", "0 is not in the range x>=1"),
        ("max-time", "0", "not in the range x>0"),
        ("cool-below", "nan", "not a finite number"),
    ],
)
def test_numbers_out_of_their_ranges(
    option: str, value: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        zoo_bench.main(words(tmp_path, f"--{option}={value}"))
    told = capsys.readouterr().err
    assert ended.value.code == 2 and f"--{option}" in told and said in told


def test_float16_where_the_device_has_none_is_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    with pytest.raises(SystemExit) as ended:
        zoo_bench.main(words(folder, "--float16"))
    assert ended.value.code == 2 and "does not compute in float16" in capsys.readouterr().err
    assert not folder.exists()
