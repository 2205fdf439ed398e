"""Devices that die, freeze, crash or run out of memory: a clear error in time, nothing lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psutil
import pytest

from tests.devices.sessions import servers
from tests.devices.sessions.conftest import Net
from tvm_dnnfusion.devices.sessions import (
    CrashError,
    DeadlineError,
    DeviceMemoryError,
    Limits,
    LostError,
    Session,
    SessionError,
    TimingOptions,
    UnreachableError,
)

SLACK_S = 5.0
"""What a loaded machine may add to a deadline."""
NAP_US = 60_000_000


def number(value: int):
    return [np.array([value], "int32"), np.zeros(1, "int32")]


@contextmanager
def fails(kind: type[SessionError], words: str, seconds: float, code: int = 3) -> Iterator[None]:
    began = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        yield
    assert time.monotonic() - began < seconds + SLACK_S
    assert caught.value.exit_code == code


def served_by(server: servers.Process) -> int:
    """The process of the server's session."""
    (child,) = [
        p
        for p in psutil.Process(server.popen.pid).children(recursive=True)
        if p.status() != psutil.STATUS_ZOMBIE and not p.children()
    ]
    return child.pid


@contextmanager
def after(seconds: float, action) -> Iterator[None]:
    timer = threading.Timer(seconds, action)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.fixture(scope="module")
def session(ours: servers.Process) -> Iterator[Session]:
    limits = Limits(connect_s=5.0, return_s=5.0)
    with Session(f"rpc://127.0.0.1:{ours.port}", limits=limits) as opened:
        yield opened


def test_an_illegal_instruction_is_called_so_and_costs_its_run_only(
    session: Session, harsh, net: Net
) -> None:
    program, kernels = session.load(net.library), session.load(harsh, plain=True)
    before = session.generation
    with fails(CrashError, "illegal instruction: .* mend mcpu", 5.0):
        kernels.run(number(signal.SIGILL), entry="signal")
    # A new session is there, and each library goes to it when it is used.
    assert len(program.run(net.inputs)) == 2
    assert session.generation == before + 1
    with fails(CrashError, "memory that is not there", 5.0):
        kernels.time(number(signal.SIGSEGV), entry="signal")
    assert len(program.run(net.inputs)) == 2


def test_too_little_memory_is_said_and_the_session_goes_on(
    session: Session, huge, net: Net
) -> None:
    program, large = session.load(net.library), session.load(huge)
    before = session.generation
    with fails(DeviceMemoryError, "out of memory during run", 5.0):
        large.run([np.ones((1, 1), "float32")])
    assert len(program.run(net.inputs)) == 2
    assert session.generation == before


def test_a_session_killed_during_a_run_loses_that_run(
    ours: servers.Process, session: Session, harsh, net: Net
) -> None:
    kernels = session.load(harsh, plain=True)
    child = served_by(ours)
    killed = r"it was killed, by the system .* \(SIGKILL\)"
    with after(0.5, lambda: os.kill(child, signal.SIGKILL)), fails(LostError, killed, 0.5):
        kernels.run(number(NAP_US), entry="nap")
    assert len(session.load(net.library).run(net.inputs)) == 2


def test_a_session_killed_while_idle_is_opened_again(
    ours: servers.Process, session: Session, net: Net
) -> None:
    program = session.load(net.library)
    os.kill(served_by(ours), signal.SIGTERM)
    with fails(LostError, r"it was told to end \(SIGTERM\)", 0.0):
        program.run(net.inputs)
    assert len(program.run(net.inputs)) == 2


def test_a_benchmark_goes_on_where_the_device_was_lost(
    ours: servers.Process, session: Session, harsh
) -> None:
    kernels = session.load(harsh, plain=True)
    child = served_by(ours)
    options = TimingOptions(samples=40, warmup_s=0.0)
    with after(3.5, lambda: os.kill(child, signal.SIGKILL)):
        found = kernels.time(number(100_000), entry="nap", options=options)
    assert len(found.samples_us) == 40
    assert len(found.lost) == 1 and "SIGKILL" in found.lost[0]
    assert found.median_us == pytest.approx(100_000, rel=0.5)


def test_a_frozen_device_is_left_at_the_deadline_and_used_again_when_it_thaws(
    ours: servers.Process, session: Session, net: Net
) -> None:
    program = session.load(net.library)
    ours.signal(signal.SIGSTOP)
    try:
        with fails(DeadlineError, "no answer to run within 1 s: it is frozen", 1.0):
            program.run(net.inputs, limit_s=1.0)
    finally:
        ours.signal(signal.SIGCONT)
    assert len(program.run(net.inputs)) == 2


def test_work_that_takes_too_long_is_left_and_the_server_is_free_again(
    session: Session, harsh
) -> None:
    kernels = session.load(harsh, plain=True)
    with fails(DeadlineError, "higher limit", 1.0):
        kernels.run(number(NAP_US), entry="nap", limit_s=1.0)
    # The server notices that its client is gone, although the kernel sleeps for a minute.
    kernels.run(number(1), entry="nap")


def test_an_interrupt_leaves_no_answer_for_the_next_call(session: Session, harsh) -> None:
    kernels = session.load(harsh, plain=True)
    handler = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            kernels.run(number(NAP_US), entry="nap")
    finally:
        signal.signal(signal.SIGALRM, handler)
    assert kernels.run(number(7), entry="nap")[0].tolist() == [7]


def test_a_server_killed_during_a_run_is_gone(tmp_path, harsh) -> None:
    with servers.server(tmp_path) as process:
        limits = Limits(connect_s=2.0, return_s=1.0)
        with Session(f"rpc://127.0.0.1:{process.port}", limits=limits) as session:
            kernels = session.load(harsh, plain=True)
            gone = "lost during run, and is not back: nobody listens"
            with after(0.5, process.kill), fails(LostError, gone, 0.5):
                kernels.run(number(NAP_US), entry="nap")
            with fails(UnreachableError, "nobody listens", 0.0):
                kernels.run(number(1), entry="nap")
            with fails(UnreachableError, "nobody listens", 1.0):
                session.wait_until_back()


def test_the_limit_of_a_session_is_told(ours: servers.Process, session: Session, harsh) -> None:
    session.close()
    limits = Limits(session_s=1.5)
    with Session(f"rpc://127.0.0.1:{ours.port}", limits=limits) as short:
        kernels = short.load(harsh, plain=True)
        with fails(LostError, "its limit of 1.5 s", 2.0):
            kernels.run(number(NAP_US), entry="nap")
        assert kernels.run(number(5), entry="nap")[0].tolist() == [5]


def test_the_stock_server_hangs_after_a_crash_and_this_is_said(
    stock: servers.Process, harsh
) -> None:
    with Session(f"rpc://127.0.0.1:{stock.port}", limits=Limits(connect_s=2.0)) as session:
        kernels = session.load(harsh, plain=True)
        with fails(LostError, "hangs after a crash.* tvm_dnnfusion.devices.server", 2.0):
            kernels.run(number(signal.SIGILL), entry="signal")
        with fails(UnreachableError, "hangs after a crash", 2.0):
            kernels.run(number(1), entry="nap")


def test_this_machine_survives_crashes_and_hangs_too(harsh) -> None:
    with Session("local") as session:
        kernels = session.load(harsh, plain=True)
        with fails(CrashError, "illegal instruction", 2.0):
            kernels.run(number(signal.SIGILL), entry="signal")
        kernels.run(number(1), entry="nap")
        with fails(DeadlineError, "within 0.5 s", 0.5):
            kernels.run(number(NAP_US), entry="nap", limit_s=0.5)


def test_nothing_is_left_behind(ours: servers.Process, session: Session) -> None:
    session.close()
    until = time.monotonic() + 15
    while time.monotonic() < until:
        left = [
            p.pid
            for p in psutil.Process(ours.popen.pid).children(recursive=True)
            if p.status() != psutil.STATUS_ZOMBIE
        ]
        workers = [
            p.pid
            for forking in psutil.Process().children()
            if "nursery.serve" in " ".join(forking.cmdline())
            for p in forking.children()
        ]
        if not left and not workers:
            return
        time.sleep(0.2)
    raise AssertionError((left, workers))
