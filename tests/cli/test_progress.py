"""Progress and quiet: what is said while a command works, and what is kept back."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from tvm_dnnfusion.cli.output import Output, finite
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.report.table import table


def test_a_line_per_phase_where_there_is_no_terminal():
    out = io.StringIO()
    with Phases(Console(file=out)) as phases:
        phases("import")
        phases("lower", 1, 3)
        phases("lower", 2, 3)
    assert [line.split(" in ")[0] for line in out.getvalue().splitlines()] == [
        "import: done",
        "lower: done",
    ]
    assert list(phases.seconds) == ["import", "lower"]


def test_a_note_is_a_line_of_its_own_unless_all_is_quiet():
    for quiet, lines in ((False, ["it waits for [1]", "connect: done"]), (True, [])):
        out = io.StringIO()
        with Phases(Console(file=out, width=20), quiet=quiet) as phases:
            phases("connect")
            phases.note("it waits for [1]")
        assert [line.split(" in ")[0] for line in out.getvalue().splitlines()] == lines


def test_a_phase_that_fails_says_so():
    out = io.StringIO()
    with pytest.raises(RuntimeError), Phases(Console(file=out)) as phases:
        phases("build")
        raise RuntimeError
    assert out.getvalue().startswith("build: failed in")


def test_a_terminal_gets_a_live_line():
    out = io.StringIO()
    with Phases(Console(file=out, force_terminal=True, width=100)) as phases:
        phases("lower", 12, 60)
    assert "lower" in out.getvalue()
    assert "done" in out.getvalue()
    assert "\x1b[" in out.getvalue()


def test_the_chatter_is_kept_back_and_nothing_else():
    program = (
        "import os, sys\n"
        "from tvm_dnnfusion.cli.quiet import without_chatter\n"
        "with without_chatter():\n"
        "    os.write(2, b'[1] /x/executable.cc:276: Warning: Scope Saving:\\n')\n"
        "    os.write(2, b'a real warning\\n')\n"
        "    print('from Python', file=sys.stderr)\n"
        "os.write(2, b'after\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stderr == "a real warning\nfrom Python\nafter\n"


def test_json_has_no_nan():
    assert finite({"a": float("nan"), "b": [float("inf"), 1.5], 3: "x"}) == {
        "a": "nan",
        "b": ["inf", 1.5],
        "3": "x",
    }


def test_a_result_is_json_or_text_never_both(capsys):
    parts = (table("T", ("a",), [("1",)]), "words")
    Output(as_json=True).emit({"a": 1}, *parts)
    assert capsys.readouterr().out == '{\n  "a": 1\n}\n'
    Output(as_json=False).emit({"a": 1}, *parts)
    assert capsys.readouterr().out == "T\na\n1\n\nwords\n"
