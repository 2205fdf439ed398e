"""An RPC server for boards and phones that survives what it runs.

    python -m tvm_dnnfusion.devices.server --port 9090
    python -m tvm_dnnfusion.devices.server --tracker HOST:PORT --key KEY

It is TVM's own server with three repairs, and needs this one file and TVM's runtime only: copy it
to the board, and `operators.py` with it for models with NonZero or Unique. (1) TVM 0.27's stops
accepting anybody, with its port open, once a session has crashed. (2) A session whose client is
gone goes on computing; here it is ended. (3) Nobody can ask why a session ended, what the device is
and how warm it is, or time the kernels of a model: the functions below answer, under names that
begin with `dnnfusion.`.

The protocol lets a client run any code, so it binds to 127.0.0.1 unless told otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import json
import multiprocessing
import os
import platform
import runpy
import select
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GRACE_S = 2.0
"""A session whose client has left may end by itself for so long."""
POLL_S = 0.2
THERMAL = Path("/sys/class/thermal")
CPUS = Path("/sys/devices/system/cpu")
BIND_TRIES = 20
PORTS = (9090, 9199)
MOST_PORTS = 1 << 16

_ends: dict[str, int] = {}
"""How sessions of this server ended: their name -> exit code, negative for a signal."""


def session_name(pid: int) -> str:
    """Name of a session's process that no other device's has."""
    return f"{socket.gethostname()}/{os.getppid() if pid == os.getpid() else os.getpid()}/{pid}"


class Instrument:
    """Wall time of every call that the virtual machine makes, without that of calls inside it.

    A GPU's calls return before its kernels have run: `at` has each waited for.
    """

    def __init__(self) -> None:
        self.wait: Callable[[], None] | None = None
        self.stack: list[list[int]] = []
        self.rows: list[tuple[str, int]] = []

    def __call__(self, _: Any, name: Any, before: bool, *__: Any) -> int:
        """Called by the virtual machine before and after each call; 0 means to go on."""
        if self.wait is not None and not before:
            self.wait()
        now = time.perf_counter_ns()
        if before:
            self.stack.append([now, 0])
            return 0
        started, inner = self.stack.pop()
        whole = time.perf_counter_ns() - started
        if self.stack:
            self.stack[-1][1] += whole
        self.rows.append((str(name), now - started - inner))
        return 0

    def at(self, kind: str) -> str:
        """Where kernels run from now on, "cpu" or "opencl"."""
        import tvm

        self.wait = None if kind == "cpu" else tvm.device(kind, 0).sync
        return kind

    def take(self) -> str:
        """The rows since the last time, (kernel, nanoseconds) as JSON."""
        text = json.dumps(self.rows)
        self.rows.clear()
        return text


def info() -> str:
    """What this device is, as JSON."""
    import tvm

    frequencies = [_number(p) for p in _each_cpu("cpufreq/cpuinfo_max_freq")]
    return json.dumps(
        {
            "session": session_name(os.getpid()),
            "machine": platform.machine(),
            "system": f"{platform.system()} {platform.release()}",
            "processors": len(os.sched_getaffinity(0)),
            "max_mhz": [int(f) // 1000 for f in frequencies if f is not None],
            "tvm": str(tvm.__version__),
        }
    )


def state() -> str:
    """Temperatures in degrees Celsius by zone and clocks in MHz, as JSON; empty where unknown."""
    celsius: dict[str, float] = {}
    for zone in sorted(THERMAL.glob("thermal_zone*")):
        milli = _number(zone / "temp")
        if milli is not None:
            celsius[f"{zone.name} {_text(zone / 'type')}".strip()] = milli / 1000
    clocks = [_number(p) for p in _each_cpu("cpufreq/scaling_cur_freq")]
    return json.dumps(
        {"celsius": celsius, "mhz": [int(c) // 1000 for c in clocks if c is not None]}
    )


def session_end(name: str) -> str:
    """Exit code of a session of this server, as text; "" where it is not known."""
    return str(_ends.get(name, ""))


def register() -> None:
    """Register the functions that a session asks for, in this process and those forked from it."""
    import tvm_ffi

    instrument = Instrument()
    # The virtual machine of a session takes the name of a function that returns the instrument.
    functions: dict[str, Callable[..., Any]] = {
        "dnnfusion.info": info,
        "dnnfusion.state": state,
        "dnnfusion.session_end": session_end,
        "dnnfusion.instrument": lambda *_: tvm_ffi.convert(instrument),
        "dnnfusion.instrument_at": instrument.at,
        "dnnfusion.instrument_rows": instrument.take,
    }
    for name, function in functions.items():
        tvm_ffi.register_global_func(name, function, override=True)
    more = Path(__file__).with_name("operators.py")
    if more.is_file():
        runpy.run_path(str(more), run_name="operators")["register"]()


def make_room_for_threads() -> None:
    """Let TVM's pool have a thread per processor: it starts with half of an x86's, never grows.

    To be called before TVM runs anything. The user's own TVM_NUM_THREADS stands.
    """
    count = str(len(os.sched_getaffinity(0))).encode()
    ctypes.CDLL(None).setenv(b"TVM_NUM_THREADS", count, 0)


def serve_session(sock: Any, addr: Any, opts: dict[str, Any], load_library: str | None) -> None:
    """Serve one client in a process of its own; return when that is over, however it ended.

    It takes the place of `tvm.rpc.server._serving`, which raises where the process crashes.
    """
    from tvm.rpc import server as tvm_server
    from tvm.support import utils

    folder, home = utils.tempdir(), os.getcwd()
    os.chdir(folder.path)
    process = multiprocessing.get_context("fork").Process(
        target=tvm_server._serve_loop, args=(sock, load_library, folder)
    )
    try:
        process.start()
        _wait(process, sock, opts.get("timeout"))
        if process.exitcode is None:
            _expire(process, sock, opts.get("timeout"))
        name = session_name(process.pid or 0)
        _ends[name] = process.exitcode or 0
        if process.exitcode:
            print(f"session {name} of {addr} ended with {process.exitcode}", flush=True)
    finally:
        os.chdir(home)
        folder.remove()
        sock.close()


def _wait(process: Any, sock: Any, limit: float | None) -> None:
    """Until the process ends, its time is over, or its client has been gone for a while."""
    until = None if limit is None else time.monotonic() + limit
    gone: float | None = None
    hangup = select.poll()
    hangup.register(sock.fileno(), select.POLLRDHUP)
    while process.is_alive():
        process.join(POLL_S)
        now = time.monotonic()
        if until is not None and now > until:
            return
        if gone is None and hangup.poll(0):
            gone = now
        if gone is not None and now > gone + GRACE_S:
            return


def _expire(process: Any, sock: Any, limit: float | None) -> None:
    """End a session that is over its time, telling the client, which may still listen."""
    from tvm.rpc import _ffi_api

    text = (
        f"RPCSessionTimeoutError: Your {limit}s session has expired, "
        'try to increase the "session_timeout" value.'
    )
    with contextlib.suppress(Exception):  # the client is gone: then nobody needs the message
        _ffi_api.ReturnException(sock.fileno(), text)
    process.kill()
    process.join()


def serve(options: argparse.Namespace) -> None:
    """Listen until killed; prints "ready HOST:PORT" once clients may come."""
    make_room_for_threads()
    import tvm
    from tvm.rpc import server as tvm_server

    extra = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_extra.so"
    if extra.is_file():  # sorting and random numbers: not loaded by the runtime-only library
        ctypes.CDLL(str(extra), ctypes.RTLD_GLOBAL)
    register()
    tvm_server._serving = serve_session
    running = bound(
        lambda: tvm_server.PopenRPCServerState(
            options.host,
            options.port,
            options.port_end,
            tracker_addr=options.tracker,
            key=options.key,
            load_library=options.load_library,
            custom_addr=options.custom_addr,
        )
    )
    print(f"ready {options.host}:{running.port} {platform.machine()}", flush=True)
    running.thread.join()


def bound(make: Callable[[], Any]) -> Any:
    """What `make` gives, tried again where another server took its port in the same moment.

    TVM looks for a port that it can bind, which two servers at once can; one of them then fails to
    listen. The other one listens by now, so the next try goes on to the next port.
    """
    for _ in range(BIND_TRIES):
        try:
            return make()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return make()


def main(argv: list[str] | None = None) -> None:
    """The command line of the server."""
    parser = argparse.ArgumentParser(prog="tvm_dnnfusion.devices.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="interface to listen at")
    parser.add_argument("--port", type=_port, default=PORTS[0], help="first port to try")
    parser.add_argument("--port-end", type=int, help="port after the last to try")
    parser.add_argument("--tracker", type=_host_port, metavar="HOST:PORT", help="to report to")
    parser.add_argument("--key", default="", help="what clients ask the tracker for")
    parser.add_argument("--custom-addr", help="address that the tracker gives to clients")
    parser.add_argument("--load-library", help="further libraries to load, separated by colons")
    options = parser.parse_args(argv)
    if options.tracker and not options.key:
        parser.error("--tracker needs a --key")
    end = options.port_end = options.port_end or max(PORTS[1], min(options.port + 100, MOST_PORTS))
    if not options.port < end <= MOST_PORTS:
        parser.error(f"--port-end {end}: it is from {options.port + 1} to {MOST_PORTS}")
    try:
        serve(options)
    except (ValueError, OSError) as error:  # of no free port; of no such --host
        print(
            f"error: cannot listen at {options.host}, port {options.port}: {error}; give another "
            "--port, or a --host that is an address of this machine",
            file=sys.stderr,
        )
        sys.exit(3)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < MOST_PORTS:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (1 to {MOST_PORTS - 1})")
    return int(text)


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise argparse.ArgumentTypeError(f"{text!r} needs a host and a port: HOST:PORT")
    return host, _port(port)


def _each_cpu(file: str) -> list[Path]:
    return [CPUS / f"cpu{i}" / file for i in range(os.cpu_count() or 1)]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None


if __name__ == "__main__":
    main()
