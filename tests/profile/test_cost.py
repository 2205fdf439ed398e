"""Cost from the database, a measurement, or the estimate, in this order."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.profile.graphs import conv_add_relu
from tvm_dnnfusion.codegen.variants import Variants, limit_of
from tvm_dnnfusion.cost.database import DatabaseCost
from tvm_dnnfusion.cost.protocol import Cost, Estimate
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.devices.spec import with_sums
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.measuring.asked import Asked
from tvm_dnnfusion.pipeline import cost_for
from tvm_dnnfusion.profile import Measurement, ProfileDB, ProfileError, block_key
from tvm_dnnfusion.schedules.dispatch import VERSION

DEVICE = registry.get("x86-64-v3")


class Fixed:
    """An estimate that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def latency_us(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        self.asked += 1
        return Estimate(100.0, "analytic")


class Meter:
    """A measurement that counts how often it is made."""

    def __init__(self, result: Measurement | None) -> None:
        self.result = result
        self.made = 0

    def __call__(self, ops: tuple[Op, ...], graph: Graph) -> Measurement | None:
        self.made += 1
        return self.result


@pytest.fixture
def db(tmp_path: Path) -> ProfileDB:
    return ProfileDB(tmp_path / "p.sqlite")


def test_measured_once_then_read_by_any_model(db: ProfileDB) -> None:
    meter = Meter(Measurement(12.5, 0.02, 9))
    first, second = conv_add_relu(), conv_add_relu("another.")
    cost = DatabaseCost(db, DEVICE, Fixed(), meter, schedule_version="1")
    assert isinstance(cost, Cost)
    assert cost.latency_us(first.ops, first) == Estimate(12.5, "measured")
    later = DatabaseCost(db, DEVICE, Fixed(), meter, schedule_version="1")
    assert later.latency_us(second.ops, second) == Estimate(12.5, "database")
    assert meter.made == 1
    row = db.get(block_key(first.ops, first, DEVICE, "1"))
    assert row is not None
    assert (row.latency_us, row.spread, row.samples, row.threads) == (12.5, 0.02, 9, DEVICE.cores)


def test_another_schedule_device_or_thread_count_is_measured_anew(db: ProfileDB) -> None:
    meter, graph = Meter(Measurement(1.0, 0.0, 5)), conv_add_relu()
    DatabaseCost(db, DEVICE, Fixed(), meter, schedule_version="1").latency_us(graph.ops, graph)
    for cost in (
        DatabaseCost(db, DEVICE, Fixed(), meter, schedule_version="2"),
        DatabaseCost(db, DEVICE, Fixed(), meter, schedule_version="1", threads=1),
        DatabaseCost(db, registry.get("x86-64-v4"), Fixed(), meter, schedule_version="1"),
    ):
        assert cost.latency_us(graph.ops, graph).source == "measured"
    assert len(db) == 4


def test_without_measuring_the_estimate_answers_and_is_not_stored(db: ProfileDB) -> None:
    graph, fallback = conv_add_relu(), Fixed()
    cost = DatabaseCost(db, DEVICE, fallback, schedule_version="1")
    assert cost.latency_us(graph.ops, graph) == Estimate(100.0, "analytic")
    assert cost.latency_us(graph.ops, graph) == Estimate(100.0, "analytic")
    assert (fallback.asked, len(db)) == (1, 0)


def test_what_cannot_be_measured_is_estimated(db: ProfileDB) -> None:
    graph = conv_add_relu()
    cost = DatabaseCost(db, DEVICE, Fixed(), Meter(None), schedule_version="1")
    assert cost.latency_us(graph.ops, graph).source == "analytic"
    assert len(db) == 0


def test_a_failed_measurement_is_named_and_not_repeated(
    db: ProfileDB, caplog: pytest.LogCaptureFixture
) -> None:
    graph, calls = conv_add_relu(), []

    def broken(ops: tuple[Op, ...], graph: Graph) -> Measurement:
        calls.append(ops)
        raise RuntimeError("does not build")

    cost = DatabaseCost(db, DEVICE, Fixed(), broken, schedule_version="1")
    with caplog.at_level(logging.WARNING):
        assert cost.latency_us(graph.ops, graph).source == "analytic"
        assert cost.latency_us(graph.ops, graph).source == "analytic"
    assert len(calls) == 1
    assert "conv, exp, add" in caplog.text and "does not build" in caplog.text


def test_a_database_that_fails_is_done_without_and_named_once(
    db: ProfileDB, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(entry: object) -> None:
        raise ProfileError(f"profile database {db.path}: database or disk is full")

    monkeypatch.setattr(db, "put", full)
    meter = Meter(Measurement(1.0, 0.0, 5))
    cost = DatabaseCost(db, DEVICE, Fixed(), meter, schedule_version="1")
    graph = conv_add_relu()
    with caplog.at_level(logging.WARNING):
        assert cost.latency_us(graph.ops, graph).source == "measured"
        assert cost.latency_us(graph.ops[:2], graph).source == "measured"
    assert caplog.text.count("disk is full") == 1


class Model(Fixed):
    """An estimate that states its uncertainty."""

    def latency_us(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        self.asked += 1
        return Estimate(90.0, "learned", 0.3)


def test_database_then_model_then_measurement(db: ProfileDB) -> None:
    meter, graph = Meter(Measurement(12.5, 0.02, 9)), conv_add_relu()
    cost = DatabaseCost(db, DEVICE, Model(), meter, schedule_version="1")
    assert cost.latency_us(graph.ops, graph) == Estimate(90.0, "learned", 0.3)
    assert (meter.made, len(db)) == (0, 0)
    assert cost.settle(graph.ops, graph) == Estimate(12.5, "measured")
    assert cost.latency_us(graph.ops, graph) == Estimate(12.5, "measured")
    later = DatabaseCost(db, DEVICE, Model(), meter, schedule_version="1")
    assert later.settle(graph.ops, graph) == Estimate(12.5, "database")
    assert meter.made == 1


def test_what_cannot_be_settled_keeps_its_estimate_and_is_tried_once(db: ProfileDB) -> None:
    meter, graph = Meter(None), conv_add_relu()
    cost = DatabaseCost(db, DEVICE, Model(), meter, schedule_version="1")
    for _ in range(2):
        assert cost.settle(graph.ops, graph).source == "learned"
    assert meter.made == 1


def test_kernels_under_a_limit_have_keys_of_their_own(db: ProfileDB) -> None:
    meter, graph = Meter(Measurement(1.0, 0.0, 5)), conv_add_relu()
    for tag in ("", ".m2", ".m0"):
        cost = DatabaseCost(
            db, DEVICE, Fixed(), meter, schedule_version="3", tag=lambda ops, graph, t=tag: t
        )
        assert cost.latency_us(graph.ops, graph).source == "measured"
    assert sorted(e.schedule for e in db.entries()) == ["3", "3.m0", "3.m2"]


def test_kernels_with_wide_sums_have_keys_of_their_own(db: ProfileDB) -> None:
    graph, made = conv_add_relu(), {}
    for sums in ("float16", "float32"):
        device = with_sums(DEVICE, sums)
        meter = Meter(Measurement(1.0, 0.0, 5))
        cost = cost_for(db, device, meter, variants=Variants(device))
        cost.settle(graph.ops, graph)
        made[sums] = meter.made, Asked(db, device, 2, "3", Variants(device), Fixed())
    assert [count for count, _ in made.values()] == [1, 1], "neither answers for the other"
    assert sorted(e.schedule for e in db.entries()) == [str(VERSION), f"{VERSION}.float32-sums"]
    jobs = [asked.job(graph.ops, graph) for _, asked in made.values()]
    assert [job.schedule for job in jobs] == ["3", "3.float32-sums"]
    assert [limit_of(f"3.float32-sums{held}") for held in ("", ".m4", ".m0")] == [6, 4, 0]


def test_the_database_knows_what_was_asked_and_how_much_of_it_is_measured(db: ProfileDB) -> None:
    graph = conv_add_relu()
    DatabaseCost(
        db, DEVICE, Fixed(), Meter(Measurement(1.0, 0.0, 5)), schedule_version="1"
    ).latency_us(graph.ops, graph)
    (row,) = db.entries()
    db.ask("net", (row.key, "absent"))
    db.ask("net", (row.key,))
    db.ask("other", (row.key,))
    assert db.asked() == {row.key: ("net", "other"), "absent": ("net",)}
    assert db.status().models == (("net", 1, 2), ("other", 1, 1))
