"""Processes that write at once, and processes that are killed."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tvm_dnnfusion.profile import ProfileDB

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from tests.profile.test_database import row
from tvm_dnnfusion.profile import ProfileDB
path, start, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
db = ProfileDB(path)
print("open", flush=True)
for i in range(start, start + count):
    db.put(row(i))
    print(i, flush=True)
"""


def writer(path: Path, start: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(start), str(count)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_write_at_once_from_nothing(tmp_path: Path) -> None:
    path = tmp_path / "p.sqlite"
    both = [writer(path, start, 60) for start in (0, 1000)]
    for process in both:
        process.communicate(timeout=120)
        assert process.returncode == 0
    with ProfileDB(path) as db:
        assert len(db) == 120
        assert db.status().set_aside == ()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_no_committed_row_is_lost_when_the_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "p.sqlite"
    rng = random.Random(7)
    reported: set[int] = set()
    for attempt in range(6):
        process = writer(path, attempt * 100_000, 100_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(rng.uniform(0.0, 0.15))
        process.kill()
        # with a timeout, communicate would pass over what readline has buffered
        lines = process.communicate()[0].split("\n")[:-1]
        assert process.returncode == -signal.SIGKILL
        reported.update(int(line) for line in lines)
        with ProfileDB(path) as db:
            kept = {int(e.block[len('{"n":') : -1]) for e in db.entries()}
            assert reported <= kept
            assert len(kept) - len(reported) <= attempt + 1
            assert db.status().set_aside == ()
    assert reported
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    raw.close()
