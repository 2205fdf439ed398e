"""`dnnfusion devices`: the virtual phone started, seen, examined and stopped by commands."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.cli.conftest import call  # noqa: F401  # a fixture
from tests.phone import require_phone
from tvm_dnnfusion.devices.virtual import process


def test_up_list_doctor_and_down(call: Callable) -> None:  # noqa: F811
    require_phone()
    name = f"command-{os.getpid()}"
    try:
        started = call("devices", "virtual", "up", "--name", name, "--cpu", "cortex-a72", "--json")
        assert started.code == 0, started.err
        assert (started.json["name"], started.json["cpu"]) == (name, "cortex-a72")
        again = call("devices", "virtual", "up", "--name", name)
        assert again.code == 3 and f"devices virtual down --name {name}" in again.err
        listed = call("devices", "list", "--json").json
        assert name in [phone["name"] for phone in listed["virtual"]["running"]]
        address = f"rpc://127.0.0.1:{started.json['port']}"
        found = call("devices", "doctor", "--device", address, "--json")
        texts = [check["text"] for check in found.json["checks"] if check["name"] == address]
        assert found.code == 0 and any("was compiled for aarch64-linux-gnu" in t for t in texts)
    finally:
        stopped = call("devices", "virtual", "down", "--name", name, "--json")
        process.down(name)
    assert stopped.code == 0 and stopped.json["stopped"] == [name]
    assert "no virtual phone" in call("devices", "virtual", "down", "--name", name).out


def test_down_of_a_phone_that_does_not_run_names_those_that_do(
    call: Callable, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    others = [process.Phone("other", "127.0.0.1", 9290, 1, 1, "max", False)]
    monkeypatch.setattr(process, "all_running", lambda: others)
    answer = call("devices", "virtual", "down", "--name", "nosuch")
    assert "no virtual phone nosuch was running; these are: other" in answer.out
    others.clear()
    alone = call("devices", "virtual", "down", "--name", "nosuch")
    assert alone.out.strip() == "no virtual phone was running"
