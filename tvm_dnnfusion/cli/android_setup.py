"""`dnnfusion devices setup-android`: from a phone on a cable to a device behind the tracker."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

import click

from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.checks import Line, State
from tvm_dnnfusion.cli.device_checks import mend_of
from tvm_dnnfusion.cli.doctor import emit_lines
from tvm_dnnfusion.cli.exits import Exit
from tvm_dnnfusion.devices import android
from tvm_dnnfusion.devices.android import AndroidPhone
from tvm_dnnfusion.devices.sessions import tracker
from tvm_dnnfusion.devices.sessions.errors import UnreachableError

HOST = "127.0.0.1"
CHECK_S = 5.0
PREPARE = "plug it in; switch on its developer options and USB debugging"


@click.command("setup-android")
@click.option("--serial", default="", help="Of several phones, as `adb devices` lists them.")
@click.option("--key", default="android", show_default=True, help="What clients will ask for.")
@click.option("--tracker-port", type=click.IntRange(1, 65535), default=android.TRACKER_PORT,
              show_default=True, help="Where the tracker listens on this machine.")  # fmt: skip
@click.option("--server-port", type=click.IntRange(1, 65535), default=android.APP_PORT,
              show_default=True, help="Where the phone's server listens.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@options.common
def setup_android(
    serial: str, key: str, tracker_port: int, server_port: int, dry_run: bool, as_json: bool
) -> int:
    """Set up an Android phone for TVM RPC over USB.

    Prints each step; where adb is there it forwards the ports, looks for the RPC app, opens it, and
    asks the tracker whether the phone has come. May be run again at any time. Exits with 3 where a
    step is left to do ("todo"), which a dry run, leaving all of them, does not count.
    """
    plan = _Plan(serial, key, tracker_port, server_port)
    if dry_run:
        emit_lines(plan.printed(), as_json)
        return Exit.OK
    return emit_lines(plan.printed() if android.adb() is None else plan.carried_out(), as_json)


class _Plan:
    """The steps, to be printed or carried out."""

    def __init__(self, serial: str, key: str, tracker_port: int, server_port: int) -> None:
        self.serial, self.key = serial, key
        self.tracker_port, self.server_port = tracker_port, server_port
        self._start_tracker = (
            f"python -m tvm.exec.rpc_tracker --host={HOST} --port={tracker_port} "
            f"--port-end={tracker_port + 1}"
        )

    def printed(self) -> Iterable[Line]:
        """Every step as a command to type."""
        if android.adb() is None:
            yield Line("adb", State.TODO, "adb is not installed, so nothing is done here",
                       "install it (Debian: apt-get install adb) and run this again")  # fmt: skip
        yield Line("1 tracker", State.TODO, "start it and leave it running", self._start_tracker)
        yield Line("2 phone", State.TODO, "prepare it and plug it in", PREPARE)
        for words in android.forwarding(self.tracker_port, self.server_port):
            forward = shlex.join(android.command(self.serial, *words))
            yield Line("3 ports", State.TODO, "forward one", forward)
        server = f"{self._app_text()}; or TVM's C++ server, without the app: {self._binary('')}"
        yield Line("4 server", State.TODO, "start it on the phone", server)
        yield Line("5 check", State.TODO, "see whether all of it works", self._check())

    def carried_out(self) -> Iterable[Line]:
        """Do what can be done, and say what is left."""
        tracked, arrived = self._tracker()
        yield tracked
        phone, line = self._phone()
        yield line
        if phone is None:
            return
        try:
            for words in android.forwarding(self.tracker_port, self.server_port):
                android.ask(phone.serial, *words)
                yield Line("3 ports", State.OK, shlex.join(android.command(phone.serial, *words)))
            yield self._server(phone, arrived)
        except android.AdbError as error:
            yield Line("adb", State.FAIL, str(error), "see the message, and run this again")
            return
        if tracked.state is State.OK:
            yield self._arrived()

    def _tracker(self) -> tuple[Line, bool]:
        """What is said about the tracker, and whether it has a device of the key."""
        try:
            found = self._devices()
        except UnreachableError as error:
            mend = f"in another terminal: {self._start_tracker}"
            return Line("1 tracker", State.TODO, str(error), mend), False
        return Line("1 tracker", State.OK, f"one listens at {HOST}:{self.tracker_port}"), found > 0

    def _devices(self) -> int:
        """Devices that the tracker has under the key. Raises UnreachableError."""
        found = tracker.summary(HOST, self.tracker_port, CHECK_S)
        return sum(status.devices for status in found if status.key == self.key)

    def _phone(self) -> tuple[AndroidPhone | None, Line]:
        """The phone to set up, and what is said about it."""
        try:
            found = android.phones()
        except android.AdbError as error:
            return None, Line("2 phone", State.FAIL, str(error), "see the message")
        names = ", ".join(phone.serial for phone in found) or "none"
        wanted = [phone for phone in found if self.serial in ("", phone.serial)]
        if not wanted:
            text = f"no phone {self.serial}; adb sees: {names}" if self.serial else "no phone"
            return None, Line("2 phone", State.TODO, text, PREPARE)
        if len(wanted) > 1:
            return None, Line("2 phone", State.TODO, f"several phones: {names}", "give --serial")
        (phone,) = wanted
        if phone.state != "device":
            text = f"{phone.serial} is {phone.state}"
            return None, Line("2 phone", State.TODO, text, mend_of(phone.state))
        return phone, Line("2 phone", State.OK, f"{phone.serial} {phone.model}".strip())

    def _server(self, phone: AndroidPhone, arrived: bool) -> Line:
        """The phone's server; what the user has to do with it, until it has come to the tracker."""
        state = State.OK if arrived else State.TODO
        if android.has_app(phone.serial):
            android.ask(phone.serial, "shell", "am", "start", "-n", android.ACTIVITY)
            todo = "" if arrived else self._app_text()
            return Line("4 server", state, f"{android.PACKAGE} is open", todo)
        if android.has_binary(phone.serial):
            todo = "" if arrived else f"start it: {self._binary(phone.serial)}"
            return Line("4 server", state, "TVM's C++ server is there", todo)
        return Line(
            "4 server",
            State.TODO,
            f"neither the app {android.PACKAGE} nor {android.BINARY} is on the phone",
            "build the app from TVM's apps/android_rpc and `adb install` it; or build apps/cpp_rpc "
            f"with the NDK and `adb push tvm_rpc libtvm_runtime.so {android.BINARY_FOLDER}`",
        )

    def _binary(self, serial: str) -> str:
        """The command that starts TVM's C++ server on the phone."""
        words = android.server_command(self.tracker_port, self.server_port, self.key)
        return shlex.join(android.command(serial or self.serial, *words))

    def _app_text(self) -> str:
        return (
            f"in the app give Address {HOST}, Port {self.tracker_port}, Key {self.key}, and switch "
            "the server on"
        )

    def _arrived(self) -> Line:
        if self._devices():
            return Line("5 check", State.OK, f"the tracker has it. Next: {self._check()}")
        text = f"the tracker has no device under {self.key!r} yet"
        return Line("5 check", State.TODO, text, "start the server on the phone, run this again")

    def _check(self) -> str:
        return (
            f"dnnfusion devices doctor --android --rpc-tracker {HOST}:{self.tracker_port} "
            f"--rpc-key {self.key}"
        )
