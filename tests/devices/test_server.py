"""What our server says of a device's temperatures and clocks, from files like the kernel's."""

from __future__ import annotations

import errno
import json
import socket
from pathlib import Path

import pytest

from tvm_dnnfusion.devices import server


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two processors and three thermal zones, one of which cannot be read."""
    cpus, thermal = tmp_path / "cpu", tmp_path / "thermal"
    for number, (now, most) in enumerate(((1804800, 2419200), (2841600, 2841600))):
        folder = cpus / f"cpu{number}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{now}\n")
        (folder / "cpuinfo_max_freq").write_text(f"{most}\n")
    for number, (kind, milli) in enumerate((("cpu-0-0", "41200\n"), ("gpu", "38000\n"), ("x", ""))):
        zone = thermal / f"thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(f"{kind}\n")
        (zone / "temp").write_text(milli)
    monkeypatch.setattr(server, "CPUS", cpus)
    monkeypatch.setattr(server, "THERMAL", thermal)
    monkeypatch.setattr(server.os, "cpu_count", lambda: 2)
    return tmp_path


def test_temperatures_and_clocks(phone: Path) -> None:
    found = json.loads(server.state())
    assert found["celsius"] == {"thermal_zone0 cpu-0-0": 41.2, "thermal_zone1 gpu": 38.0}
    assert found["mhz"] == [1804, 2841]
    assert json.loads(server.info())["max_mhz"] == [2419, 2841]


def test_a_device_that_shows_nothing_is_silent(phone: Path, monkeypatch) -> None:
    monkeypatch.setattr(server, "CPUS", phone / "none")
    monkeypatch.setattr(server, "THERMAL", phone / "none")
    assert json.loads(server.state()) == {"celsius": {}, "mhz": []}


def test_two_servers_that_find_the_same_port_take_two() -> None:
    """Both can bind it while nobody listens; the second to listen has to look again."""
    first, ports = socket.socket(), []
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    first.bind(("127.0.0.1", 0))

    def make() -> int:
        with socket.socket() as second:
            second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            second.bind(("127.0.0.1", 0 if ports else first.getsockname()[1]))
            ports.append(second.getsockname()[1])
            if len(ports) == 1:
                first.listen()
            second.listen()
            return ports[-1]

    with first:
        assert server.bound(make) == ports[1] != ports[0]


def test_other_failures_to_listen_are_raised() -> None:
    def make() -> None:
        raise OSError(errno.EACCES, "not allowed")

    with pytest.raises(OSError, match="not allowed"):
        server.bound(make)
