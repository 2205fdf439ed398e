"""`dnnfusion tune`: a small model tuned, resumed, and its records taken by the other commands."""

from __future__ import annotations

import onnx
import pytest

from tests.cli.conftest import call  # noqa: F401
from tests.tuning.models import Counting, small
from tvm_dnnfusion.tuning import factory


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.onnx"
    onnx.save(small(), path)
    return path


@pytest.fixture
def counting(monkeypatch):
    made = []

    def make(address, target, threads, timeout_s):
        made.append(Counting())
        return made[-1]

    monkeypatch.setattr(factory, "make_runner", make)
    return made


def test_tuning_is_kept_and_goes_on(call, model, counting, tmp_path):  # noqa: F811
    first = call("tune", model, "--trials", 9, "--json")
    assert first.code == 0
    found = first.json
    assert found["trials"] == 9 and found["records"] == str(tmp_path / "cache" / "tuning.sqlite")
    assert found["tuned"] <= found["untuned"]
    compared = found["model"]
    assert compared["before_us"] > 0 and compared["after_us"] > 0
    assert {*compared["kept"], *compared["slower"]} <= {b["block"] for b in found["blocks"]}
    assert ("slower in the model" in first.err) == bool(compared["slower"])
    assert sum(b["trials"] for b in found["blocks"]) == 9
    second = call("tune", model, "--trials", 12)
    assert second.code == 0 and "12 trials in" in second.out
    assert "of peak" in second.out and "b000_conv2d_relu" in second.out
    status = call("db", "status", "--json")
    assert status.json["tuning"]["trials"] == 12 and status.json["tuning"]["blocks"] == 4


def test_records_have_a_status_and_can_be_merged(call, model, counting, tmp_path):  # noqa: F811
    theirs = tmp_path / "theirs.sqlite"
    assert call("tune", model, "--trials", 9, "--tuning-records", theirs).code == 0
    status = call("db", "status", "--tuning-records", theirs, "--json")
    assert status.json["tuning"]["trials"] == 9 and status.json["tuning"]["path"] == str(theirs)
    merged = call("db", "merge", theirs, "--json")
    assert merged.code == 0 and merged.json[0]["added"] == 9
    assert call("db", "status", "--json").json["tuning"]["trials"] == 9
    nonsense = tmp_path / "damaged.sqlite"
    nonsense.write_bytes(b"nonsense" * 100)
    damaged = call("db", "status", "--tuning-records", nonsense)
    assert damaged.code == 0 and "measurements" in damaged.out and "left as it is" in damaged.out


@pytest.mark.parametrize("options, message", [
    (["--rpc-tracker", "localhost:9190"], "go together"),
    (["--rpc-tracker", "localhost:9190", "--rpc-key", "k", "--device", "local"], "already"),
    (["--tuning-records", "none"], "needs a file"),
    (["--search", "luck"], "luck"),
    (["--trials", "0"], "trials"),
])  # fmt: skip
def test_options_that_do_not_go_together(call, model, options, message):  # noqa: F811
    answer = call("tune", model, *options)
    assert answer.code == 2 and message in answer.err


def test_an_interrupted_tuning_says_how_to_go_on(call, model, counting, monkeypatch):  # noqa: F811
    def measure(self, func):
        if len(self.measured) == 3:
            raise KeyboardInterrupt
        return original(self, func)

    original = Counting.measure
    monkeypatch.setattr(Counting, "measure", measure)
    answer = call("tune", model, "--trials", 9)
    assert answer.code == 4 and "3 trials are kept in" in answer.err


def test_a_block_that_cannot_be_measured_is_named(call, model, counting, monkeypatch):  # noqa: F811
    def measure(self, func):
        self._fails = lambda text: "conv2d" in text
        return original(self, func)

    original = Counting.measure
    monkeypatch.setattr(Counting, "measure", measure)
    answer = call("tune", model, "--trials", 9)
    assert answer.code == 0
    assert "b000_conv2d_relu is not tuned: its template's own choice failed: it was" in answer.err


def test_a_tuning_without_a_measurement_fails(call, model, counting, monkeypatch):  # noqa: F811
    def measure(self, func):
        self._fails = lambda text: True
        return original(self, func)

    original = Counting.measure
    monkeypatch.setattr(Counting, "measure", measure)
    answer = call("tune", model, "--trials", 9)
    assert answer.code == 3 and "no block could be measured, so nothing was tuned" in answer.err


def test_records_are_taken_by_run(call, model, counting, tmp_path):  # noqa: F811
    assert call("tune", model, "--trials", 9).code == 0
    for records in ((), ("--tuning-records", "none")):
        assert call("run", model, *records).code == 0
    assert call("run", model, "--tuning-records", tmp_path / "no.sqlite").code == 2
