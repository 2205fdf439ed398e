"""`run` and `verify` on a device: the same words as here, and clear ones where it cannot be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from rich.console import Console

from tests.devices.sessions import servers
from tests.devices.sessions.conftest import wait_for
from tvm_dnnfusion.cli.place import Place
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.devices.sessions import Session, parse


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server on this machine."""
    with servers.server(tmp_path_factory.mktemp("server")) as process:
        yield f"rpc://127.0.0.1:{process.port}"


def test_a_model_runs_on_a_device_as_it_does_here(call, model, device, tmp_path):
    here, there = tmp_path / "here.npz", tmp_path / "there.npz"
    assert call("run", model, "--outputs", here).code == 0
    answer = call("run", model, "--device", device, "--outputs", there, "--threads", 1, "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["device"], answer.json["threads"]) == (device, 1)
    with np.load(here) as a, np.load(there) as b:
        assert a.files == b.files
        np.testing.assert_allclose(a["y"], b["y"], rtol=1e-4, atol=1e-6)


def test_a_saved_library_runs_on_a_device(call, optimized, device):
    answer = call("run", optimized, "--device", device, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["outputs"][0]["shape"] == [1, 10]


def test_a_model_and_a_library_are_verified_on_a_device(call, model, optimized, device):
    for more in ((), ("--library", optimized)):
        answer = call("verify", model, *more, "--device", device, "--json")
        assert answer.code == 0, answer.err
        assert answer.json["passed"] is True
        assert answer.json["device"] == device


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--device", "phone"), 2, "the forms are: local, rpc://host:port"),
        (("--device", "rpc://host"), 2, "host and a port"),
        (("--device", "tracker://h:9190"), 2, "names no key"),
        (("--rpc-tracker", "127.0.0.1:9190"), 2, "go together"),
        (("--rpc-key", "pixel"), 2, "go together"),
        (("--device", "local", "--rpc-key", "pixel"), 2, "names the device already"),
        (("--cores", "big"), 2, "name it with --device"),
        (("--device", "rpc://127.0.0.1:1"), 3, "nobody listens at 127.0.0.1:1"),
        (("--rpc-tracker", "127.0.0.1:1", "--rpc-key", "pixel"), 3, "start a tracker"),
    ],
)
def test_what_is_no_device_is_said_at_once(call, model, options, code, words):
    for command in ("run", "verify"):
        answer = call(command, model, *options)
        assert (answer.code, words in answer.err) == (code, True), answer.err
        assert "Traceback" not in answer.err


def test_a_device_that_is_there_and_cannot_be_had_is_exit_code_3(call, model, device):
    other = call("run", model, "--device", f"{device}/pixel")
    assert other.code == 3 and "has another key than 'pixel': give its key" in other.err
    with Session(device):
        busy = call("verify", model, "--device", device)
    assert busy.code == 3 and "it serves somebody else (one session at a time)" in busy.err
    assert "Traceback" not in other.err + busy.err
    assert call("run", model, "--device", device).code == 0, "and afterwards it is free"


class Said(Phases):
    """Phases that remember what is noted, and then free the device."""

    def __init__(self, held: Session) -> None:
        super().__init__(Console(quiet=True), quiet=True)
        self.held, self.notes = held, []

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.held.close()


def test_waiting_for_a_busy_device_is_said_before(tmp_path):
    with servers.tracker(tmp_path) as tracking:
        place = f"127.0.0.1:{tracking.port}"
        with servers.server(tmp_path, f"--tracker={place}", "--key=pixel"):
            wait_for(tracking.port, devices=1)
            there = Place(parse(f"tracker://{place}/pixel"), "all", 60.0)
            with Session(there.address) as held:
                said = Said(held)
                with there.session(None, said) as session:
                    assert session.info.ours, "it was had once it was free"
            free = Said(held)
            wait_for(tracking.port, devices=1)
            with there.session(None, free):
                assert free.notes == []
    assert said.notes == [
        f"waiting for a device at tracker://{place}/pixel, up to 60 s: all that it has (1) are in "
        "use, 0 other clients wait"
    ]


def test_a_target_of_another_machine_is_refused_before_compiling(call, model, device):
    answer = call("run", model, "--device", device, "--target", "cortex-a76")
    assert answer.code == 2
    assert "the target is aarch64" in answer.err
    assert "import" not in answer.err, "nothing was compiled"


def test_bisecting_on_a_device_is_refused(call, model):
    answer = call("verify", model, "--device", "local", "--bisect")
    assert answer.code == 2 and "--bisect works on this machine" in answer.err


@pytest.mark.parametrize("command", ["run", "bench"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "cortex-a72"), "--target does not apply"),
        (("--db", "profile.sqlite"), "--db does not apply"),
        (("--target", "host", "--db", "x"), "--target, --db do not apply"),
        (("--input-shapes", "x:[1,4,12,12]"), "--input-shapes does not apply"),
    ],
)
def test_options_on_compiling_are_refused_for_a_saved_library(
    call, optimized, command, options, words
):
    answer = call(command, optimized, *options)
    assert answer.code == 2
    assert words in answer.err


def test_a_database_is_refused_where_a_library_is_verified(call, model, optimized):
    answer = call("verify", model, "--library", optimized, "--db", "profile.sqlite")
    assert answer.code == 2 and "--db does not apply" in answer.err
