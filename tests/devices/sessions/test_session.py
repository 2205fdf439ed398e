"""One interface, whatever the device: this machine, our server, TVM's."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.devices.sessions.conftest import Net
from tvm_dnnfusion.devices.sessions import (
    CallError,
    CoolDown,
    DeviceState,
    LibraryError,
    Program,
    Session,
    SessionError,
    TimingOptions,
)
from tvm_dnnfusion.devices.sessions.channel import Channel
from tvm_dnnfusion.devices.sessions.records import FEWEST

QUICK = TimingOptions(samples=5, warmup_s=0.0)


@pytest.fixture(scope="module", params=["local", "ours", "stock"])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    address = "local"
    if request.param != "local":
        address = f"rpc://127.0.0.1:{request.getfixturevalue(request.param).port}"
    with Session(address, threads=2) as opened:
        yield opened


@pytest.fixture
def program(session: Session, net: Net) -> Iterator[Program]:
    loaded = session.load(net.library)
    yield loaded
    loaded.close()


def test_outputs_are_those_of_the_model(program: Program, net: Net) -> None:
    found = program.run(net.inputs)
    assert len(found) == 2
    for have, want in zip(found, net.expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4)


def test_the_device_says_what_it_is(session: Session) -> None:
    assert session.info.machine == platform.machine()
    if session.info.ours:
        assert session.info.processors >= 1
        assert session.threads == min(2, session.info.processors)


def test_samples_are_counted_and_positive(program: Program, net: Net) -> None:
    found = program.time(net.inputs, options=QUICK)
    assert len(found.samples_us) == 5
    assert 0 < found.min_us <= found.median_us <= found.p90_us
    assert found.runs_per_sample > 1, "a model of microseconds is timed in groups"
    assert found.warmup_runs >= 2
    assert found.lost == ()


def test_rests_between_samples_are_kept(program: Program, net: Net) -> None:
    import time

    began = time.monotonic()
    rested = TimingOptions(samples=3, warmup_s=0.0, cool=CoolDown(pause_s=0.2))
    assert len(program.time(net.inputs, options=rested).samples_us) == 3
    assert time.monotonic() - began >= 2 * 0.2


def test_kernels_are_profiled_where_the_server_can(
    session: Session, program: Program, net: Net
) -> None:
    if not session.info.ours:
        with pytest.raises(CallError, match=r"tvm_dnnfusion\.devices\.server"):
            program.profile(net.inputs)
        return
    passes = program.profile(net.inputs, runs=2)
    names = [[name for name, _ in one if not name.startswith("vm.")] for one in passes]
    assert names == [["tir_exp", "fused_matmul_relu", "sum"]] * 2
    assert all(us >= 0 for one in passes for _, us in one)
    # The instrument is gone afterwards, and the program works on.
    np.testing.assert_allclose(program.run(net.inputs)[1], net.expected[1], rtol=1e-4)


def test_wrong_calls_name_what_is_wrong_and_the_session_goes_on(
    session: Session, program: Program, net: Net
) -> None:
    before = session.generation
    with pytest.raises(CallError, match=r"params_num \(1 vs\. 2\)"):
        program.run(net.inputs[:1])
    with pytest.raises(CallError, match="Unknown function: nope"):
        program.run(net.inputs, entry="nope")
    with pytest.raises(CallError, match="mismatch"):
        program.run([net.inputs[0], net.inputs[0]])
    assert len(program.run(net.inputs)) == 2
    assert session.generation == before


def test_one_library_may_be_loaded_twice(session: Session, net: Net) -> None:
    first, second = session.load(net.library), session.load(net.library)
    assert len(first.run(net.inputs)) == len(second.run(net.inputs)) == 2
    second.close()
    assert len(first.run(net.inputs)) == 2
    first.close()


def test_what_is_no_library_is_not_sent(session: Session, tmp_path, net: Net) -> None:
    other = bytearray(net.library.read_bytes())
    other[18:20] = (243).to_bytes(2, "little")
    wrong = tmp_path / "riscv.so"
    wrong.write_bytes(other)
    with pytest.raises(
        LibraryError, match=rf"riscv\.so is for riscv64, the device is {platform.machine()}"
    ):
        session.load(wrong)
    wrong.write_text("hello")
    with pytest.raises(LibraryError, match="not a shared library"):
        session.load(wrong)
    with pytest.raises(LibraryError, match=r"absent\.so cannot be read"):
        session.load(tmp_path / "absent.so")


def test_a_processor_that_is_not_there_is_named(session: Session, net: Net) -> None:
    with pytest.raises(LibraryError, match="no processor"):
        session.load(net.library, processor="vulkan")


def test_kernels_without_a_machine_are_timed(session: Session, tmp_path) -> None:
    import tvm
    from tvm import te

    x = te.placeholder((64,), "float32", name="x")
    y = te.compute((64,), lambda i: x[i] + 1.0, name="y")
    func = te.create_prim_func([x, y]).with_attr("global_symbol", "add_one")
    path = tmp_path / "kernels.so"
    target = tvm.target.Target("llvm")
    tvm.compile(tvm.IRModule({"add_one": func}), target=target).export_library(str(path))
    kernels = session.load(path, plain=True)
    data = [np.arange(64, dtype="float32"), np.zeros(64, "float32")]
    np.testing.assert_array_equal(kernels.run(data, entry="add_one")[1], data[0] + 1)
    assert kernels.time(data, entry="add_one", options=QUICK).median_us > 0
    with pytest.raises(CallError, match="kernels only"):
        kernels.profile(data, entry="add_one")
    kernels.close()


def test_threads_and_cores_are_set_on_the_device(session: Session) -> None:
    assert session.configure(threads=1, cluster="big") == 1
    assert session.configure(threads=2) == min(2, session.info.processors or session.threads)
    with pytest.raises(SessionError, match="'medium' is no cluster of cores: all, big, little"):
        session.configure(cluster="medium")


@pytest.mark.parametrize(("cores", "mode"), [("big", 1), ("little", -1), ("all", 0)])
def test_the_cores_are_those_of_tvms_affinity_mode(
    session: Session, cores: str, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[object, ...]] = []
    right = Channel.call

    def call(self: Channel, *words: object, **limits: object) -> object:
        sent.append(words)
        return right(self, *words, **limits)

    monkeypatch.setattr(Channel, "call", call)
    session.configure(threads=1, cluster=cores)
    session.close()
    session.open()
    assert [words for words in sent if words[0] == "threads"] == [("threads", mode, 1)] * 2


def test_a_device_is_cool_before_it_is_timed(
    session: Session, program: Program, net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    states = iter([60.0, 50.0, 39.0])
    right = session.call

    def state() -> DeviceState:
        done.append(next(states))
        return DeviceState({"zone": done[-1]})

    def call(operation: str, *words: object, **limits: object) -> object:
        done.append(operation)
        return right(operation, *words, **limits)

    monkeypatch.setattr(session, "state", state)
    monkeypatch.setattr(session, "call", call)
    monkeypatch.setattr("tvm_dnnfusion.devices.sessions.session.COOL_POLL_S", 0.0)
    program.time(net.inputs, options=replace(QUICK, cool=CoolDown(below_celsius=40.0)))
    assert done == [60.0, 50.0, 39.0, "time"]


def test_samples_end_with_the_time_for_them_but_for_the_fewest(
    session: Session, program: Program, net: Net
) -> None:
    many = TimingOptions(samples=100_000, sample_us=1.0, warmup_s=0.0, cool=CoolDown(pause_s=0.01))
    taken = len(program.time(net.inputs, options=replace(many, wall_s=0.2)).samples_us)
    assert FEWEST <= taken < 100
    assert len(program.time(net.inputs, options=replace(many, wall_s=0.0)).samples_us) == FEWEST


def test_samples_of_an_earlier_call_count(program: Program, net: Net) -> None:
    found = program.time(net.inputs, options=QUICK, taken=(1.0, 2.0, 3.0))
    assert len(found.samples_us) == QUICK.samples and found.samples_us[:3] == (1.0, 2.0, 3.0)


def test_cooling_down_waits_for_the_time_that_it_is_given(session: Session, monkeypatch) -> None:
    states = iter([DeviceState({"zone": c}) for c in (60.0, 50.0, 39.0, 30.0)])
    monkeypatch.setattr(session, "state", lambda: next(states))
    monkeypatch.setattr("tvm_dnnfusion.devices.sessions.session.COOL_POLL_S", 0.0)
    assert session.cool_down(CoolDown(below_celsius=40.0)).hottest == 39.0
    assert session.cool_down(CoolDown(below_celsius=20.0, at_most_s=0.0)).hottest == 30.0
