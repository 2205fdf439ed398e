"""kill -9 at random moments: no committed row is lost, the database opens, the run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tvm_dnnfusion.profile import ProfileDB

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
KILLS = 50

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def test_fifty_kills_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "p.sqlite"
    done = subprocess.run(
        [sys.executable, "-m", "tests.measuring.killed", str(path), str(KILLS), "7"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["lost"], found["broken"], found["set_aside"], found["failed"]) == (0, 0, 0, 0)
    assert found["killed"] >= KILLS // 2, found
    assert found["sizes"] == sorted(found["sizes"]) and found["sizes"][-1] > 0
    ((_, measured, asked),) = found["models"]
    assert measured == asked == found["rows"]


def test_the_command_is_resumed_after_a_kill(tmp_path: Path, small_model: Path) -> None:
    path = tmp_path / "p.sqlite"
    command = [sys.executable, "-m", "tvm_dnnfusion.cli", "profile", str(small_model), "--every",
               "--threads", "1", "--max-time", "0.05", "--db", str(path), "--json"]  # fmt: skip
    environment = {**ENVIRONMENT, "DNNFUSION_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None and not _rows(path):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    before = _rows(path)
    assert before > 0
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["failed"] == {} and found["known"] == before
    assert found["measured"] + before == _rows(path)
    assert found["models"]["small"]["measured"] == found["models"]["small"]["asked"]


def _rows(path: Path) -> int:
    if not path.exists():
        return 0
    with ProfileDB(path, read_only=True) as db:
        return len(db)
