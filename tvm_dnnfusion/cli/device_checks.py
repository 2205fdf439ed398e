"""What `devices doctor` looks at: linkers, adb, the virtual phone, each device that is named."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_dnnfusion.cli.checks import Line, State, add_one_library
from tvm_dnnfusion.devices import android
from tvm_dnnfusion.devices.sessions import tracker
from tvm_dnnfusion.devices.sessions.address import RPC, TRACKER, Address
from tvm_dnnfusion.devices.sessions.errors import SessionError, UnreachableError
from tvm_dnnfusion.devices.sessions.tracker import KeyStatus

if TYPE_CHECKING:
    from tvm_dnnfusion.devices.sessions import DeviceInfo, Session

TRIPLES = {"x86_64": "x86_64-linux-gnu", "arm": "armv7l-linux-gnueabihf"}
SERVER = "python -m tvm_dnnfusion.devices.server"


def all_checks(
    addresses: Sequence[Address],
    timeout_s: float,
    system: str,
    behind: tuple[str, int] | None = None,
) -> Iterable[Line]:
    """Every check in order; one that breaks is a failure itself.

    `system` is "gnu" or "android", `behind` host and port of a tracker whose keys shall be listed.
    """
    checks: list[tuple[str, Callable[[], Iterable[Line]]]] = [
        ("linker", linkers),
        ("adb", adb),
        ("virtual phone", virtual_phones),
    ]
    if behind is not None:
        checks.append(("tracker", lambda: keys(*behind, timeout_s)))
    for address in addresses:
        checks.append(
            (str(address), lambda at=address: device(at, timeout_s, system))  # type: ignore[misc]
        )
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:
            yield Line(name, State.FAIL, f"{type(error).__name__}: {error}", "see the message")


def linkers() -> Iterable[Line]:
    """What links for ARM; only those who compile for it miss it."""
    from tvm_dnnfusion.runtime.errors import EnvironmentLackError
    from tvm_dnnfusion.runtime.link import find_linker

    for triple in ("aarch64-linux-gnu", "aarch64-linux-android"):
        try:
            find_linker(triple)
        except EnvironmentLackError as error:
            mend = "apt install binutils-aarch64-linux-gnu, or dnnfusion devices virtual install"
            yield Line("linker", State.WARN, f"{triple}: {error}", mend)
        else:
            yield Line("linker", State.OK, f"libraries for {triple} can be linked")


def adb() -> Iterable[Line]:
    """Android phones over USB."""
    if android.adb() is None:
        yield Line("adb", State.OK, "not installed: phones over USB need it, all else does not")
        return
    found = android.phones()
    if not found:
        yield Line("adb", State.OK, "no phone is plugged in")
    for phone in found:
        name = f"{phone.serial} {phone.model}".strip()
        if phone.state == "device":
            yield Line("adb", State.OK, f"{name} is there: dnnfusion devices setup-android")
        else:
            yield Line("adb", State.WARN, f"{name} is {phone.state}", mend_of(phone.state))


def mend_of(state: str) -> str:
    """What to do about a phone that adb lists in another state than "device"."""
    if state == "unauthorized":
        return "unlock the phone and allow USB debugging for this computer"
    return "plug it in again; adb kill-server; adb start-server"


def virtual_phones() -> Iterable[Line]:
    """Whether the virtual phone is installed and runs."""
    from tvm_dnnfusion.devices.virtual import process
    from tvm_dnnfusion.devices.virtual.install import installed

    running = process.all_running()
    for phone in running:
        text = f"{phone.name} runs as {phone.cpu} at rpc://{phone.host}:{phone.port}"
        yield Line("virtual phone", State.OK, text)
    if not running:
        there = "installed, not running" if installed() else "not installed"
        yield Line("virtual phone", State.OK, f"{there}: dnnfusion devices virtual up starts one")


def device(address: Address, timeout_s: float, system: str) -> Iterable[Line]:
    """One device: who answers, what it is, and whether it runs a kernel rightly."""
    from tvm_dnnfusion.devices.sessions import Limits, Session

    name = str(address)
    limits = Limits(connect_s=timeout_s, queue_s=timeout_s, call_s=timeout_s)
    try:
        if address.kind == TRACKER:
            yield from _queue(address, timeout_s)
        with Session(address, limits=limits) as session:
            yield from _facts(name, session)
            yield from _trial(name, session, system)
    except SessionError as error:
        yield Line(name, State.FAIL, str(error), "see the message")


def keys(host: str, port: int, timeout_s: float) -> Iterable[Line]:
    """What a tracker has: each key with its devices, free ones, and clients in the queue."""
    name = f"tracker {host}:{port}"
    try:
        found = tracker.summary(host, port, timeout_s)
    except UnreachableError as error:
        yield Line(name, State.FAIL, str(error), "see the message")
        return
    for status in found:
        yield _status(name, status)
    if not found:
        mend = f"start one on the device: {SERVER} --tracker {host}:{port} --key KEY"
        yield Line(name, State.WARN, "it answers, and has no device", mend)


def _status(name: str, found: KeyStatus) -> Line:
    text = f"{found.devices} under the key {found.key!r}, {found.free} free, {found.waiting} wait"
    if not found.devices:
        return Line(name, State.WARN, text, f"start a server with --key {found.key}")
    if not found.free:
        return Line(name, State.WARN, text, "wait, or end the program that uses them")
    return Line(name, State.OK, text)


def _queue(address: Address, timeout_s: float) -> Iterable[Line]:
    yield _status(str(address), tracker.check(address, timeout_s))


def _facts(name: str, session: Session) -> Iterable[Line]:
    info = session.info
    machine = info.machine or "an unknown machine"
    if not info.ours:
        text = f"{machine}, with TVM's own server: it hangs after a crash and profiles no kernels"
        yield Line(name, State.WARN, text, f"start `{SERVER}` in its place where Python is there")
        return
    clock = f", up to {max(info.max_mhz)} MHz" if info.max_mhz else ""
    yield Line(
        name,
        State.OK,
        f"{machine}, {info.system}, {info.processors} cores{clock}, {session.threads} threads",
    )
    yield from _version(name, info)
    hottest = session.state().hottest
    if hottest is not None:
        yield Line(name, State.OK, f"its hottest zone is at {hottest:.0f} degrees Celsius")


def _version(name: str, info: DeviceInfo) -> Iterable[Line]:
    import tvm

    if info.tvm == tvm.__version__:
        yield Line(name, State.OK, f"TVM {info.tvm} there and here")
    else:
        text = f"TVM {info.tvm} there, {tvm.__version__} here: libraries may not load"
        yield Line(name, State.WARN, text, f"pip install apache-tvm=={tvm.__version__} there")


def _trial(name: str, session: Session, system: str) -> Iterable[Line]:
    """Compile a kernel for the device, link it, send it, and run it there."""
    import numpy as np

    from tvm_dnnfusion.runtime.errors import EnvironmentLackError
    from tvm_dnnfusion.runtime.link import find_linker

    machine = session.info.machine
    if not machine:
        yield Line(name, State.WARN, "no trial: nobody knows its machine", f"start `{SERVER}`")
        return
    triple = TRIPLES.get(machine, f"{machine}-linux-{system}")
    with tempfile.TemporaryDirectory(prefix="dnnfusion-") as folder:
        library = Path(folder) / "trial.so"
        try:
            linker = find_linker("" if _is_here(machine) else triple)
            add_one_library(library, {"kind": "llvm", "mtriple": triple}, linker)
        except EnvironmentLackError as error:
            yield Line(name, State.WARN, f"no trial: {error}", "see the message")
            return
        data = [np.arange(64, dtype="float32"), np.zeros(64, "float32")]
        program = session.load(library, plain=True)
        result = program.run(data, entry="add_one")[1]
        program.close()
    if np.array_equal(result, data[0] + 1):
        yield Line(name, State.OK, f"a kernel was compiled for {triple}, sent and run")
    else:
        yield Line(name, State.FAIL, "a kernel computes wrong numbers there", "report the device")


def _is_here(machine: str) -> bool:
    from tvm_dnnfusion.devices import cpu

    return cpu.cpu_info().arch == machine


def running_phones() -> tuple[Address, ...]:
    """Addresses of the virtual phones that run."""
    from tvm_dnnfusion.devices.virtual import process

    return tuple(Address(RPC, phone.host, phone.port) for phone in process.all_running())
