"""`devices doctor` and `devices setup-android`, the latter with an adb that only remembers."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.devices.sessions import servers
from tests.devices.sessions.conftest import wait_for
from tvm_dnnfusion.devices.sessions import Session

ADB = """#!/bin/sh
echo "$*" >> "$0.log"
[ "$1" = -s ] && shift 2
case "$1" in
  devices) echo "List of devices attached"; cat "$0.phones" ;;
  shell) shift; case "$*" in
    pm*) cat "$0.packages" ;;
    ls*) cat "$0.files" ;;
  esac ;;
  reverse|forward) if [ -f "$0.broken" ]; then echo "error: device offline" >&2; exit 1; fi ;;
esac
"""


class Adb:
    """A command `adb` of our own, its answers, and what it was asked."""

    def __init__(self, folder) -> None:
        self.path = folder / "adb"
        self.path.write_text(ADB)
        self.path.chmod(0o755)
        self.says("phones", "").says("packages", "").says("files", "")

    def says(self, what: str, text: str) -> Adb:
        self.path.with_name(f"adb.{what}").write_text(text)
        return self

    @property
    def asked(self) -> list[str]:
        log = self.path.with_name("adb.log")
        return log.read_text().splitlines() if log.exists() else []


PIXEL = "1A2B3C device usb:1-1 product:x model:Pixel_6 device:y\n"


@pytest.fixture
def adb(tmp_path, monkeypatch) -> Adb:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return Adb(tmp_path)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> Iterator[servers.Process]:
    """A tracker with a server under the key "pixel"."""
    folder = tmp_path_factory.mktemp("tracked")
    with servers.tracker(folder) as process:
        options = (f"--tracker=127.0.0.1:{process.port}", "--key=pixel")
        with servers.server(folder, *options):
            wait_for(process.port, devices=1)
            yield process


def states(answer) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for check in answer.json["checks"]:
        out.setdefault(check["name"], []).append(check["state"])
    return out


def test_without_adb_the_steps_are_printed_and_left_to_do(call, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = call("devices", "setup-android", "--key", "pixel")
    assert answer.code == 3
    data = call("devices", "setup-android", "--key", "pixel", "--json")
    assert (data.code, data.json["ok"]) == (3, False)
    assert {check["state"] for check in data.json["checks"]} == {"todo"}
    assert all(check["mend"] for check in data.json["checks"]), "each says what to do"
    for words in (
        "adb is not installed",
        "python -m tvm.exec.rpc_tracker --host=127.0.0.1 --port=9190",
        "adb reverse tcp:9190 tcp:9190",
        "adb forward tcp:5001 tcp:5001",
        "Address 127.0.0.1, Port 9190, Key pixel",
        "tvm_rpc server --host=127.0.0.1 --port=5001",
        "dnnfusion devices doctor --android --rpc-tracker 127.0.0.1:9190 --rpc-key pixel",
    ):
        assert words in answer.out


def test_a_dry_run_asks_the_phone_nothing(call, adb):
    answer = call("devices", "setup-android", "--dry-run", "--json")
    assert answer.code == 0
    assert {check["state"] for check in answer.json["checks"]} == {"todo"}
    assert adb.asked == []


def test_ports_are_forwarded_the_app_is_opened_and_the_tracker_asked(call, adb, tracked):
    adb.says("phones", PIXEL).says("packages", "package:org.apache.tvm.tvmrpc\n")
    port = tracked.port
    arguments = ("devices", "setup-android", "--tracker-port", port, "--json")
    answer = call(*arguments, "--key", "pixel")
    assert answer.code == 0, answer.out
    assert all(state == "ok" for found in states(answer).values() for state in found)
    for words in (
        f"-s 1A2B3C reverse tcp:{port} tcp:{port}",
        "-s 1A2B3C forward tcp:5001 tcp:5001",
        "-s 1A2B3C shell am start -n org.apache.tvm.tvmrpc/.MainActivity",
    ):
        assert words in adb.asked
    waiting = call(*arguments, "--key", "other")
    assert waiting.code == 3
    assert waiting.json["checks"][-1]["text"] == "the tracker has no device under 'other' yet"
    left = {c["name"]: c["mend"] for c in waiting.json["checks"] if c["state"] == "todo"}
    assert list(left) == ["4 server", "5 check"] and "Key other" in left["4 server"]


@pytest.mark.parametrize(
    ("phones", "options", "words"),
    [
        ("", (), "no phone"),
        (PIXEL + "9Z8Y device model:Other\n", (), "several phones: 1A2B3C, 9Z8Y"),
        (PIXEL, ("--serial", "9Z8Y"), "no phone 9Z8Y; adb sees: 1A2B3C"),
        ("1A2B3C unauthorized usb:1-1\n", (), "allow USB debugging"),
        ("1A2B3C offline usb:1-1\n", (), "plug it in again"),
    ],
)
def test_a_phone_that_cannot_be_used_is_named(call, adb, phones, options, words):
    adb.says("phones", phones)
    answer = call("devices", "setup-android", "--tracker-port", servers.free_port(), *options)
    assert answer.code == 3
    assert words in answer.out
    assert "in another terminal: python -m tvm.exec.rpc_tracker" in answer.out
    assert not any("forward" in line for line in adb.asked)


def test_a_phone_without_a_server_is_told_how_to_get_one(call, adb):
    adb.says("phones", PIXEL)
    answer = call("devices", "setup-android", "--tracker-port", servers.free_port())
    assert answer.code == 3
    assert "neither the app org.apache.tvm.tvmrpc nor /data/local/tmp/tvm_rpc" in answer.out
    adb.says("files", "/data/local/tmp/tvm_rpc\n")
    answer = call("devices", "setup-android", "--tracker-port", servers.free_port())
    assert "todo  4 server: TVM's C++ server is there" in answer.out
    assert "do it: start it: adb -s 1A2B3C shell" in answer.out


def test_an_adb_that_fails_is_quoted(call, adb):
    adb.says("phones", PIXEL).says("broken", "")
    answer = call("devices", "setup-android", "--tracker-port", servers.free_port())
    assert answer.code == 3
    assert "error: device offline" in answer.out


def test_the_doctor_tries_a_device_and_names_one_that_is_not_there(call, tracked):
    address = f"tracker://127.0.0.1:{tracked.port}/pixel"
    gone = f"rpc://127.0.0.1:{servers.free_port()}"
    good = call("devices", "doctor", "--device", address, "--json")
    assert good.code == 0, good.out
    texts = [c["text"] for c in good.json["checks"] if c["name"] == address]
    assert texts[0] == "1 under the key 'pixel', 1 free, 0 wait"
    assert any("a kernel was compiled for" in text for text in texts)
    bad = call("devices", "doctor", "--device", gone, "--device", "local", "--json")
    assert bad.code == 3
    assert states(bad)[gone] == ["fail"]
    assert "fail" not in states(bad)["local"]


def test_the_doctor_warns_of_the_stock_server(call, tmp_path):
    with servers.stock(tmp_path) as process:
        address = f"rpc://127.0.0.1:{process.port}"
        answer = call("devices", "doctor", "--device", address, "--json")
    assert answer.code == 0, answer.out
    assert states(answer)[address] == ["warn", "ok"]
    assert "hangs after a crash" in answer.out


def test_the_doctor_lists_what_a_tracker_has_instead(call, tracked):
    answer = call("devices", "doctor", "--rpc-tracker", f"127.0.0.1:{tracked.port}",
                  "--rpc-key", "nokia")  # fmt: skip
    assert answer.code == 3
    assert "no device under the key 'nokia'; its keys: pixel" in answer.out


def test_the_doctor_shows_what_a_tracker_has_without_a_key(call, tracked):
    name = f"127.0.0.1:{tracked.port}"
    free = call("devices", "doctor", "--rpc-tracker", name, "--json")
    assert free.code == 0, free.out
    mine = [c for c in free.json["checks"] if c["name"] == f"tracker {name}"]
    assert [(c["state"], c["text"]) for c in mine] == [
        ("ok", "1 under the key 'pixel', 1 free, 0 wait")
    ]
    with Session(f"tracker://{name}/pixel"):
        busy = call("devices", "doctor", "--rpc-tracker", name)
    assert "warn  tracker" in busy.out and "1 under the key 'pixel', 0 free" in busy.out
    gone = f"127.0.0.1:{servers.free_port()}"
    nobody = call("devices", "doctor", "--rpc-tracker", gone)
    assert nobody.code == 3 and f"nobody listens at {gone}" in nobody.out


def test_the_doctor_says_that_a_tracker_is_empty(call, tmp_path):
    with servers.tracker(tmp_path) as process:
        name = f"127.0.0.1:{process.port}"
        answer = call("devices", "doctor", "--rpc-tracker", name)
    assert answer.code == 0
    assert "it answers, and has no device" in answer.out
    assert f"tvm_dnnfusion.devices.server --tracker {name} --key KEY" in answer.out
