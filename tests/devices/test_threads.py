"""The number of threads that TVM uses. Each case has a process of its own: pools never grow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tvm_dnnfusion.devices import cpu, threads

ROOT = Path(__file__).parents[2]
HEAD = """
from tvm_dnnfusion.devices.threads import configure, call_with, in_force
import tvm
running = tvm.get_global_func("runtime.NumThreads")
"""


def run(code: str, **env: str) -> list[str]:
    """Output lines of a program in a fresh process."""
    clean = {k: v for k, v in os.environ.items() if "THREADS" not in k}
    done = subprocess.run(
        [sys.executable, "-c", HEAD + code],
        env={**clean, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split("\n")[:-1]


def test_counts_take_effect_up_and_down() -> None:
    code = "for n in (3, 1, 2, 3): print(configure(n).count, running())"
    assert run(code) == ["3 3", "1 1", "2 2", "3 3"]


def test_without_a_wish_the_machine_decides_and_says_why() -> None:
    want, why = threads.default_count()
    assert run("r = configure(); print(r.count, running(), r.how, r.why)") == [
        f"{want} {want} cores {why}"
    ]


def test_the_environment_is_followed_and_named() -> None:
    code = "r = configure(); print(r.count, r.how)"
    assert run(code, DNNFUSION_THREADS="3", TVM_NUM_THREADS="1") == ["3 DNNFUSION_THREADS"]
    assert run(code, TVM_NUM_THREADS="3") == ["3 TVM_NUM_THREADS"]


def test_an_explicit_count_does_not_become_the_users_wish() -> None:
    code = "configure(1); r = configure(); print(r.count, r.how)"
    want, _ = threads.default_count()
    assert run(code) == [f"{want} cores"]
    assert run(code, TVM_NUM_THREADS="3")[0].endswith("TVM_NUM_THREADS")


def test_a_pool_made_too_small_is_reported_and_got_round() -> None:
    code = """
assert running() == 1
r = configure(3); print(r.count); print("3 asked for" in r.why)
print(call_with(3, lambda report: (report.count, running())))
"""
    assert run(code, TVM_NUM_THREADS="1") == ["1", "True", "(3, 3)"]


def test_new_threads_of_the_program_get_the_same_count() -> None:
    every = cpu.topology().logical
    code = f"""
import threading
configure({every})
t = threading.Thread(target=lambda: print(running())); t.start(); t.join()
"""
    assert run(code) == [str(every)]


def test_an_error_in_the_task_comes_back() -> None:
    code = """
running()
try: call_with(3, lambda report: 1 // 0)
except ZeroDivisionError as error: print("came back", error)
"""
    assert run(code, TVM_NUM_THREADS="1")[0].startswith("came back")


def test_no_thread_at_all_is_refused() -> None:
    with pytest.raises(threads.ThreadError, match="at least one"):
        threads.configure(0)


def seen(monkeypatch: pytest.MonkeyPatch, *facts: object) -> int:
    monkeypatch.setattr(cpu, "topology", lambda: cpu.Topology(*facts))  # type: ignore[arg-type]
    return threads.default_count()[0]


def test_physical_cores_all_vcpus_or_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(monkeypatch, 8, 4, True, False, None) == 4
    assert seen(monkeypatch, 2, 2, True, True, None) == 2
    assert seen(monkeypatch, 6, 6, False, False, None) == 6
    assert seen(monkeypatch, 8, 4, True, False, 2) == 2
    assert seen(monkeypatch, 8, 4, True, False, 6) == 4
