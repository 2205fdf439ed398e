"""The phone bench on the virtual phone, and through the loss of a device."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import phone as zoo_bench
from benchmarks.models import inputs, load
from tests.cli.conftest import call  # noqa: F401  # a fixture
from tests.devices.sessions import servers
from tests.devices.sessions.conftest import wait_for
from tests.phone import COUNTS, require_phone
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.devices.arm import ANDROID, LINUX
from tvm_dnnfusion.devices.registry import DeviceError
from tvm_dnnfusion.devices.sessions import (
    DeviceInfo,
    Limits,
    LostError,
    SessionError,
    TimingOptions,
    UnreachableError,
)
from tvm_dnnfusion.devices.virtual import process
from tvm_dnnfusion.frontend import load as import_model
from tvm_dnnfusion.ondevice import VARIANTS, Report, Settings, bench, fitted, page
from tvm_dnnfusion.ondevice.records import Result, read, to_json

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


def test_a_device_that_dies_costs_the_column_under_way() -> None:
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
        with pytest.raises(SessionError):
            bench(module, arrays, spec, address(running), settings, keep=keep)
        assert [r.variant for r in kept[-1].results] == ["OurB"]
        back = process.up(process.Wish(name, port=running.port))
        done = bench(module, arrays, spec, address(back), settings, before=kept[-1])
    finally:
        process.down(name)
    assert [r.variant for r in done.results] == ["OurB", "DNNF"]
    assert done.result("OurB") == kept[-1].result("OurB")


def test_what_decides_a_measurement_is_in_its_key(
    phone: process.Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns of another CPU, shape or thread count are not taken over."""
    module, arrays = import_model(load("attention")), inputs("attention")
    monkeypatch.setattr(BENCH, "_column", lambda session, module, name, *rest: Result(name, 1, 1))
    one = replace(FAST, variants=("DNNF",))
    before: Report | None = None
    for name, threads in (("cortex-a53", 1), ("cortex-a72", 1), ("cortex-a72", 2)):
        kept: list[Report] = []
        settings = replace(one, threads=threads)
        before = bench(module, arrays, registry.get(name), address(phone), settings,
                       before=before, keep=kept.append)  # fmt: skip
        assert len(kept) == 1, f"not measured anew: {before}"


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


def test_many_models_wait_for_a_device_that_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The column under way is taken again; a device that stays away ends it with what is done."""
    report = Report("k", "attention", "d", "local", {}, "aarch64", "", 2, 1, "")
    ends = iter([LostError("gone"), UnreachableError("not back yet"), report, LostError("gone")])

    def once(name: str, *_: object) -> Report:
        end = next(ends)
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr(zoo_bench, "_once", once)
    words = ["--device", "rpc://h:1", "--target", "cortex-a53", "--models", "attention",
             "--poll", "0", "--output", str(tmp_path)]  # fmt: skip
    assert zoo_bench.main(words) == 0
    assert next(ends, None) is not None
    ends = iter([report, LostError("gone")])
    words[words.index("attention")] = "attention,se_block"
    assert zoo_bench.main([*words, "--wait", "0"]) == zoo_bench.AWAY
    assert "| attention |" in (tmp_path / "phone.md").read_text(encoding="utf-8")


def test_float16_is_measured_and_its_error_told(phone: process.Phone) -> None:
    settings = replace(FAST, variants=("OurB", "DNNF"), float16=True)
    found = bench(import_model(load("attention")), inputs("attention"), registry.get("cortex-a76"),
                  address(phone), settings)  # fmt: skip
    assert found.float16 and "float16" in page.facts(found)
    for result in found.results:
        assert not result.problem and 1e-5 < result.error < 1e-2
    exact = bench(import_model(load("attention")), inputs("attention"), registry.get("cortex-a76"),
                  address(phone), replace(settings, float16=False), before=found)  # fmt: skip
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
        raise BENCH.TVM_ERRORS[0]("first line\nInconsistent buffers")

    monkeypatch.setattr(BENCH, "build", refused)
    found = bench(import_model(load("attention")), inputs("attention"), registry.get("cortex-a53"),
                  address(phone), FAST)  # fmt: skip
    assert [r.problem for r in found.results] == ["does not compile: Inconsistent buffers"] * 3
