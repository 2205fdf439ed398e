"""Choosing a schedule, falling back with a warning, registering one."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers import DEVICE, built, feed_of, lowered, run_kernel, unfused, weights
from tvm_dnnfusion.schedules.cpu.common import ScheduleFailed
from tvm_dnnfusion.schedules.dispatch import (
    SCHEDULES,
    ScheduleWarning,
    register_schedule,
    schedule_kernel,
)


def product(b):
    return b.op("nn.relu", b.op("matmul", b.input("x", (16, 16)), weights(b, 16, 32)))


@pytest.fixture
def graph():
    return built(product)


@pytest.fixture
def registered(monkeypatch):
    """Register schedules for the time of a test."""
    monkeypatch.setitem(SCHEDULES, "cpu", dict(SCHEDULES["cpu"]))
    return lambda kind, schedule: register_schedule("cpu", kind, schedule)


def failing(error):
    def schedule(k):
        k.sch.vectorize(k.loops(k.all()[-1])[-1])  # what was done before it failed is discarded
        raise error

    return schedule


def text_without_schedule(func):
    for name in ("dnnfusion.schedule", "tirx.is_scheduled", "op_pattern"):
        func = func.without_attr(name)
    return func.script()


@pytest.mark.parametrize("error", [
    ScheduleFailed("no such form"), ValueError("a bad number"), IndexError("list index"),
    KeyError("anchor0"), TypeError("mismatched types. int32 vs. int64"),
], ids=lambda e: type(e).__name__)  # fmt: skip
def test_a_schedule_that_fails_is_replaced_by_the_plain_one(graph, registered, error):
    registered("matmul", failing(error))
    kernel = lowered(graph)
    with pytest.warns(ScheduleWarning, match=r"kernel b000_test: schedule 'matmul' failed \(.+\)"):
        func = schedule_kernel(kernel.func, DEVICE)
    assert str(func.attrs["dnnfusion.schedule"]) == "plain" and func.attrs["tirx.is_scheduled"]
    feed = feed_of(graph)
    np.testing.assert_allclose(run_kernel(func, kernel, graph, feed)[0], unfused(graph, feed)[0],
                               rtol=1e-5, atol=1e-5)  # fmt: skip


def test_an_error_of_tvm_is_replaced_too(graph, registered):
    registered("matmul", lambda k: k.sch.get_sblock("no such block"))
    with pytest.warns(ScheduleWarning, match="schedule 'matmul' failed"):
        func = schedule_kernel(lowered(graph).func, DEVICE)
    assert str(func.attrs["dnnfusion.schedule"]) == "plain"


def test_other_errors_are_not_hidden(graph, registered):
    registered("matmul", failing(ZeroDivisionError("a mistake in a schedule")))
    with pytest.raises(ZeroDivisionError):
        schedule_kernel(lowered(graph).func, DEVICE)


def test_where_the_plain_one_fails_too_the_kernel_stays_as_it_is(graph, registered):
    registered("matmul", failing(ScheduleFailed("first")))
    registered("plain", failing(ScheduleFailed("second")))
    kernel = lowered(graph)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        func = schedule_kernel(kernel.func, DEVICE)
    texts = [str(w.message) for w in seen if w.category is ScheduleWarning]
    assert texts == ["kernel b000_test: schedule 'matmul' failed (first)",
                     "kernel b000_test: schedule 'plain' failed (second)"]  # fmt: skip
    assert str(func.attrs["dnnfusion.schedule"]) == "none"
    assert text_without_schedule(func) == kernel.func.script()


def test_a_registered_schedule_is_used(graph, registered):
    seen = []
    registered("matmul", lambda k: seen.append(k.device))
    func = schedule_kernel(lowered(graph).func, DEVICE)
    assert {d.name for d in seen} == {DEVICE.name}
    assert str(func.attrs["dnnfusion.schedule"]) == "matmul"
    assert text_without_schedule(func) == lowered(graph).func.script()


def test_a_schedule_for_a_kind_of_ones_own(graph, registered):
    registered("mine", lambda k: None)
    func = lowered(graph).func.with_attr("dnnfusion.kind", "mine")
    assert str(schedule_kernel(func, DEVICE).attrs["dnnfusion.schedule"]) == "mine"


def test_an_unknown_kind_is_scheduled_in_the_plain_way(graph):
    func = lowered(graph).func.with_attr("dnnfusion.kind", "unheard")
    with pytest.warns(ScheduleWarning, match="schedule 'unheard' failed"):
        found = schedule_kernel(func, DEVICE)
    assert str(found.attrs["dnnfusion.schedule"]) == "plain"


def test_an_unknown_kind_of_device_is_refused_by_name():
    with pytest.raises(ValueError, match=r"no device kind 'abacus'; there are \['cpu', 'gpu'\]"):
        register_schedule("abacus", "map", lambda k: None)


def test_functions_of_others_get_the_plain_schedule(graph):
    func = lowered(graph).func.without_attr("dnnfusion.kind")
    assert str(schedule_kernel(func, DEVICE).attrs["dnnfusion.schedule"]) == "plain"


def test_scheduling_does_not_change_its_argument_and_is_deterministic(graph):
    func = lowered(graph).func
    before = func.script()
    first, second = schedule_kernel(func, DEVICE), schedule_kernel(func, DEVICE)
    assert func.script() == before != first.script() == second.script()


def test_the_number_of_cores_matters_only_for_parallel_loops(graph):
    one = schedule_kernel(lowered(graph).func, replace(DEVICE, cores=1))
    many = schedule_kernel(lowered(graph).func, replace(DEVICE, cores=64))
    for func in (one, many):
        assert str(func.attrs["dnnfusion.schedule"]) == "matmul"
