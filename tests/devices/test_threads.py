"""The number of threads that TVM uses. Each case has a process of its own: pools never grow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tvm_dnnfusion.devices import cpu, threads

ROOT = Path(__file__).parents[2]
EVERY = cpu.processors()
several = pytest.mark.skipif(EVERY < 2, reason="one processor: there is no other count")
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
    counts = (EVERY, 1, EVERY)
    code = f"for n in {counts}: print(configure(n).count, running())"
    assert run(code) == [f"{n} {n}" for n in counts]


def test_without_a_wish_the_machine_decides_and_says_why() -> None:
    want, why = threads.default_count()
    assert run("r = configure(); print(r.count, running(), r.how, r.why)") == [
        f"{want} {want} cores {why}"
    ]


def test_the_environment_is_followed_and_named() -> None:
    code, every = "r = configure(); print(r.count, r.how)", str(EVERY)
    assert run(code, DNNFUSION_THREADS=every, TVM_NUM_THREADS="1") == [f"{EVERY} DNNFUSION_THREADS"]
    assert run(code, TVM_NUM_THREADS=every) == [f"{EVERY} TVM_NUM_THREADS"]


def test_an_explicit_count_does_not_become_the_users_wish() -> None:
    code = "configure(1); r = configure(); print(r.count, r.how)"
    want, _ = threads.default_count()
    assert run(code) == [f"{want} cores"]
    assert run(code, TVM_NUM_THREADS=str(EVERY))[0].endswith("TVM_NUM_THREADS")


@several
def test_a_pool_made_too_small_is_reported_and_got_round() -> None:
    code = """
assert running() == 1
r = configure(2); print(r.count); print("2 asked for" in r.why)
print(call_with(2, lambda report: (report.count, running())))
"""
    assert run(code, TVM_NUM_THREADS="1") == ["1", "True", "(2, 2)"]


def test_new_threads_of_the_program_get_the_same_count() -> None:
    code = f"""
import threading
configure({EVERY})
t = threading.Thread(target=lambda: print(running())); t.start(); t.join()
"""
    assert run(code) == [str(EVERY)]


@several
@pytest.mark.parametrize(("env", "want"), [({}, "2"), ({"TVM_NUM_THREADS": "1"}, "1")])
def test_a_session_s_child_gets_the_user_s_count_and_not_the_one_set_here(
    env: dict[str, str], want: str
) -> None:
    code = """
from tvm_dnnfusion.devices.sessions import Session
configure(1)
with Session("local", threads=2) as session: print(session.threads)
"""
    assert run(code, **env) == [want]


@several
def test_an_error_in_the_task_comes_back() -> None:
    code = """
running()
try: call_with(2, lambda report: 1 // 0)
except ZeroDivisionError as error: print("came back", error)
"""
    assert run(code, TVM_NUM_THREADS="1")[0].startswith("came back")


def test_no_thread_at_all_is_refused() -> None:
    with pytest.raises(threads.ThreadError, match="at least one"):
        threads.configure(0)


def test_more_threads_than_processors_are_refused_with_both_numbers() -> None:
    with pytest.raises(threads.ThreadError, match=rf"{EVERY + 1} threads .* {EVERY} proc") as e:
        threads.configure(EVERY + 1)
    assert e.value.exit_code == 2


def test_too_many_in_the_environment_name_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNFUSION_THREADS", "4096")
    words = rf"DNNFUSION_THREADS=4096: .* {EVERY} processor"
    with pytest.raises(threads.ThreadError, match=words) as error:
        threads.configure()
    assert error.value.exit_code == 3


def test_a_count_from_another_machine_is_cut_to_this_ones() -> None:
    found = [threads.at_most_all(n) for n in (None, 1, EVERY, EVERY + 5)]
    assert found == [None, 1, EVERY, EVERY]


def seen(monkeypatch: pytest.MonkeyPatch, *facts: object) -> int:
    monkeypatch.setattr(cpu, "topology", lambda: cpu.Topology(*facts))  # type: ignore[arg-type]
    return threads.default_count()[0]


def test_physical_cores_all_vcpus_or_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(monkeypatch, 8, 4, True, False, None) == 4
    assert seen(monkeypatch, 2, 2, True, True, None) == 2
    assert seen(monkeypatch, 6, 6, False, False, None) == 6
    assert seen(monkeypatch, 8, 4, True, False, 2) == 2
    assert seen(monkeypatch, 8, 4, True, False, 6) == 4
