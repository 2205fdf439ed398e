"""The local runner: costs of sound code, one limit for code that crashes or hangs."""

from __future__ import annotations

import time

import pytest
from tvm import te, tirx
from tvm.script import tirx as T

from tvm_dnnfusion.codegen import vecmath
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.profile.measure import Limits
from tvm_dnnfusion.tuning.runner import LocalRunner

QUICK = Limits(min_samples=3, max_samples=5, warmup_us=100.0, wall_s=0.2)


def sound(n=64):
    x = te.placeholder((n,), "float32", "x")
    return te.create_prim_func([x, te.compute((n,), lambda i: x[i] + 1.0, "y")])


@T.prim_func(s_tir=True)
def crashing(x: T.Buffer((4,), "float32")):
    T.evaluate(T.call_extern("int32", "abort"))
    x[0] = T.float32(0)


@T.prim_func(s_tir=True)
def hanging(x: T.Buffer((4,), "float32")):
    T.evaluate(T.call_extern("int32", "pause"))
    x[0] = T.float32(0)


@pytest.fixture(scope="module")
def runner():
    made = LocalRunner(target_dict(host()), threads=1, timeout_s=60.0, limits=QUICK)
    yield made
    made.close()


def test_sound_code_has_a_cost(runner):
    outcome = runner.measure(sound())
    assert outcome.cost > 0 and outcome.samples > 0 and outcome.message == ""


def test_code_may_hold_our_own_operators(runner):
    """The child knows them, although it plans and lowers nothing."""
    x = te.placeholder((64,), "float32", "x")
    func = te.create_prim_func([x, te.compute((64,), lambda i: vecmath.gelu(x(i)), "y")])
    assert "dnnfusion.gelu" in func.script()
    outcome = runner.measure(func)
    assert outcome.cost is not None and outcome.message == ""


def test_code_that_cannot_be_built_fails_with_the_reason(runner):
    body = tirx.Evaluate(tirx.call_extern("float99x2", "nothing"))
    outcome = runner.measure(sound().with_body(body))
    assert outcome.cost is None and outcome.message


def test_a_crash_costs_one_candidate(runner):
    outcome = runner.measure(crashing)
    assert outcome.cost is None and "SIGABRT" in outcome.message
    assert runner.measure(sound()).cost > 0


def test_a_hang_costs_one_limit():
    made = LocalRunner(target_dict(host()), threads=1, timeout_s=10.0, limits=QUICK)
    try:
        assert made.measure(sound()).cost > 0
        began = time.monotonic()
        outcome = made.measure(hanging)
        assert outcome.cost is None and outcome.message == "no answer within 10 s"
        assert time.monotonic() - began < 60
        assert made.measure(sound(32)).cost > 0
    finally:
        made.close()
