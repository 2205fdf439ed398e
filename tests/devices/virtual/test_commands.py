"""`dnnfusion devices`: the virtual phone started, seen, examined and stopped by commands."""

from __future__ import annotations

import os
from collections.abc import Callable

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
    assert call("devices", "virtual", "down", "--name", name).out.strip() == (
        "no virtual phone was running"
    )
