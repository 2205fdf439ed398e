"""Fills a database in a child that is killed again and again; run by test_killed.py.

python -m tests.measuring.killed DATABASE KILLS SEED -> JSON: what each kill left behind

Everything is imported once, and each attempt is a fork, so that fifty take seconds. Attempts plan,
build and time real kernels; a key is reported only when its row is committed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

from tests.measuring.test_campaign import yellow
from tvm_dnnfusion.codegen.variants import Variants, limit_of
from tvm_dnnfusion.cost.analytic import AnalyticCost
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.measuring.asked import Asked
from tvm_dnnfusion.measuring.campaign import Campaign, Report
from tvm_dnnfusion.measuring.kernels import candidate
from tvm_dnnfusion.measuring.meter import Job
from tvm_dnnfusion.profile import Measurement, ProfileDB
from tvm_dnnfusion.profile.blocks import block_graph
from tvm_dnnfusion.profile.measure import Built, Limits

SIZES = tuple(range(4, 54, 2))
LIMITS = Limits(min_samples=3, max_samples=3, sample_us=50.0, warmup_us=50.0, wall_s=0.1)
MOST_STEPS = 4
LONGEST_S = 0.15
"""Of the random times after a step at which a child dies: about what one block takes."""
BEGUN = b"."


def attempt(path: Path, report: int | None = None, begun: int | None = None) -> Report:
    """One run to its end, or to its death."""
    device = host()
    db = ProfileDB(path)

    def measure(job: Job) -> Measurement:
        ops, graph = block_graph(job.block)
        func = candidate(ops, graph, device, limit_of(job.schedule))
        return Built(func, target_dict(device)).measure(1, LIMITS)

    class Telling(ProfileDB):
        """Says which rows are committed."""

        def put(self, entry):  # type: ignore[no-untyped-def]
            super().put(entry)
            if report is not None:
                os.write(report, f"{entry.key}\n".encode())

    db = Telling(path)
    costs = lambda: Asked(db, device, 1, "3", Variants(device), AnalyticCost(device))  # noqa: E731
    tell = (lambda status: None) if begun is None else (lambda status: os.write(begun, BEGUN))
    return Campaign(db, {"net": yellow(SIZES)}, costs, [measure], tell).run()  # type: ignore[arg-type]


def killed_once(path: Path, log: Path, steps: int, after_s: float) -> bool:
    """Whether the child was killed, and had not ended before.

    `steps` is what it had done: 0 nothing, 1 planned, 2 and more blocks measured too.
    """
    hear, begun = os.pipe()
    child = os.fork()
    if not child:
        os.close(hear)
        attempt(path, os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY), begun)
        os._exit(0)
    os.close(begun)
    for _ in range(steps):
        os.read(hear, len(BEGUN))
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(hear)
    return os.WIFSIGNALED(status)


def main(path: Path, kills: int, seed: int) -> dict[str, object]:
    """Kill, look, and at last run through."""
    rng, log = random.Random(seed), path.with_suffix(".log")
    lost = broken = done = 0
    sizes: list[int] = []
    graph = yellow((64,))
    Built(candidate(graph.ops[:1], graph, host()), target_dict(host()))  # warm, and forked with it
    for _ in range(kills):
        done += killed_once(path, log, rng.randrange(MOST_STEPS), rng.uniform(0.0, LONGEST_S))
        reported = set(log.read_text().split()) if log.exists() else set()
        if not path.exists():
            continue
        raw = sqlite3.connect(path)
        broken += raw.execute("PRAGMA integrity_check").fetchone()[0] != "ok"
        tables = {r[0] for r in raw.execute("SELECT name FROM sqlite_master")}
        keys = {r[0] for r in raw.execute("SELECT key FROM measurement")} if tables else set()
        raw.close()
        lost += len(reported - keys)
        sizes.append(len(keys))
    last = attempt(path)
    with ProfileDB(path) as db:
        status = db.status()
    return {
        "killed": done, "lost": lost, "broken": broken, "sizes": sizes,
        "last": [last.measured, last.known], "failed": len(last.failed),
        "models": status.models, "set_aside": len(status.set_aside), "rows": status.rows,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
