"""The latency table: fair turns, ratios, refusal of wrong outputs, files whole or absent."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from benchmarks import latency, peers, rounds, tables
from benchmarks.peers import Session
from benchmarks.rounds import Timing
from benchmarks.tables import Report, Result

MACHINE = {
    "cpu": "a cpu",
    "threads": 2,
    "peak_gflops": 100.0,
    "bandwidth_gbs": 10.0,
    "load_average": 0.1,
}


def _timing(ms: float, count: int = 5) -> Timing:
    return Timing(ms, ms, ms, count, count)


def _report(*results: Result) -> Report:
    return Report(MACHINE, {"apache-tvm": "0.27"}, 5, results)


def _row(model: str, ours: float, theirs: float) -> tuple[Result, Result]:
    return (
        Result(model, "dnnfusion", _timing(ours), flops=100_000_000),
        Result(model, "ort", _timing(theirs)),
    )


def test_speedups_and_their_geometric_mean() -> None:
    report = _report(*_row("a", 2.0, 4.0), *_row("b", 4.0, 2.0), *_row("c", 1.0, 8.0))
    assert report.speedup("a", "ort") == 2.0
    assert report.speedup("b", "ort") == 0.5
    assert report.mean_speedup("ort") == pytest.approx((2 * 0.5 * 8) ** (1 / 3))
    assert report.mean_speedup("zero") is None


def test_markdown_has_a_row_per_model_and_says_what_is_missing() -> None:
    slow = Result("a", "zero", _timing(300.0, count=3))
    wrong = Result("b", "zero", None, problem="outputs deviate from ONNX Runtime's by 0.5")
    text = tables.to_markdown(_report(*_row("a", 2.0, 4.0), slow, *_row("b", 4.0, 2.0), wrong))
    lines = text.splitlines()
    assert next(line for line in lines if line.startswith("| a |")) == (
        "| a | 2 | 300\\* | 4 | 50% | 150.00x | 2.00x |"
    )
    assert next(line for line in lines if line.startswith("| b |")) == (
        "| b | 4 | failed | 2 | 25% |  | 0.50x |"
    )
    assert "| geometric mean |  |  |  |  | 150.00x | 1.00x |" in lines
    assert "a/zero 3" in text
    assert "- b, zero: outputs deviate" in text


def test_a_busy_machine_is_named() -> None:
    quiet = _report(*_row("a", 2.0, 4.0))
    busy = Report({**MACHINE, "load_average": 3.2}, quiet.versions, 5, quiet.results)
    assert "busy" not in tables.to_markdown(quiet)
    assert "load average 3.2" in tables.to_markdown(busy)


def test_json_holds_everything() -> None:
    data = json.loads(tables.to_json(_report(*_row("a", 2.0, 4.0))))
    assert data["geometric_mean_speedup"] == {"ort": 2.0}
    assert [r["peer"] for r in data["results"]] == ["dnnfusion", "ort"]
    assert data["machine"] == MACHINE


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("in the way", encoding="utf-8")
    good = tmp_path / "good.json"
    with pytest.raises(OSError):
        tables.write({good: "{}", blocker / "bad.md": "text"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]
    tables.write({good: "{}"})
    assert good.read_text(encoding="utf-8") == "{}"


def _sleeper(name: str, seconds: float, log: list[str]) -> Session:
    def run() -> None:
        log.append(name)
        time.sleep(seconds)

    return Session(run, list)


def test_turns_interleave_and_a_slow_peer_gets_fewer_of_them() -> None:
    log: list[str] = []
    sessions = {"quick": _sleeper("quick", 0.01, log), "slow": _sleeper("slow", 0.25, log)}
    found = rounds.measure(sessions, rounds=5, seconds=1.0)
    assert found["slow"].rounds == rounds.MIN_ROUNDS
    assert rounds.MIN_ROUNDS <= found["quick"].rounds <= 5
    assert found["slow"].median_ms == pytest.approx(250, rel=0.5)
    assert log.count("slow") == 2 + found["slow"].runs, "two to warm up, then one per turn"
    last_warm = [i for i, name in enumerate(log) if name == "slow"][1]
    turns = [name for name, _ in itertools.groupby(log[last_warm + 1 :])]
    assert turns.count("quick") >= 2, "turns of the two alternate"


def test_each_round_begins_with_another_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(rounds, "_warm", lambda session: 1.0)
    sessions = {name: _sleeper(name, 0.0, log) for name in "abc"}
    rounds.measure(sessions, rounds=3, seconds=100.0)
    assert "".join(log) == "abc" + "bca" + "cab"


def test_a_turn_counts_with_its_median() -> None:
    found = rounds.summarize([[0.001, 0.002, 0.9], [0.004, 0.004], [0.001]])
    assert found.median_ms == pytest.approx(2.0)
    assert found.min_ms == pytest.approx(1.0)
    assert (found.rounds, found.runs) == (3, 6)


def test_difference_is_relative_and_never_lets_nan_or_a_shape_pass() -> None:
    ones = np.full((2, 3), 10.0, np.float32)
    assert latency.difference([ones], [ones]) == 0.0
    assert latency.difference([ones + 0.1], [ones]) == pytest.approx(0.01, rel=1e-3)
    assert latency.difference([ones[0]], [ones]) == math.inf
    nan = ones.copy()
    nan[0, 0] = np.nan
    assert not latency.difference([nan], [ones]) <= latency.MAX_DIFFERENCE
    assert not latency.difference([ones], [ones, ones]) <= latency.MAX_DIFFERENCE


def _spoilt(spoil: Callable[[list[np.ndarray]], list[np.ndarray]]) -> peers.Prepare:
    def prepare(model, feed, count):
        honest = peers.prepare_ort(model, feed, count)
        return Session(honest.run, lambda: spoil(honest.outputs()))

    return prepare


def test_a_wrong_peer_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.PEERS, "zero", _spoilt(lambda outs: [o * 1.01 for o in outs]))
    options = latency._parser().parse_args(["--rounds", "3", "--seconds", "0.1"])
    good, bad = latency.run_model("attention", ("zero", "ort"), options)
    assert (good.peer, good.problem, good.difference) == ("ort", "", 0.0)
    assert good.timing is not None and good.timing.rounds == 3
    assert bad.timing is None and "deviate" in bad.problem


def test_a_failing_peer_is_reported_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Session:
        raise RuntimeError("no such instruction")

    monkeypatch.setitem(peers.PEERS, "dnnfusion", broken)
    options = latency._parser().parse_args(["--rounds", "3", "--seconds", "0.1"])
    found = {r.peer: r for r in latency.run_model("attention", ("dnnfusion", "ort"), options)}
    assert "RuntimeError" in found["dnnfusion"].problem
    assert "no such instruction" in found["dnnfusion"].problem
    assert found["ort"].timing is not None


def test_zero_agrees_with_onnx_runtime() -> None:
    options = latency._parser().parse_args(["--rounds", "3", "--seconds", "0.1"])
    found = {r.peer: r for r in latency.run_model("attention", ("zero", "ort"), options)}
    assert found["zero"].problem == ""
    assert 0 < found["zero"].difference < 1e-4


@pytest.mark.parametrize("argument", ["--models=squeezenet,nonsense", "--peers=", "--peers=x"])
def test_unknown_names_are_usage_errors(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        latency.main([argument])
    assert stop.value.code == 2
    assert "choose from" in capsys.readouterr().err
