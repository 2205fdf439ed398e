"""A virtual phone that reports to a tracker: it is there at the end, or nothing is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import call  # noqa: F401  # a fixture
from tests.devices.sessions import servers
from tests.phone import require_phone
from tvm_dnnfusion.devices.sessions import tracker
from tvm_dnnfusion.devices.sessions.wire import TRACKER_MAGIC
from tvm_dnnfusion.devices.virtual import process, reporting
from tvm_dnnfusion.devices.virtual.errors import VirtualError


class _Deaf(socketserver.BaseRequestHandler):
    """A tracker that takes every message and remembers nothing."""

    def handle(self) -> None:
        with contextlib.suppress(OSError, struct.error):
            self.request.recv(4)
            self.request.sendall(struct.pack("<i", TRACKER_MAGIC))
            while True:
                size = struct.unpack("<i", self.request.recv(4))[0]
                asked = json.loads(self.request.recv(size, 0x100))  # MSG_WAITALL
                summary = [0, {"queue_info": {}, "server_info": []}]
                answer = json.dumps(summary if asked[0] == tracker.SUMMARY else 0).encode()
                self.request.sendall(struct.pack("<i", len(answer)) + answer)


@pytest.fixture
def deaf() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Deaf) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def name() -> Iterator[str]:
    made = f"tracked-{os.getpid()}"
    yield made
    process.down(made)


def test_nothing_starts_where_no_tracker_listens(
    call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setenv("DNNFUSION_VIRTUAL", str(tmp_path / "virtual"))
    place = f"127.0.0.1:{servers.free_port()}"
    answer = call("devices", "virtual", "up", "--name", "rv9", "--tracker", place, "--key", "x")
    assert answer.code == 3
    assert f"nobody listens at {place}" in answer.err
    assert not (tmp_path / "virtual").exists(), "nothing was downloaded or started"


def test_a_tracker_has_the_phone_once_it_is_up(tmp_path: Path, name: str) -> None:
    require_phone()
    with servers.tracker(tmp_path) as tracking:
        wish = process.Wish(name, tracker=f"127.0.0.1:{tracking.port}", key="pixel")
        phone = process.up(wish)
        assert tracker.servers("127.0.0.1", tracking.port) == (("pixel", phone.port),)
        assert process.up(wish) == phone
    with pytest.raises(VirtualError, match="no virtual phone can report to"):
        process.up(wish)
    assert process.running(name) == phone, "it was there before"


def test_a_phone_that_does_not_come_to_its_tracker_is_stopped(
    deaf: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_phone()
    monkeypatch.setattr(reporting, "REPORT_S", 1.0)
    ended: list[int] = []
    end = process._end
    monkeypatch.setattr(process, "_end", lambda pid, born: (ended.append(pid), end(pid, born)))
    with pytest.raises(VirtualError, match=f"did not come to the tracker at {deaf} within 1 s"):
        process.up(process.Wish(name, tracker=deaf, key="pixel"))
    assert process.running(name) is None
    assert len(ended) == 1 and process._born(ended[0]) == 0
