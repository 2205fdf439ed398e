"""Whoever cannot be reached is named within the deadline, with the reason: nothing hangs.

Most of these need no TVM at all: the handshakes are plain Python.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.devices.sessions import servers
from tests.devices.sessions.conftest import Net, wait_for
from tvm_dnnfusion.devices.sessions import Limits, Session, UnreachableError, tracker
from tvm_dnnfusion.devices.sessions.address import parse

LIMITS = Limits(connect_s=2.0, queue_s=2.0)
SLACK_S = 4.0
"""What a loaded machine may add to a deadline."""


@contextmanager
def refused(words: str, seconds: float = LIMITS.connect_s) -> Iterator[None]:
    """The block must say so, with exit code 3, within the time."""
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=words) as caught:
        yield
    assert time.monotonic() - began < seconds + SLACK_S
    assert caught.value.exit_code == 3


def connect(address: str) -> None:
    with Session(address, limits=LIMITS):
        pass


@contextmanager
def service(answer: bytes | None) -> Iterator[int]:
    """A service that is not TVM's: it sends these bytes and hangs up; None: it stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    there, _ = listening.accept()
                except OSError:
                    return
                kept.append(there)
                if answer is not None:
                    there.sendall(answer)
                    there.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        for there in kept:
            there.close()


def test_nobody_listens() -> None:
    with refused("nobody listens at 127.0.0.1:.* start a TVM RPC server there", 0.5):
        connect(f"rpc://127.0.0.1:{servers.free_port()}")
    with refused("nobody listens at 127.0.0.1:.* start a tracker", 0.5):
        connect(f"tracker://127.0.0.1:{servers.free_port()}/phone")


def test_no_such_host() -> None:
    for form in ("rpc://{}:9090", "tracker://{}:9190/phone"):
        with refused("no host is named 'no-such-host.invalid'"):
            connect(form.format("no-such-host.invalid"))


def test_a_host_that_answers_nothing_costs_the_deadline_only() -> None:
    """As one that is off: what listens takes no more connections, so packets are dropped."""
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())
        with refused("no answer from 127.0.0.1:.*: the host is off, or a firewall"):
            connect(f"rpc://127.0.0.1:{full.getsockname()[1]}")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 8])
def test_another_service_is_not_taken_for_a_server(answer: bytes) -> None:
    with service(answer) as port, refused("no TVM RPC server"):
        connect(f"rpc://127.0.0.1:{port}")
    with service(answer) as port, refused("does not answer as a TVM tracker"):
        connect(f"tracker://127.0.0.1:{port}/phone")


def test_a_silent_service_costs_the_deadline_only() -> None:
    with service(None) as port, refused("takes the connection and does not answer"):
        connect(f"rpc://127.0.0.1:{port}")
    with service(None) as port, refused("does not answer as a TVM tracker does"):
        connect(f"tracker://127.0.0.1:{port}/phone")


def test_a_wrong_key_is_named(ours: servers.Process) -> None:
    with refused("has another key than 'other'"):
        connect(f"rpc://127.0.0.1:{ours.port}/other")


def test_a_server_is_no_tracker(ours: servers.Process) -> None:
    with refused("does not answer as a TVM tracker does: .* rpc://"):
        connect(f"tracker://127.0.0.1:{ours.port}/phone")


def test_a_busy_server_is_waited_for_and_then_named(ours: servers.Process, net: Net) -> None:
    address = f"rpc://127.0.0.1:{ours.port}"
    with Session(address) as first:
        with refused("serves somebody else"):
            connect(address)
        assert len(first.load(net.library).run(net.inputs)) == 2
    with Session(address) as second:  # and afterwards it is free
        assert second.info.ours


def test_a_frozen_server_is_named(tmp_path) -> None:
    with servers.server(tmp_path) as process:
        process.signal(signal.SIGSTOP)
        with refused("is frozen"):
            connect(f"rpc://127.0.0.1:{process.port}")


def test_a_tracker_says_who_is_there(fleet) -> None:
    (status,) = tracker.summary("127.0.0.1", fleet[0].port)
    assert (status.key, status.devices, status.free) == ("phone", 2, 2)


def test_a_key_without_devices_is_named_with_those_that_have(fleet) -> None:
    with refused("no device under the key 'fone'; its keys: phone", 0.5):
        connect(f"tracker://127.0.0.1:{fleet[0].port}/fone")


def test_a_tracker_is_no_server(fleet) -> None:
    with refused("no TVM RPC server.* tracker://"):
        connect(f"rpc://127.0.0.1:{fleet[0].port}")


def test_a_server_of_a_tracker_is_not_reached_directly(fleet) -> None:
    with refused("reached through the tracker only"):
        connect(f"rpc://127.0.0.1:{fleet[1].port}")


def test_all_busy_is_said_after_the_wait_and_a_frozen_one_is_passed_over(fleet, net: Net) -> None:
    tracking, one, two = fleet
    address = f"tracker://127.0.0.1:{tracking.port}/phone"
    with Session(address, limits=LIMITS) as first, Session(address, limits=LIMITS) as second:
        assert first.info.session != second.info.session
        with refused("all its 2 devices of that key are in use", LIMITS.queue_s):
            tracker.request(parse(address), LIMITS.queue_s)
    wait_for(tracking.port, devices=2)
    one.signal(signal.SIGSTOP)
    try:
        for _ in range(2):  # whichever the tracker gives first
            with Session(address, limits=LIMITS) as session:
                assert len(session.load(net.library).run(net.inputs)) == 2
                assert f"/{two.popen.pid}/" in session.info.session
            time.sleep(1.0)
    finally:
        one.signal(signal.SIGCONT)


def test_a_tracker_that_dies_is_named_and_open_sessions_go_on(tmp_path, net: Net) -> None:
    with servers.tracker(tmp_path) as tracking:
        options = (f"--tracker=127.0.0.1:{tracking.port}", "--key=phone")
        with servers.server(tmp_path, *options):
            wait_for(tracking.port, devices=1)
            address = f"tracker://127.0.0.1:{tracking.port}/phone"
            with Session(address, limits=LIMITS) as session:
                program = session.load(net.library)
                tracking.kill()
                assert len(program.run(net.inputs)) == 2
                with refused("nobody listens at .*: start a tracker", 0.5):
                    connect(address)
                assert len(program.run(net.inputs)) == 2


def test_a_device_that_died_is_no_longer_at_the_tracker(tmp_path) -> None:
    with servers.tracker(tmp_path) as tracking:
        options = (f"--tracker=127.0.0.1:{tracking.port}", "--key=phone")
        with servers.server(tmp_path, *options) as device:
            wait_for(tracking.port, devices=1)
            device.kill()
            wait_for(tracking.port, devices=0)
            with refused("no device under the key 'phone'; its keys: none", 0.5):
                connect(f"tracker://127.0.0.1:{tracking.port}/phone")
