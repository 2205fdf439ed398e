"""What our server says of a device's temperatures and clocks, from files like the kernel's."""

from __future__ import annotations

import errno
import json
import socket
from pathlib import Path

import numpy as np
import pytest

from tvm_dnnfusion.devices import operators, server


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


UNIQUE = {
    (1, None): ([0, 1, 2, 3], [6, 1, 2, 0], [3, 1, 2, 2, 3, 1, 0, 0], [2, 2, 2, 2]),
    (0, None): ([3, 1, 2, 0], [0, 1, 2, 6], [0, 1, 2, 2, 0, 1, 3, 3], [2, 2, 2, 2]),
    (1, 0): ([[0, 0], [2, 2], [3, 1]], [3, 1, 0], [2, 1, 2, 0], [1, 1, 2]),
    (0, 0): ([[3, 1], [2, 2], [0, 0]], [0, 1, 3], [0, 1, 0, 2], [2, 1, 1]),
}
"""Of rows below, in order or not, by axis: values, their first places, which is where, counts."""


@pytest.mark.parametrize("how", UNIQUE)
def test_what_no_runtime_computes_is_the_server_s(how: tuple[int, int | None]) -> None:
    """`nonzero` and `unique`, which TVM has in its compiler's Python only."""
    import tvm

    data = np.asarray([[3, 1], [2, 2], [3, 1], [0, 0]], "int64")
    given = tvm.runtime.tensor(data)
    np.testing.assert_array_equal(operators.nonzero(given).numpy(), np.stack(data.nonzero()))
    ordered, axis = how
    for found, wanted in zip(
        operators.unique(given, ordered, 1, 1, 1, axis), UNIQUE[how], strict=True
    ):
        np.testing.assert_array_equal(found.numpy(), wanted)
    values, counts = operators.unique(given, ordered, 0, 0, 1, axis)
    np.testing.assert_array_equal(values.numpy(), UNIQUE[how][0])
    np.testing.assert_array_equal(counts.numpy(), UNIQUE[how][3])
    np.testing.assert_array_equal(
        operators.unique(given, ordered, 0, 0, 0, axis).numpy(), UNIQUE[how][0]
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--tracker", "foo", "--key", "k"], 2, "'foo' needs a host and a port: HOST:PORT"),
        (["--tracker", "foo:x", "--key", "k"], 2, "'x' is no port"),
        (["--tracker", "foo:1"], 2, "needs a --key"),
        (["--port", "0"], 2, "'0' is no port (1 to 65535)"),
        (["--port", "9500", "--port-end", "9200"], 2, "it is from 9501 to 65536"),
        (["--host", "999.1.1.1"], 3, "cannot listen at 999.1.1.1, port 9090"),
        (["--host", "203.0.113.7"], 3, "cannot listen at 203.0.113.7, port 9090"),
    ],
)
def test_wrong_use_is_said(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        server.main(words)
    told = capsys.readouterr().err
    assert ended.value.code == code and said in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("port", "end"), [(9090, 9199), (9100, 9200), (9500, 9600), (65535, 65536)]
)
def test_ports_beyond_the_usual_ones(port: int, end: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(server, "serve", seen.append)
    server.main(["--port", str(port)])
    assert (seen[0].port, seen[0].port_end) == (port, end)
