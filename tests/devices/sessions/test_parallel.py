"""Two devices under one key measure at once; one that dies costs the run in flight."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest

from tests.devices.sessions.conftest import wait_for
from tests.devices.sessions.servers import Process
from tvm_dnnfusion.devices.sessions import (
    CrashError,
    Limits,
    Session,
    UnreachableError,
    devices,
    run_jobs,
)

LIMITS = Limits(connect_s=5.0, queue_s=5.0, return_s=1.0)


def number(value: int):
    return [np.array([value], "int32"), np.zeros(1, "int32")]


def nap(library, micros: int):
    def job(session: Session) -> str:
        session.load(library, plain=True).run(number(micros), entry="nap")
        return session.info.session.split("/")[1]

    return job


def test_devices_work_at_the_same_time_and_outcomes_keep_their_order(
    fleet: tuple[Process, ...], harsh
) -> None:
    tracking, one, two = fleet
    address = f"tracker://127.0.0.1:{tracking.port}/phone"
    assert devices(address) == 2
    both = threading.Barrier(2, timeout=60)

    def meeting(session: Session) -> str:
        session.info  # noqa: B018  # the session is open
        both.wait()  # passed only if two sessions are open at once
        return session.info.session.split("/")[1]

    met = run_jobs(address, [meeting, meeting], limits=LIMITS)
    assert {o.value for o in met} == {str(one.popen.pid), str(two.popen.pid)}

    def crash(session: Session) -> str:
        session.load(harsh, plain=True).run(number(signal.SIGILL), entry="signal")
        return "not reached"

    jobs = [nap(harsh, 1000), crash, *[nap(harsh, 1000)] * 4]
    found = run_jobs(address, jobs, limits=LIMITS)
    assert [o.error is None for o in found] == [True, False, True, True, True, True]
    assert isinstance(found[1].error, CrashError)


def test_a_fault_of_a_job_is_raised(fleet: tuple[Process, ...]) -> None:
    def wrong(session: Session) -> str:
        raise ZeroDivisionError("of the job itself")

    with pytest.raises(ZeroDivisionError, match="of the job itself"):
        run_jobs(f"tracker://127.0.0.1:{fleet[0].port}/phone", [wrong] * 3, limits=LIMITS)


def test_no_tracker_is_an_error_at_once() -> None:
    with pytest.raises(UnreachableError, match="nobody listens"):
        run_jobs("tracker://127.0.0.1:1/phone", [lambda session: 1], limits=LIMITS)


def test_jobs_of_a_dead_device_are_done_by_the_other(fleet: tuple[Process, ...], harsh) -> None:
    tracking, one, two = fleet
    wait_for(tracking.port, devices=2)
    began = threading.Event()

    def first(session: Session) -> str:
        began.set()
        return nap(harsh, 3_000_000)(session)

    def kill() -> None:
        began.wait(60)
        time.sleep(1.0)
        one.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    address = f"tracker://127.0.0.1:{tracking.port}/phone"
    found = run_jobs(address, [first] * 4, limits=LIMITS)
    killer.join()
    assert [o.error for o in found] == [None] * 4
    assert {o.value for o in found} <= {str(one.popen.pid), str(two.popen.pid)}
    wait_for(tracking.port, devices=1)
