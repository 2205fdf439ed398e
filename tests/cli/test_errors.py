"""Exceptions to messages and exit codes; nothing expected shows a traceback."""

from __future__ import annotations

import errno
import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tvm_dnnfusion.cli import app as app_module
from tvm_dnnfusion.cli import errors
from tvm_dnnfusion.cli.errors import EXPECTED, describe
from tvm_dnnfusion.cli.exits import Exit, VerificationFailed


@pytest.fixture
def failing(monkeypatch):
    """Make `dnnfusion rules` raise what the test wants."""

    def install(action) -> None:
        @click.command("rules")
        @click.option("--json", "as_json", is_flag=True)
        @click.option("--traceback", "_t", is_flag=True)
        def command(as_json: bool, _t: bool) -> None:
            action()

        real = app_module.LazyGroup.get_command
        monkeypatch.setattr(
            app_module.LazyGroup,
            "get_command",
            lambda self, ctx, name: command if name == "rules" else real(self, ctx, name),
        )

    return install


def raiser(error: BaseException):
    def action() -> None:
        raise error

    return action


def test_exit_codes_never_change():
    assert {e.name: int(e) for e in Exit} == {
        "OK": 0,
        "VERIFICATION_FAILED": 1,
        "USAGE": 2,
        "ENVIRONMENT": 3,
        "INTERRUPTED": 4,
        "INTERNAL": 5,
    }


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_expected_error_exists(name: str):
    module, _, cls = name.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), cls), Exception)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (VerificationFailed("differs"), 1, "differs"),
        (click.BadParameter("bad"), 2, "bad"),
        (PermissionError(errno.EACCES, "x", "/a/b"), 2, "/a/b: Permission denied"),
        (OSError(errno.ENOSPC, "x", "/a/b"), 3, "No space left"),
        (ModuleNotFoundError("x", name="nowhere.helper"), 3, "pip install nowhere"),
        (MemoryError(), 3, "out of memory"),
        (KeyboardInterrupt(), 4, "interrupted"),
    ],
)
def test_expected_errors(call, failing, error, code, words):
    failing(raiser(error))
    answer = call("rules")
    assert answer.code == code
    assert words in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_a_fault_names_the_file_with_its_traceback(call, failing):
    failing(raiser(RuntimeError("first line\nsecond line")))
    answer = call("rules")
    assert answer.code == 5
    assert "error: RuntimeError: first line\n" in answer.err
    assert "second line" not in answer.err
    path = Path(re.search(r"the traceback is in (\S+\.log)\.", answer.err)[1])
    assert "second line" in path.read_text()
    path.unlink()


def test_a_fault_shows_its_traceback_when_asked(call, failing):
    failing(raiser(RuntimeError("boom")))
    answer = call("rules", "--traceback")
    assert answer.code == 5
    assert "Traceback (most recent call last)" in answer.err


def test_a_missing_module_of_our_own_is_a_fault_not_the_environment():
    assert describe(ModuleNotFoundError("x", name="tvm_dnnfusion.nope")).code is Exit.INTERNAL


def test_errors_are_json_too(call, failing):
    failing(raiser(VerificationFailed("differs")))
    answer = call("rules", "--json")
    assert answer.json == {"error": "differs", "kind": "VerificationFailed", "exit_code": 1}
    assert "differs" in answer.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_interrupt(call, failing, number):
    failing(lambda: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    answer = call("rules")
    assert answer.code == 4
    assert "the same command goes on from there" in answer.err
    assert signal.getsignal(number) is before


def test_an_interrupt_that_comes_back_as_another_error_is_still_one(call, failing):
    def action() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as error:
            raise RuntimeError("a callback failed") from error

    failing(action)
    assert call("rules").code == 4


def test_a_reader_that_leaves_is_no_error():
    program = (
        "import sys; from tvm_dnnfusion.cli import app; sys.stdin.read();"
        "sys.exit(app.run(['--help']))"
    )
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        os.close(writing)
        os.close(reading)
        _, err = child.communicate("go")
    assert (child.returncode, err) == (0, "")


def test_unknown_commands_and_options_are_usage_errors(call):
    answer = call("optimise")
    assert answer.code == 2
    assert "did you mean" in answer.err.lower()
    assert call("doctor", "--nope").code == 2


@pytest.mark.parametrize("variable", ["DNNFUSION_THREADS", "DNNFUSION_DEBUG"])
@pytest.mark.parametrize("command", [
    ["optimize", "none.onnx"], ["verify", "none.onnx"], ["run", "none.onnx"],
    ["bench", "none.onnx"], ["inspect", "none.onnx"], ["db", "status", "--db", "none.sqlite"],
    ["db", "export", "rows", "--db", "none.sqlite"], ["db", "merge", "none"], ["doctor"],
], ids=" ".join)  # fmt: skip
def test_a_bad_variable_is_the_environments_fault(call, monkeypatch, tmp_path, variable, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "many")
    answer = call(*command)
    assert answer.code == 3
    assert f"{variable}='many'" in answer.err + answer.out


def test_the_package_of_the_commands_can_be_run():
    done = subprocess.run([sys.executable, "-m", "tvm_dnnfusion.cli", "nope"], text=True,
                          capture_output=True, timeout=60)  # fmt: skip
    assert done.returncode == 2
    assert "Usage: dnnfusion" in done.stderr and "No such command 'nope'" in done.stderr


def test_no_file_for_the_traceback_is_survived(monkeypatch):
    def full(**kwargs: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(errors.tempfile, "mkstemp", full)
    assert errors.keep_traceback(RuntimeError("x")) is None


def test_help_lists_every_command_and_loads_none(call):
    answer = call("--help")
    assert answer.code == 0
    for name in app_module.COMMANDS:
        assert re.search(rf"^  {name} ", answer.out, re.M)


@pytest.mark.parametrize("name", sorted(app_module.COMMANDS))
def test_every_command_has_help_and_json(call, name):
    answer = call(name, "--help")
    assert answer.code == 0
    if name not in ("db", "devices", "gnn"):  # groups of commands
        assert "--json" in answer.out


def test_a_missing_module_of_a_present_package_is_a_fault_of_the_program() -> None:
    inside = ModuleNotFoundError("No module named 'numpy.nothing'", name="numpy.nothing")
    absent = ModuleNotFoundError("No module named 'nowhere'", name="nowhere")
    assert describe(inside).code is Exit.INTERNAL
    assert describe(absent).code is Exit.ENVIRONMENT
