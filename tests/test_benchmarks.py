"""The latency table: fair turns, ratios, refusal of wrong outputs, files whole or absent."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from benchmarks import (
    latency,
    markdown,
    memory,
    peers,
    rounds,
    slowest,
    subject,
    tables,
    vector_math,
)
from benchmarks.built import Net
from benchmarks.machine import ProcessorTime, share_of_others
from benchmarks.peers import Session
from benchmarks.rounds import Timing
from benchmarks.tables import Report, Result, Slowest
from tvm_dnnfusion.runtime.bench import KernelTime

MACHINE = {
    "cpu": "a cpu",
    "threads": 2,
    "peak_gflops": 100.0,
    "bandwidth_gbs": 10.0,
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
    assert report.ratio("a", "ort") == 2.0
    assert report.ratio("b", "ort") == 0.5
    assert report.mean_ratio("ort") == pytest.approx((2 * 0.5 * 8) ** (1 / 3))
    assert report.mean_ratio("zero") is None


def test_markdown_has_a_row_per_model_and_says_what_is_missing() -> None:
    slow = Result("a", "zero", _timing(300.0, count=3))
    wrong = Result("b", "zero", None, problem="outputs deviate from ONNX Runtime's by 0.5")
    text = markdown.to_markdown(_report(*_row("a", 2.0, 4.0), slow, *_row("b", 4.0, 2.0), wrong))
    lines = text.splitlines()
    assert next(line for line in lines if line.startswith("| a |")) == (
        "| a | 2 | 4 | 300\\* | 50% | 2.00x | 2.00x | 150.00x |"
    )
    assert next(line for line in lines if line.startswith("| b |")) == (
        "| b | 4 | 2 | failed | 25% | 0.50x | 0.50x |  |"
    )
    assert "| geometric mean |  |  |  |  | 1.00x | 1.00x | 150.00x |" in lines
    assert "a/zero 3" in text
    assert "- b, zero: outputs deviate" in text


def test_times_taken_on_a_busy_machine_are_named() -> None:
    quiet, rival = _row("a", 2.0, 4.0)
    busy = replace(rival, timing=replace(_timing(4.0), others=0.32))
    assert "an unknown share of" in markdown.to_markdown(_report(quiet, rival))
    assert "Disturbed: a/ort 32%." in markdown.to_markdown(_report(quiet, busy))


def test_the_share_of_others_is_what_this_process_did_not_spend() -> None:
    turns = [ProcessorTime(2.0, 1.0, 1.0), ProcessorTime(2.0, 2.0, 1.0)]
    assert share_of_others(turns) == 0.25
    assert share_of_others([]) is None
    assert share_of_others([ProcessorTime(1.0, 0.1, 0.2)]) == 0.0, "rough ticks are no gift"


def test_processor_time_tells_own_work_from_that_of_others() -> None:
    before = ProcessorTime.now()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    spent = ProcessorTime.now().since(before)
    assert spent.own == pytest.approx(0.3, abs=0.2)
    assert spent.all == 0.0 or spent.all + 0.05 > spent.spent > 0.2, "ticks of 0.01"


def test_the_best_rival_counts_and_variants_do_not() -> None:
    report = _report(
        *_row("a", 2.0, 6.0),
        Result("a", "mnn", _timing(3.0)),
        Result("a", "fuseops", _timing(2.5)),
        *_row("b", 2.0, 1.0),
        Result("b", "mnn", None, problem="no such operator"),
    )
    assert (report.best_rival("a"), report.best_rival("b")) == ("mnn", "ort")
    assert report.mean_against_best() == pytest.approx((1.5 * 0.5) ** 0.5)
    lines = markdown.to_markdown(report).splitlines()
    assert "| a | 2 | 6 | 3 | 50% | 1.50x | 3.00x | 1.50x |" in lines
    assert "| b | 2 | 1 | failed | 50% | 0.50x | 0.50x |  |" in lines


def test_the_breakdown_shows_what_each_step_brings() -> None:
    times = {"unfused": 12.0, "rewritten": 8.0, "fuseops": 3.0, "dnnfusion": 2.0}
    report = _report(*(Result("a", peer, _timing(ms)) for peer, ms in times.items()))
    lines = markdown.to_markdown(report).splitlines()
    assert "| a | 12 | 8 | 3 | 2 | 1.50x | 4.00x | 1.50x |" in lines


def test_errors_memory_and_the_slowest_kernel_have_their_tables() -> None:
    worst = Slowest("b001_conv", 3, 1500.0, 0.75, 0.4)
    ours = Result("a", "dnnfusion", _timing(2), error=1.234e-6, memory_mb=99.6, slowest=worst)
    lines = markdown.to_markdown(_report(ours, Result("a", "ort", _timing(3)))).splitlines()
    assert "| a | 1.2e-06 |  | 100 |  | 0 |" in lines
    assert "| a | `b001_conv` | 3 | 1.5 | 75% | 40% |" in lines


def test_json_is_read_back_and_merged_by_model_and_peer() -> None:
    worst = Slowest("k", 1, 1.0, 0.5, 0.5)
    first = _report(*_row("a", 2.0, 4.0), Result("a", "mnn", None, problem="failed"))
    again = Report(
        {**MACHINE, "peak_gflops": 110.0},
        {"MNN": "3"},
        3,
        (Result("a", "mnn", _timing(5.0), slowest=worst), *_row("b", 1.0, 1.0)),
    )
    assert tables.from_json(tables.to_json(again)) == again
    both = tables.merge([first, tables.from_json(tables.to_json(again))])
    assert both.models == ("a", "b")
    assert both.median_ms("a", "mnn") == 5.0 and both.median_ms("a", "ort") == 4.0
    assert both.machine["peak_gflops"] == 110.0 and both.rounds == 3
    assert both.versions == {"apache-tvm": "0.27", "MNN": "3"}


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
    assert log.count("slow") == 2 + 2 * found["slow"].runs, "two, then one to warm up per turn"
    last_warm = [i for i, name in enumerate(log) if name == "slow"][1]
    turns = [name for name, _ in itertools.groupby(log[last_warm + 1 :])]
    assert turns.count("quick") >= 2, "turns of the two alternate"


def test_each_round_has_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(rounds, "_warm", lambda session: 1.0)
    monkeypatch.setattr(rounds, "WARM_SECONDS", 0.0)
    sessions = {name: _sleeper(name, 0.0, log) for name in "abc"}
    rounds.measure(sessions, rounds=12, seconds=100.0)
    turns = log[::2]  # an untimed inference, then a timed one
    orders = {"".join(turns[i : i + 3]) for i in range(0, len(turns), 3)}
    assert {"".join(sorted(order)) for order in orders} == {"abc"}
    assert len(orders) > 3, "more than the cyclic ones: no one always follows the same one"


def test_a_turn_counts_with_its_median() -> None:
    found = rounds.summarize([[0.001, 0.002, 0.9], [0.004, 0.004], [0.001]])
    assert found.median_ms == pytest.approx(2.0)
    assert found.min_ms == pytest.approx(1.0)
    assert (found.rounds, found.runs) == (3, 6)


def test_difference_is_relative_and_never_lets_nan_or_a_shape_pass() -> None:
    ones = np.full((2, 3), 10.0, np.float32)
    assert subject.difference([ones], [ones]) == 0.0
    assert subject.difference([ones + 0.1], [ones]) == pytest.approx(0.01, rel=1e-3)
    assert subject.difference([ones[0]], [ones]) == math.inf
    nan = ones.copy()
    nan[0, 0] = np.nan
    assert not subject.difference([nan], [ones]) <= subject.MAX_DIFFERENCE
    assert not subject.difference([ones], [ones, ones]) <= subject.MAX_DIFFERENCE


def test_ranked_rows_may_swap_but_not_many() -> None:
    rows = np.arange(40, dtype=np.float32).reshape(20, 2)
    swapped = rows.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert subject.difference([swapped], [rows]) > subject.MAX_DIFFERENCE
    assert subject.difference([swapped], [rows], ranked=True) == 0.0
    swapped[[7, 8]] = swapped[[8, 7]]
    assert subject.difference([swapped], [rows], ranked=True) > subject.MAX_DIFFERENCE


def test_the_slowest_kernel_is_the_one_with_most_time_to_win() -> None:
    def row(name: str, us: float) -> KernelTime:
        return KernelTime(name, 1.0, us, us / 300, ())

    kernels = [row("vm.builtin", 500.0), row("product", 200.0), row("softmax", 100.0)]
    found = slowest.slowest(kernels, {"product": 19_000_000}, peak_gflops=100.0)
    assert found == Slowest("softmax", 1, 100.0, 1 / 3, 0.0)
    assert slowest.slowest(kernels[:1], {}, 100.0) is None


def test_variants_run_and_the_slowest_kernel_is_found() -> None:
    found = {
        row.peer: row
        for row in subject.run_model("attention", _options("dnnfusion,unfused,ort"), 100.0)
    }
    assert [row.problem for row in found.values()] == ["", "", ""]
    worst = found["dnnfusion"].slowest
    assert worst is not None and 0 < worst.share <= 1 and worst.us > 0
    assert found["unfused"].slowest is None and found["unfused"].timing is not None


def test_memory_of_a_model_holds_its_weights(tmp_path: Path) -> None:
    net = Net("wide")
    net.output(net.linear(net.input("x", (1, 1024)), (1024, 4096), "fc"), (1, 4096))
    file = tmp_path / "wide.onnx"
    file.write_bytes(net.build().SerializeToString())
    held = memory.measure("ort", file, {"x": np.ones((1, 1024), np.float32)}, 1)
    assert 15 < held < 80, "16.8 MB of weights"


def test_models_run_in_processes_and_a_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def child(name: str, options: argparse.Namespace) -> Report | None:
        asked.append(name)
        return None if name == "densenet121" else _report(*_row(name, 1.0, 2.0))

    monkeypatch.setattr(latency, "_child", child)
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    arguments = ["--output", str(tmp_path / "out"), "--peers", "dnnfusion,ort", "--resume"]
    assert latency.main([*arguments, "--models", "squeezenet,densenet121"]) == 1, "one died"
    assert latency.main([*arguments, "--models", "squeezenet,alexnet"]) == 0
    assert latency.main([*arguments, "--models", "alexnet"]) == 0, "one model: the rest is kept"
    assert asked == ["squeezenet", "densenet121", "alexnet"]
    assert latency.main([*arguments, "--models", "alexnet", "--peers", "mnn"]) == 0
    assert asked[3:] == ["alexnet"], "a peer that the file does not have"
    made = tables.from_json((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert made.models == ("squeezenet", "alexnet")
    assert "| alexnet | 1 | 2 |" in (tmp_path / "out.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments",
    [["--rounds", "0"], ["--threads", "-1"], ["--seconds", "nan"], ["--output", "/dev/null/out"]],
)
def test_what_cannot_be_measured_is_refused_first(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        latency.parser().parse_args(arguments)
    assert caught.value.code == 2


def test_times_without_a_record_of_others_are_named() -> None:
    quiet = replace(_row("a", 2.0, 4.0)[0], timing=replace(_timing(2.0), others=0.01))
    text = markdown.to_markdown(_report(quiet, *_row("b", 1.0, 1.0)))
    assert "at most 1% of" in text and "Not recorded: b." in text


def _options(peers: str) -> argparse.Namespace:
    arguments = ["--peers", peers, "--rounds", "3", "--seconds", "0.1", "--threads", "1"]
    return latency.parser().parse_args(arguments)


def _spoilt(spoil: Callable[[list[np.ndarray]], list[np.ndarray]]) -> peers.Prepare:
    def prepare(model, feed, count):
        honest = peers.prepare_ort(model, feed, count)
        return Session(honest.run, lambda: spoil(honest.outputs()))

    return prepare


def test_a_wrong_peer_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.PEERS, "zero", _spoilt(lambda outs: [o * 1.01 for o in outs]))
    good, bad = subject.run_model("attention", _options("zero,ort"))
    assert (good.peer, good.problem, good.difference) == ("ort", "", 0.0)
    assert good.timing is not None and good.timing.rounds == 3
    assert bad.timing is None and "deviate" in bad.problem


def test_a_rival_may_be_less_exact_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(subject.OTHERS, "mnn", _spoilt(lambda outs: [o * 1.004 for o in outs]))
    ort, mnn = subject.run_model("attention", _options("mnn,ort"))
    assert mnn.timing is not None and mnn.problem == ""
    assert "attention/mnn 0.004" in markdown.to_markdown(_report(ort, mnn))
    monkeypatch.setitem(subject.OTHERS, "mnn", _spoilt(lambda outs: [o * 1.02 for o in outs]))
    assert subject.run_model("attention", _options("mnn,ort"))[1].timing is None


def test_a_failing_peer_is_reported_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Session:
        raise RuntimeError("no such instruction")

    monkeypatch.setitem(peers.PEERS, "dnnfusion", broken)
    found = {r.peer: r for r in subject.run_model("attention", _options("dnnfusion,ort"))}
    assert "RuntimeError" in found["dnnfusion"].problem
    assert "no such instruction" in found["dnnfusion"].problem
    assert found["ort"].timing is not None


def test_zero_agrees_with_onnx_runtime() -> None:
    found = {r.peer: r for r in subject.run_model("attention", _options("zero,ort"))}
    assert found["zero"].problem == ""
    assert 0 < found["zero"].difference < 1e-4


@pytest.mark.parametrize("argument", ["--models=squeezenet,nonsense", "--peers=", "--peers=x"])
def test_unknown_names_are_usage_errors(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        latency.main([argument])
    assert stop.value.code == 2
    assert "choose from" in capsys.readouterr().err


def test_pictures_show_what_the_report_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks import plots

    report = _report(*_row("zoo/a", 2.0, 4.0), *_row("zoo/b", 4.0, 2.0))
    figure = plots.against(report)
    assert figure is not None
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [2.0, 0.5]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    assert plots.breakdown(report) is None
    source = tmp_path / "run.json"
    source.write_text(tables.to_json(report), encoding="utf-8")
    assert plots.main([str(source)]) == 0
    assert [p.name for p in tmp_path.glob("*.svg")] == ["run-ratio.svg"]
    assert capsys.readouterr().out.strip().endswith("run-ratio.svg")


@pytest.mark.parametrize("name", vector_math.FUNCTIONS)
def test_models_of_functions_compute_them(name: str) -> None:
    session = peers.prepare_ort(vector_math.model(name), {"x": np.ones((64, 1024), "float32")}, 1)
    session.run()
    (found,) = session.outputs()
    exact = {
        "exp": math.e, "log": 0.0, "tanh": math.tanh(1), "erf": math.erf(1),
        "sigmoid": 1 / (1 + math.exp(-1)), "softplus": math.log1p(math.e),
        "silu": 1 / (1 + math.exp(-1)), "gelu": (1 + math.erf(math.sqrt(0.5))) / 2,
        "softmax": 1 / 1024,
    }  # fmt: skip
    np.testing.assert_allclose(found, exact[name], rtol=1e-5, atol=1e-7)
