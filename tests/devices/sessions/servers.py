"""RPC servers and trackers on 127.0.0.1, each in a process group that is killed whole."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tvm_dnnfusion.devices import threads

START_S = 120.0
ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Process:
    """A server or tracker: its leader's process and its port."""

    popen: subprocess.Popen[bytes]
    port: int
    log: Path

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)

    def kill(self) -> None:
        """End all of it, frozen or not."""
        self.signal(signal.SIGKILL)
        self.popen.wait()

    def said(self) -> str:
        """What it wrote so far."""
        return self.log.read_text(errors="replace")


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(module: str, folder: Path, *options: str) -> Iterator[Process]:
    """A Python module as a process that listens at 127.0.0.1, until the block ends."""
    port = free_port()
    log = folder / f"{module}-{port}.log"
    with log.open("wb") as out:
        popen = subprocess.Popen(
            [sys.executable, "-m", module, "--host=127.0.0.1", f"--port={port}",
             f"--port-end={port + 1}", *options],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            env=threads.users_environment(),
        )  # fmt: skip
    process = Process(popen, port, log)
    try:
        _wait(process)
        yield process
    finally:
        process.kill()


def _wait(process: Process) -> None:
    """Until somebody listens; not by connecting, which would be a session."""
    until = time.monotonic() + START_S
    port = f"0100007F:{process.port:04X}"
    while time.monotonic() < until:
        if any(
            line.split()[1] == port and line.split()[3] == "0A"
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        ):
            return
        assert process.popen.poll() is None, process.said()
        time.sleep(0.05)
    raise AssertionError(f"it did not start: {process.said()}")


def server(folder: Path, *options: str):
    """Our server."""
    return started("tvm_dnnfusion.devices.server", folder, *options)


def stock(folder: Path, *options: str):
    """TVM's server."""
    return started("tvm.exec.rpc_server", folder, *options)


def tracker(folder: Path):
    """TVM's tracker."""
    return started("tvm.exec.rpc_tracker", folder)
