"""A tuning that is killed at any moment: no committed trial is lost, the next one goes on."""

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

from tvm_dnnfusion.profile.trials import TuningDB

ROOT = Path(__file__).parents[2]
KILLS = 50
BUDGET = 40
TUNING = """
import sys
from tests.tuning.models import Counting, tasks
from tvm_dnnfusion.profile.trials import TuningDB
from tvm_dnnfusion.tuning.factory import proposer
from tvm_dnnfusion.tuning.tuner import Tuner
found = tasks()
print("loaded", flush=True)
for line in sys.stdin:  # a fork per round: loading TVM each time would take minutes
    import os
    child = os.fork()
    if child == 0:
        db = TuningDB(sys.argv[1])
        say = lambda states, state: print("trial", sum(s.trials for s in states), flush=True)
        tuner = Tuner(found, db, Counting(), proposer("genetic", int(line)), say)
        print("begun", os.getpid(), tuner.trials, flush=True)
        tuner.run(tuner.trials + int(sys.argv[2]))
        db.close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("ended", os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_no_committed_trial_is_lost_when_tuning_is_killed(tmp_path: Path) -> None:
    path, rng = tmp_path / "t.sqlite", random.Random(7)
    process = subprocess.Popen(
        [sys.executable, "-c", TUNING, str(path), str(BUDGET)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "loaded\n"
    reported, killed = 0, 0
    for attempt in range(KILLS):
        process.stdin.write(f"{attempt}\n")
        process.stdin.flush()
        reported, code = _until_killed(process.stdout, reported, rng)
        killed += code == -signal.SIGKILL
        with TuningDB(path) as db:
            rows = sum(len(db.trials(s.key)) for s in db.subjects())
        assert rows >= reported, "a trial that was reported is there"
        assert rows <= reported + 1, "and at most one that was not reported yet"
        reported = rows
    process.stdin.close()
    assert process.wait(60) == 0
    assert killed == KILLS and reported > 25
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    raw.close()


def _until_killed(lines, known: int, rng: random.Random) -> tuple[int, int]:
    """Trials reported by one tuning, which is killed at a random moment, and its exit code."""
    word, pid, found = lines.readline().split()
    assert word == "begun" and int(found) == known, "it goes on where the records end"
    for _ in range(rng.randrange(3)):
        word, number = lines.readline().split()
        known = max(known, int(number))
    time.sleep(rng.uniform(0.0, 0.05))
    os.kill(int(pid), signal.SIGKILL)
    while True:
        word, number = lines.readline().split()
        if word == "ended":
            return known, int(number)
        known = max(known, int(number))


def test_the_measuring_process_ends_with_its_parent(tmp_path: Path) -> None:
    code = """
import time
from tests.tuning.test_runner import sound, QUICK
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.tuning.runner import LocalRunner
runner = LocalRunner(target_dict(host()), threads=1, limits=QUICK)
runner.measure(sound())
print(runner.child._process.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    until = time.monotonic() + 30
    while _alive(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
