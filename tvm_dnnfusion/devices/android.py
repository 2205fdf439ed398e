"""Android phones over USB: what adb says of them, and the ports that TVM's RPC needs.

The phone's server asks the tracker on this machine, and clients here ask the phone's server: one
port is forwarded in each direction, so neither has to be in the same network. Sources: TVM's
`apps/android_rpc` and `jvm` (package, activity, first port), the manual of adb.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

PACKAGE = "org.apache.tvm.tvmrpc"
ACTIVITY = f"{PACKAGE}/.MainActivity"
BINARY_FOLDER = "/data/local/tmp"
BINARY = f"{BINARY_FOLDER}/tvm_rpc"
APP_PORT = 5001
"""First port that the app listens at; it takes the next where that is in use."""
TRACKER_PORT = 9190
ADB_S = 20.0
"""A phone answers adb within 1 s; starting adb's own server takes up to 5."""


class AdbError(RuntimeError):
    """adb failed, with what it said."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class AndroidPhone:
    """A phone as adb lists it: `state` is "device" where it can be used."""

    serial: str
    state: str
    model: str = ""


def adb() -> str | None:
    """Path of adb; None where it is not installed."""
    return shutil.which("adb")


def command(phone: str, *words: str) -> list[str]:
    """The adb command for a phone ("" for the only one)."""
    return ["adb", *(["-s", phone] if phone else []), *words]


def ask(phone: str, *words: str) -> str:
    """Run adb and return what it says. Raises AdbError within `ADB_S` seconds."""
    line = command(phone, *words)
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=ADB_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise AdbError(f"{' '.join(line)} gave no answer within {ADB_S:g} s") from error
    except OSError as error:
        raise AdbError(f"{' '.join(line)} cannot be run: {error.strerror or error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise AdbError(f"{' '.join(line)} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout


def phones() -> tuple[AndroidPhone, ...]:
    """The phones that adb sees. Raises AdbError."""
    rows = [line.split() for line in ask("", "devices", "-l").splitlines()[1:] if line.strip()]
    return tuple(
        AndroidPhone(
            row[0],
            row[1],
            next((w.partition(":")[2] for w in row[2:] if w.startswith("model:")), ""),
        )
        for row in rows
        if len(row) > 1 and not row[0].startswith("*")
    )


def forwarding(tracker_port: int, server_port: int) -> tuple[tuple[str, ...], ...]:
    """adb's words for the two ports: the phone's way to the tracker, ours to the phone."""
    return (
        ("reverse", f"tcp:{tracker_port}", f"tcp:{tracker_port}"),
        ("forward", f"tcp:{server_port}", f"tcp:{server_port}"),
    )


def server_command(tracker_port: int, server_port: int, key: str) -> tuple[str, ...]:
    """adb's words that start TVM's C++ server on the phone, for phones without the app."""
    return (
        "shell",
        f"LD_LIBRARY_PATH={BINARY_FOLDER} {BINARY} server --host=127.0.0.1 --port={server_port} "
        f"--port-end={server_port + 10} --tracker=127.0.0.1:{tracker_port} --key={key}",
    )


def has_app(phone: str) -> bool:
    """Whether the RPC app is installed. Raises AdbError where the phone cannot be asked."""
    return f"package:{PACKAGE}" in ask(phone, "shell", "pm", "list", "packages", PACKAGE)


def has_binary(phone: str) -> bool:
    """Whether TVM's C++ server is on the phone."""
    return BINARY in ask(phone, "shell", f"ls {BINARY} 2>/dev/null || true").split()
