"""Starting and stopping virtual phones; several may run side by side under names of their own.

A phone is a process group with a state file, ROOT/run/NAME.json, and a log beside it. The state
names the process by its number and the time it was started at, so that another process that got the
number later is never taken for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tvm_dnnfusion import settings
from tvm_dnnfusion.devices.virtual import emulator, reporting
from tvm_dnnfusion.devices.virtual.errors import VirtualError
from tvm_dnnfusion.devices.virtual.install import folder, install

NAME = "phone"
HOST = "127.0.0.1"
PORTS = (9290, 9390)
START_S = 90.0
"""Longest start; 2 to 4 s are usual."""
STOP_S = 5.0
KEPT_LOGS = 5
"""Logs of phones that run no more which are kept."""
FRESH_S = 2 * START_S
SERVER = Path(__file__).resolve().parents[1] / "server.py"


@dataclass(frozen=True, slots=True)
class Phone:
    """A running virtual phone.

    `pid` is its process group and `born` when that was started, in the kernel's ticks; `cpu` the
    emulated model, `counts` whether instructions are counted.
    """

    name: str
    host: str
    port: int
    pid: int
    born: int
    cpu: str
    counts: bool
    tracker: str = ""
    key: str = ""

    @property
    def log(self) -> Path:
        """What its server says."""
        return _folder() / f"{self.name}.log"


@dataclass(frozen=True, slots=True)
class Wish:
    """How a phone shall be: CPU model, counting, port (0: any that is free), tracker and key.

    The `key` is what clients ask the tracker for; a tracker is "HOST:PORT".
    """

    name: str = NAME
    cpu: str = "max"
    counts: bool = False
    port: int = 0
    tracker: str = ""
    key: str = ""


def up(wish: Wish | None = None, say: Callable[[str], None] = lambda _: None) -> Phone:
    """The phone, running: downloaded and started where it is not.

    One that runs already with the same CPU model, tracker and key, and counts if that is wished, is
    taken as it is. With a tracker, it is among the tracker's devices on return.

    Raises
    ------
    VirtualError
        Where it cannot be had or started, or runs otherwise than wished; where no tracker answers,
        or the phone does not come to it. Then nothing of it is left running.
    """
    wish = wish or Wish()
    _check(wish)
    before = reporting.devices(wish.tracker) if wish.tracker else reporting.Devices()
    there = running(wish.name)
    if there is not None:
        taken = _as_wished(there, wish)
        if wish.tracker:
            reporting.wait_for(wish.tracker, wish.key, taken.port, reporting.Devices())
        return taken
    phone = install(say)
    plugin = emulator.build_counter(phone / "counter.so") if wish.counts else None
    say(f"starting on {wish.cpu}")
    return _start(wish, phone, plugin, before)


def down(name: str = NAME) -> bool:
    """Stop a phone and everything it started; False where it did not run."""
    there = running(name)
    with contextlib.suppress(FileNotFoundError):
        (_folder() / f"{name}.json").unlink()
    if there is None:
        return False
    _end(there.pid, there.born)
    return True


def running(name: str = NAME) -> Phone | None:
    """The phone of that name, if it runs."""
    try:
        found = Phone(**json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if _born(found.pid) == found.born else None


def all_running() -> list[Phone]:
    """Phones that run, by name."""
    names = sorted(path.stem for path in _folder().glob("[!.]*.json"))
    return [phone for phone in map(running, names) if phone is not None]


def _check(wish: Wish) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", wish.name):
        raise VirtualError(f"a phone cannot be named {wish.name!r}: letters, digits, - and _")
    if wish.cpu not in emulator.CPUS:
        raise VirtualError(f"no CPU model {wish.cpu!r}; there are {', '.join(emulator.CPUS)}")
    if bool(wish.tracker) != bool(wish.key):
        raise VirtualError("a tracker needs a key that clients ask for, and a key a tracker")


def _as_wished(there: Phone, wish: Wish) -> Phone:
    same = (there.cpu, there.tracker, there.key) == (wish.cpu, wish.tracker, wish.key)
    if same and (there.counts or not wish.counts) and wish.port in (0, there.port):
        return there
    raise VirtualError(
        f"the virtual phone {there.name} runs already, otherwise than asked for: CPU {there.cpu}, "
        f"port {there.port}, counting {'on' if there.counts else 'off'}, tracker "
        f"{there.tracker or 'none'}. Stop it first: dnnfusion devices virtual down"
        + ("" if there.name == NAME else f" --name {there.name}")
    )


def _start(wish: Wish, phone: Path, plugin: Path | None, before: reporting.Devices) -> Phone:
    run = _folder()
    run.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):  # another start tidies up too
        _tidy(run)
    log = run / f"{wish.name}.log"
    first, last = (wish.port, wish.port + 1) if wish.port else PORTS
    tracker = ["--tracker", wish.tracker, "--key", wish.key] if wish.tracker else []
    arguments = [str(emulator.HERE / "device" / "launch.py"), str(SERVER), "--host", HOST,
                 "--port", str(first), "--port-end", str(last), *tracker]  # fmt: skip
    command = emulator.python(phone, wish.cpu, plugin, ["-u", *arguments])
    with log.open("w", encoding="utf-8") as out:
        # A session of its own: it outlives the shell, and is ended as one group.
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=run,
            start_new_session=True, env=settings.without_threads(),
        )  # fmt: skip
    born = _born(started.pid)
    try:
        port = _ready(started, log)
        if wish.tracker:
            reporting.wait_for(wish.tracker, wish.key, port, before)
    except BaseException:
        _end(started.pid, born)
        raise
    made = Phone(wish.name, HOST, port, started.pid, born, wish.cpu, plugin is not None,
                 wish.tracker, wish.key)  # fmt: skip
    part = run / f".{wish.name}.json"
    part.write_text(json.dumps(asdict(made)), encoding="utf-8")
    os.replace(part, run / f"{wish.name}.json")
    return made


def _tidy(run: Path) -> None:
    """Remove the records of phones that do not run, and their logs but for the newest few.

    What was written to within `FRESH_S` stays: it may be of a phone that starts at this moment.
    """
    alive = {phone.name for phone in all_running()}
    found = [(path.stat().st_mtime, path) for path in run.iterdir() if path.stem not in alive]
    logs = [item for item in found if item[1].suffix == ".log"]
    records = [item for item in found if item[1].suffix == ".json"]
    for written, path in records + sorted(logs)[: max(0, len(logs) - KEPT_LOGS)]:
        if written < time.time() - FRESH_S:
            path.unlink(missing_ok=True)


def _ready(started: subprocess.Popen[bytes], log: Path) -> int:
    """The port, once the server says that it serves."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        text = log.read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^ready \S+:(\d+)", text, re.MULTILINE)
        if found:
            return int(found[1])
        if started.poll() is not None:
            last = (text.strip().splitlines() or [f"exit code {started.returncode}"])[-1]
            raise VirtualError(f"the virtual phone ended while it started: {last} (log: {log})")
        time.sleep(0.05)
    raise VirtualError(f"the virtual phone did not start within {START_S:.0f} s (log: {log})")


def _end(pid: int, born: int) -> None:
    """End a process group: politely, then for certain."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, sent)
        until = time.monotonic() + STOP_S
        while time.monotonic() < until:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # where it is a child of ours
            if _born(pid) != born:
                break
            time.sleep(0.05)


def _born(pid: int) -> int:
    """When a process was started, in ticks since the machine's start; 0 where there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def _folder() -> Path:
    return settings.read().virtual / "run"


def log_tail(name: str = NAME, lines: int = 20) -> str:
    """The last lines of a phone's log, running or not."""
    try:
        text = (_folder() / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


__all__ = ["Phone", "Wish", "all_running", "down", "folder", "log_tail", "running", "up"]
