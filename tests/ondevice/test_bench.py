"""The phone bench on the virtual phone, and through the loss of a device."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial, partialmethod
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm

from benchmarks import phone as zoo_bench
from benchmarks.models import inputs, load
from tests.cli.conftest import call  # noqa: F401  # a fixture
from tests.devices.sessions import servers
from tests.devices.sessions.conftest import wait_for
from tests.phone import COUNTS, require_phone
from tvm_dnnfusion.devices import registry, sessions
from tvm_dnnfusion.devices.arm import ANDROID, LINUX
from tvm_dnnfusion.devices.registry import DeviceError
from tvm_dnnfusion.devices.sessions import (
    CoolDown,
    DeviceInfo,
    Limits,
    LostError,
    Program,
    Session,
    TimingOptions,
)
from tvm_dnnfusion.devices.sessions.address import parse
from tvm_dnnfusion.devices.virtual import process
from tvm_dnnfusion.frontend import load as import_model
from tvm_dnnfusion.ondevice import VARIANTS, Report, Settings, bench, fitted, page
from tvm_dnnfusion.ondevice.bench import OtherResultsError
from tvm_dnnfusion.ondevice.records import Result, read, to_json

session_room = importlib.import_module("tvm_dnnfusion.devices.sessions.session")
BENCH = importlib.import_module("tvm_dnnfusion.ondevice.bench")
"""The module: the package's name `bench` is its function."""
QUICK = TimingOptions(samples=3, sample_us=1.0, warmup_s=0.0)
FAST = Settings(timing=QUICK, threads=1)
NAMES = list(VARIANTS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "se_block.onnx"
    onnx.save(load("se_block"), str(path))
    return path


def address(running: process.Phone) -> str:
    return f"rpc://{running.host}:{running.port}"


def test_one_command_fills_the_three_columns(
    call: Callable, phone: process.Phone, model: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    words = ("bench", model, "--device", address(phone), "--target", "cortex-a72", "--repeat", 3,
             "--warmup", 0, "--threads", 1, "-o", tmp_path / "out", "--json")  # fmt: skip
    answer = call(*words)
    assert answer.code == 0, answer.err
    results = answer.json["results"]
    assert [r["variant"] for r in results] == NAMES
    assert answer.json["emulated"] == "QEMU" and answer.json["machine"] == "aarch64"
    for result in results:
        assert not result["problem"] and 0 < result["error"] < 1e-4
        assert 0 < result["min_us"] <= result["median_us"] <= result["p90_us"]
        layers = {layer for kernel in result["profile"] for layer in kernel["origins"]}
        assert any("conv" in layer for layer in layers)
        assert (result["instructions"] > 0) == COUNTS
    unfused, fuseops, ours = (r["kernels"] for r in results)
    assert unfused > fuseops >= ours
    shown = (tmp_path / "out" / "bench.html").read_text(encoding="utf-8")
    assert "EMULATED by QEMU" in shown and "DNNF: kernels" in shown
    again = call(*words[:-1])
    assert again.code == 0 and "goes on after OurB, OurB+, DNNF" in again.err
    assert "compile" not in again.err
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == answer.json


def test_a_saved_library_is_measured_as_it_is(
    call: Callable, phone: process.Phone, model: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    made = call("optimize", model, "--target", "cortex-a53", "-o", tmp_path / "lib", "--no-verify")
    assert made.code == 0, made.err
    answer = call("bench", tmp_path / "lib", "--device", address(phone), "--repeat", 3,
                  "--warmup", 0, "--max-time", 1, "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["median_us"] > 0
    assert any("conv" in layer for k in answer.json["kernels"] for layer in k["origins"])


def test_a_device_that_dies_between_columns_costs_none() -> None:
    require_phone()
    name = f"dies-{os.getpid()}"
    running = process.up(process.Wish(name))
    module, arrays = import_model(load("attention")), inputs("attention")
    spec = registry.get("cortex-a53")
    limits = Limits(connect_s=5.0, return_s=1.0, restarts=1)
    settings = replace(FAST, limits=limits, variants=("OurB", "DNNF"))
    kept: list[Report] = []

    def keep(report: Report) -> None:
        kept.append(report)
        process.down(name)

    try:
        with pytest.raises(LostError, match="waited for 1 s, in vain"):
            bench(module, arrays, spec, address(running), settings, keep=keep)
        assert [r.variant for r in kept[-1].done()] == ["OurB"]
        back = process.up(process.Wish(name, port=running.port))
        done = bench(module, arrays, spec, address(back), settings, before=kept[-1])
    finally:
        process.down(name)
    assert [r.variant for r in done.results] == ["OurB", "DNNF"]
    assert done.result("OurB") == kept[-1].result("OurB")


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_device_lost_while_measuring_costs_the_run_in_flight(
    how: str, call: Callable, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    """The samples before it are on disk, and the same command goes on with the rest."""
    require_phone()
    name = f"{how}-{os.getpid()}"
    running = process.up(process.Wish(name))
    right, samples = Session.call, []

    def call_until_lost(self: Session, *words: object, part: Callable | None, **rest: object):
        def told(found: list[float]) -> None:
            part(found)
            samples.extend(found)
            if len(samples) == 3 and how == "killed":
                process.down(name)
            elif len(samples) == 3:
                os.killpg(running.pid, signal.SIGSTOP)

        return right(self, *words, part=told if words[0] == "time" else part, **rest)

    monkeypatch.setattr(sessions, "Limits", partial(Limits, return_s=1.0, connect_s=4.0))
    words = ("bench", model, "--device", address(running), "--target", "cortex-a53", "--columns",
             "DNNF", "--repeat", 20, "--max-time", 99, "--pause", 0.02, "--warmup", 0,
             "--threads", 1, "--timeout", 3, "--no-profile", "-o", tmp_path)  # fmt: skip
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Session, "call", partialmethod(call_until_lost, part=None))
            answer = call(*words)
        assert answer.code == 3
        assert "waiting for the device, 1 s at most" in answer.err
        kept = read(tmp_path / "bench.json").result("DNNF")
        taken = len(kept.samples_us)
        assert 3 <= taken < 20 and kept.problem.startswith("lost: ")
        assert f"keeps DNNF ({taken} samples); the same command goes on" in answer.err
        process.down(name)
        process.up(process.Wish(name, port=running.port))
        again = call(*words)
    finally:
        process.down(name)
    assert again.code == 0 and f"DNNF: goes on after {taken} samples" in again.err
    done = read(tmp_path / "bench.json").result("DNNF")
    assert len(done.samples_us) == 20 and done.samples_us[:taken] == kept.samples_us
    assert not done.problem and done.median_us > 0


def test_an_interrupt_says_what_is_kept(
    call: Callable, phone: process.Phone, model: Path, tmp_path: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    right, calls = Program.time, iter([False, True])

    def time(self: Program, *args: object, **kwargs: object) -> object:
        if next(calls):
            raise KeyboardInterrupt
        return right(self, *args, **kwargs)

    monkeypatch.setattr(Program, "time", time)
    answer = call("bench", model, "--device", address(phone), "--target", "cortex-a53", "--repeat",
                  3, "--warmup", 0, "--threads", 1, "--columns", "OurB,DNNF", "-o",
                  tmp_path)  # fmt: skip
    assert answer.code == 4 and "keeps OurB (3 samples)" in answer.err
    calls = iter([True])
    alone = call("bench", model, "--device", address(phone), "--target", "cortex-a53")
    assert alone.code == 4 and "nothing is kept; with -o FOLDER" in alone.err


def test_results_of_another_measurement_are_left_alone(
    call: Callable, phone: process.Phone, model: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    other = tmp_path / "attention.onnx"
    onnx.save(load("attention"), str(other))
    words = ("--device", address(phone), "--target", "cortex-a53", "--columns", " DNNF,DNNF",
             "--warmup", 0, "--threads", 1, "-o", tmp_path / "out")  # fmt: skip
    first = call("bench", model, *words, "--repeat", 3)
    assert first.code == 0, first.err
    files = {p: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    for given, differs in (((other, "--repeat", 3), "model"), ((model, "--repeat", 4), "samples")):
        answer = call("bench", *given, *words)
        assert answer.code == 2 and differs in answer.err and "goes on" not in answer.err
    assert {p: p.read_bytes() for p in (tmp_path / "out").iterdir()} == files


def test_max_time_and_no_profile_hold_on_a_device(
    call: Callable, phone: process.Phone, model: Path  # noqa: F811
) -> None:  # fmt: skip
    answer = call("bench", model, "--device", address(phone), "--target", "cortex-a53", "--columns",
                  "DNNF", "--repeat", 5000, "--max-time", 0.1, "--pause", 0.05, "--warmup", 0,
                  "--threads", 1, "--no-profile", "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    (found,) = answer.json["results"]
    assert 3 <= len(found["samples_us"]) < 5000
    assert found["profile"] == [] and found["instructions"] == 0


INFO = {"emulated": "", "processors": 7, "max_mhz": (2841,), "system": "Linux 5.4", "machine": ""}
CHANGES: dict[str, dict[str, object]] = {
    "target": {"spec": "cortex-a72"},
    "threads": {"threads": 2},
    "cores": {"cluster": "big"},
    "samples": {"timing": replace(QUICK, samples=4)},
    "sample_us": {"timing": replace(QUICK, sample_us=2.0)},
    "warmup_s": {"timing": replace(QUICK, warmup_s=0.1)},
    "wall_s": {"timing": replace(QUICK, wall_s=9.0)},
    "cool_pause_s": {"timing": replace(QUICK, cool=CoolDown(pause_s=0.1))},
    "cool_below_celsius": {"timing": replace(QUICK, cool=CoolDown(below_celsius=40.0))},
    "float16": {"float16": True},
    "device": {"host": "localhost"},
    "name": {"name": "other"},
    "shapes": {"wider": True},
    **{f"machine, {field}": {"info": {field: value}} for field, value in INFO.items()},
}


@pytest.mark.parametrize("part", CHANGES)
def test_what_decides_a_measurement_is_in_its_key(
    part: str, phone: process.Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns of another CPU, shape, thread count, timing or device are not taken over."""
    module, arrays = import_model(load("attention")), inputs("attention")
    monkeypatch.setattr(BENCH, "_column", lambda session, module, name, *rest: Result(name, 1, 1))
    one = replace(FAST, variants=("DNNF",))
    spec, place = registry.get("cortex-a53"), address(phone)
    before = bench(module, arrays, spec, place, one, model="m")
    kept: list[Report] = []
    bench(module, arrays, spec, place, one, model="m", before=before, keep=kept.append)
    assert kept == [], "measured though nothing had changed"
    change = dict(CHANGES[part])
    spec = registry.get(str(change.pop("spec", "cortex-a53")))
    place = place.replace("127.0.0.1", str(change.pop("host", "127.0.0.1")))
    model_name = str(change.pop("name", "m"))
    info = change.pop("info", {})
    right = session_room.link.describe
    monkeypatch.setattr(session_room.link, "describe", lambda *a: replace(right(*a), **info))
    if change.pop("wider", False):
        wide = BENCH.check_inputs
        monkeypatch.setattr(BENCH, "check_inputs", lambda *a: {
            k: np.concatenate([v, v]) for k, v in wide(*a).items()})  # fmt: skip
    settings = replace(one, **change)
    with pytest.raises(OtherResultsError, match=part.partition(",")[0]):
        bench(module, arrays, spec, place, settings, model=model_name, before=before,
              keep=kept.append)  # fmt: skip
    assert kept == []


def test_devices_under_one_key_of_a_tracker_are_alike() -> None:
    one, other = (BENCH._place(parse(f"tracker://{h}:9190/k")) for h in ("a", "b"))
    assert one == other != BENCH._place(parse("tracker://a:9190/j"))


def test_wrong_results_are_no_times(phone: process.Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    right = BENCH.run_unfused
    monkeypatch.setattr(BENCH, "run_unfused", lambda *a: {k: v + 1 for k, v in right(*a).items()})
    found = bench(import_model(load("attention")), inputs("attention"), registry.get("cortex-a53"),
                  address(phone), replace(FAST, variants=("DNNF",)))  # fmt: skip
    assert found.results[0].problem.startswith("wrong result")
    assert found.results[0].samples_us == ()


def test_many_models_with_a_table(phone: process.Phone, tmp_path: Path) -> None:
    words = [
        "--device",
        address(phone),
        "--target",
        "cortex-a53",
        "--models",
        "attention,se_block",
        "--samples",
        "3",
        "--warmup",
        "0",
        "--threads",
        "1",
        "--output",
        str(tmp_path),
    ]
    assert zoo_bench.main(words) == 0
    first = (tmp_path / "attention.json").read_bytes()
    table = (tmp_path / "phone.md").read_text(encoding="utf-8")
    times = re.findall(r"^\| (\w+) \| [\d.]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ x \|$", table, re.M)
    assert times == ["attention", "se_block"]
    page_of_all = (tmp_path / "phone.html").read_text(encoding="utf-8")
    assert "EMULATED by QEMU" in table and "EMULATED by QEMU" in page_of_all
    gone = [w if w != address(phone) else "rpc://127.0.0.1:1" for w in words]
    assert zoo_bench.main([*gone, "--wait", "0"]) == zoo_bench.AWAY
    assert (tmp_path / "attention.json").read_bytes() == first
    assert (tmp_path / "phone.md").read_text(encoding="utf-8") == table, "rows are lost"
    assert (tmp_path / "phone.html").read_text(encoding="utf-8") == page_of_all
    one = [w if w != "attention,se_block" else "se_block" for w in words]
    assert zoo_bench.main(one) == 0
    assert (tmp_path / "phone.md").read_text(encoding="utf-8") == table


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "virtual", "--target", "cortex-77"), "cortex-77"),
        (("--device", "foo", "--target", "cortex-a53"), "'foo' is no address"),
        (("--target", "cortex-a53"), "where is the device"),
        (("--rpc-tracker", "h:1", "--target", "cortex-a53"), "go together"),
        (("--device", "local", "--target", "host", "--output", "/proc/nope"), "/proc/nope"),
    ],
)
def test_wrong_use_of_the_bench_of_many_models(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        zoo_bench.main(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_a_device_that_the_target_is_not_for_is_said(
    phone: process.Phone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--device", address(phone), "--models", "attention", "--output", str(tmp_path))
    for target, said in (("adreno-650", "has no opencl"), ("znver4", "and znver4")):
        named = target if target != "znver4" else "llvm -mcpu=znver4"
        assert zoo_bench.main([*words, "--target", named]) == 2
        assert said in capsys.readouterr().err


def test_float16_is_measured_and_its_error_told(phone: process.Phone) -> None:
    settings = replace(FAST, variants=("OurB", "DNNF"), float16=True)
    found = bench(import_model(load("attention")), inputs("attention"), registry.get("cortex-a76"),
                  address(phone), settings)  # fmt: skip
    assert found.float16 and "float16" in page.facts(found)
    for result in found.results:
        assert not result.problem and 1e-5 < result.error < 1e-2
    exact = bench(import_model(load("attention")), inputs("attention"), registry.get("cortex-a76"),
                  address(phone), replace(settings, float16=False))  # fmt: skip
    assert exact.key != found.key
    if COUNTS:
        ours, single = found.result("DNNF"), exact.result("DNNF")
        assert ours is not None and single is not None
        assert ours.instructions < 0.8 * single.instructions


def test_the_command_of_a_phone_behind_a_tracker(
    call: Callable, model: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    require_phone()
    name = f"tracked-{os.getpid()}"
    with servers.tracker(tmp_path) as tracking:
        place = f"127.0.0.1:{tracking.port}"
        process.up(process.Wish(name, tracker=place, key="arm"))
        try:
            wait_for(tracking.port, devices=1)
            answer = call("bench", model, "--rpc-tracker", place, "--rpc-key", "arm", "--target",
                          "cortex-a76", "--columns", "DNNF", "--repeat", 3, "--warmup", 0,
                          "--threads", 1, "--json")  # fmt: skip
        finally:
            process.down(name)
    assert answer.code == 0, answer.err
    assert answer.json["address"] == f"tracker://{place}/arm"
    assert answer.json["results"][0]["median_us"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "local", "--rpc-tracker", "h:1"), "leave out --rpc-tracker"),
        (("--rpc-tracker", "h:1"), "go together"),
        (("--device", "local", "--columns", "OurC"), "OurB, OurB\\+, DNNF"),
        (("--device", "local", "--planner", "none"), "how to plan"),
        (("--device", "nowhere"), "tracker://"),
        (("--output", "there"), "give --device"),
    ],
)
def test_wrong_use_is_said_before_any_work(
    call: Callable, model: Path, words: tuple[str, ...], said: str  # noqa: F811
) -> None:  # fmt: skip
    answer = call("bench", model, *words)
    assert answer.code == 2
    assert np.any([part in answer.err for part in said.replace("\\", "").split("|")])


def test_the_triple_follows_what_answers() -> None:
    ours = DeviceInfo(machine="aarch64", session="x")
    app = DeviceInfo(machine="aarch64")
    cpu, gpu = registry.get("cortex-a76"), registry.get("adreno-640")
    assert dict(fitted(cpu, ours).target)["mtriple"] == LINUX
    assert dict(fitted(cpu, app).target)["mtriple"] == ANDROID
    assert dict(fitted(cpu, ours, "android").target)["mtriple"] == ANDROID
    assert dict(fitted(gpu, ours).host)["mtriple"] == LINUX
    assert fitted(gpu, DeviceInfo(machine="x86-64")).host == ()
    with pytest.raises(DeviceError, match=r"answers as x86-64.*cortex-a76 is aarch64"):
        fitted(cpu, DeviceInfo(machine="x86-64"))


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    report = Report("k", "m", "d", "local", {"kind": "llvm", "mattr": ["+neon"]}, "aarch64", "", 2,
                    1, "")  # fmt: skip
    file = tmp_path / "r.json"
    file.write_text(to_json(report), encoding="utf-8")
    assert read(file) == report
    file.write_text("{", encoding="utf-8")
    assert read(file) is None
    assert "EMULATED" not in page.facts(report)


def test_temperatures_and_clocks_are_shown_where_the_device_gives_them() -> None:
    warm = Result("DNNF", 1, 1, samples_us=(1.0,), median_us=1.0, celsius=(35.0, 41.25),
                  mhz=((1804, 2841), (1804, 2419)))  # fmt: skip
    report = Report("k", "m", "d", "local", {}, "aarch64", "", 2, 1, "", results=(warm,))
    (row,) = page.latency(report).rows
    assert row[-2:] == ("35.0 to 41.2 °C", "2841 to 2419 MHz")
    silent = replace(report, results=(replace(warm, celsius=(None, None), mhz=((), ())),))
    assert page.latency(silent).rows[0][-2:] == ("-", "-")


def test_kernels_of_a_gpu_are_waited_for() -> None:
    """Its calls come back at once: without waiting a profile would show the time to ask."""
    from tvm_dnnfusion.devices.server import Instrument

    waits: list[str] = []
    instrument = Instrument()
    instrument.wait = lambda: waits.append("waited")
    for before in (True, False):
        instrument(None, "kernel", before)
    assert waits == ["waited"] and [name for name, _ in instrument.rows] == ["kernel"]
    assert instrument.at("cpu") == "cpu" and instrument.wait is None


def test_a_plan_that_does_not_compile_leaves_the_others(
    phone: process.Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise tvm.error.InternalError("first line\nInconsistent buffers")

    monkeypatch.setattr(BENCH, "build", refused)
    found = bench(import_model(load("attention")), inputs("attention"), registry.get("cortex-a53"),
                  address(phone), FAST)  # fmt: skip
    assert [r.problem for r in found.results] == ["does not compile: Inconsistent buffers"] * 3
