"""Candidates on devices: behind a server, a tracker, and on the virtual phone by instructions."""

from __future__ import annotations

import onnx
import pytest

from tests.cli.conftest import call  # noqa: F401
from tests.devices.sessions import servers
from tests.devices.sessions.conftest import wait_for
from tests.helpers import DEVICE
from tests.phone import needs_counts
from tests.tuning.models import small
from tests.tuning.test_runner import crashing, hanging, sound
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.devices.sessions import Session, UnreachableError, parse
from tvm_dnnfusion.profile.trials import INSTRUCTIONS, TIME
from tvm_dnnfusion.tuning.remote import SessionRunner
from tvm_dnnfusion.tuning.runner import RunnerError

KEY = "bench"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tracker with one device."""
    folder = tmp_path_factory.mktemp("rpc")
    with servers.tracker(folder) as tracker:
        options = (f"--tracker=127.0.0.1:{tracker.port}", f"--key={KEY}")
        with servers.server(folder, *options):
            wait_for(tracker.port, devices=1)
            yield f"tracker://127.0.0.1:{tracker.port}/{KEY}"


@pytest.fixture
def runner(place):
    made = SessionRunner(place, target_dict(host()), 1, 60.0)
    yield made
    made.close()


def test_a_device_of_a_tracker_times_and_survives_a_crash(runner):
    assert runner.unit == TIME
    assert runner.measure(sound()).cost > 0
    outcome = runner.measure(crashing)
    assert outcome.cost is None and "SIGABRT" in outcome.message
    again = runner.measure(sound())
    assert again.cost > 0 and again.samples == 7


def test_code_that_hangs_the_device_costs_one_limit(place):
    made = SessionRunner(place, target_dict(host()), 1, 10.0)
    try:
        outcome = made.measure(hanging)
        assert outcome.cost is None and "10 s" in outcome.message
        assert made.measure(sound(32)).cost > 0, "the session is open again"
    finally:
        made.close()


def test_the_command_tunes_on_a_device_of_a_tracker(call, place, tmp_path):  # noqa: F811
    path, address = tmp_path / "small.onnx", parse(place)
    onnx.save(small(), path)
    where = ("--rpc-tracker", f"{address.host}:{address.port}", "--rpc-key", address.key)
    for trials in (5, 6):  # the second goes on where the first ended
        answer = call("tune", path, *where, "--threads", 1, "--trials", trials, "--json")
        assert answer.code == 0, answer.err
        assert (answer.json["unit"], answer.json["trials"]) == (TIME, trials)
        assert all(b["untuned"] > 0 and not b["failed"] for b in answer.json["blocks"])
    assert call("db", "status", "--json").json["tuning"]["trials"] == 6


def test_a_device_that_counts_nothing_is_no_failure_of_the_candidate(place):
    made = SessionRunner(place, target_dict(host()), 1, 60.0, unit=INSTRUCTIONS)
    try:
        with pytest.raises(RunnerError, match="counts no instructions"):
            made.measure(sound())
    finally:
        made.close()


def test_no_device_at_the_address():
    with pytest.raises(UnreachableError):
        SessionRunner(f"rpc://127.0.0.1:{servers.free_port()}", target_dict(DEVICE), 1, 5.0)


@needs_counts
def test_the_virtual_phone_counts_exactly(phone):
    target = registry.target_dict(registry.get("cortex-a53"))
    address = f"rpc://{phone.host}:{phone.port}"
    with Session(address) as session:
        assert session.info.machine == "aarch64"
    made = SessionRunner(address, target, 1, 120.0, unit=INSTRUCTIONS)
    try:
        small, large = sound(64), sound(256)
        costs = [made.measure(func).cost for func in (small, small, large)]
        assert costs[0] == costs[1] and costs[0] > 10
        assert costs[2] > 1.5 * costs[0]
    finally:
        made.close()
