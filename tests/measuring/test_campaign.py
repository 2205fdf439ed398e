"""Filling the database: rounds, devices in parallel, failures, and what is asked."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.planners.graphs import DEVICE
from tvm_dnnfusion.codegen.variants import Variants
from tvm_dnnfusion.cost.analytic import AnalyticCost
from tvm_dnnfusion.devices.sessions import UnreachableError
from tvm_dnnfusion.ecg.graph import Graph, Op, Ref, Tensor, attrs
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.measuring.asked import Asked, ask, without_weights
from tvm_dnnfusion.measuring.campaign import Campaign, Status
from tvm_dnnfusion.measuring.meter import Job
from tvm_dnnfusion.planners import plan
from tvm_dnnfusion.profile import Measurement, ProfileDB


def yellow(sizes: tuple[int, ...] = (8, 16, 32)) -> Graph:
    """A matmul whose result is moved about and added to: pairs that table 3 leaves open."""
    tensors: dict[str, Tensor] = {}
    ops: list[Op] = []

    def add(name: str, shape: tuple[int, ...]) -> str:
        tensors[name] = Tensor(name, shape, "float32")
        return name

    for n in sizes:
        x, w = add(f"x{n}", (n, n)), add(f"w{n}", (n, n))
        p, t, r, a = (add(f"{k}{n}", (n, n)) for k in "ptra")
        ops += [
            Op(f"mul{n}", "matmul", (Ref(x), Ref(w)), (p,), attrs(out_dtype="void")),
            Op(f"turn{n}", "permute_dims", (Ref(p),), (t,), attrs(axes=(1, 0))),
            Op(f"relu{n}", "nn.relu", (Ref(t),), (r,)),
            Op(f"add{n}", "add", (Ref(r), Ref(p)), (a,)),
        ]
    inputs = tuple(t for n in sizes for t in (f"x{n}", f"w{n}"))
    return Graph(tensors, tuple(ops), inputs, tuple(f"a{n}" for n in sizes)).check()


@pytest.fixture
def db(tmp_path: Path) -> ProfileDB:
    return ProfileDB(tmp_path / "p.sqlite")


def new_cost(db: ProfileDB) -> Asked:
    return Asked(db, DEVICE, 2, "3", Variants(DEVICE), AnalyticCost(DEVICE))


class Meter:
    """Measures at once; joined groups come out slow, so that planning has to ask on."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __call__(self, job: Job) -> Measurement:
        self.jobs.append(job)
        return Measurement(float(len(job.block)) ** 2, 0.01, 7)


def campaign(db: ProfileDB, *meters: object, **options: object) -> Campaign:
    return Campaign(db, {"net": yellow()}, lambda: new_cost(db), meters, **options)  # type: ignore[arg-type]


def test_the_plan_rests_on_measurements_when_the_run_is_over(db: ProfileDB) -> None:
    meter = Meter()
    report = campaign(db, meter).run()
    assert report.measured == len(meter.jobs) == len(db) > 0
    assert len({j.key for j in meter.jobs}) == len(meter.jobs)
    graph, cost = yellow(), new_cost(db)
    ask(graph, cost)
    assert cost.keys and not cost.missing
    sources = {d.source for d in plan(extend(graph), device=DEVICE, cost=cost).decisions}
    assert sources <= {"table", "database"} and "database" in sources
    ((name, measured, asked),) = db.status().models
    assert name == "net" and measured == asked == len(db) >= len(cost.keys)


def test_a_second_run_measures_nothing(db: ProfileDB) -> None:
    campaign(db, Meter()).run()
    meter = Meter()
    report = campaign(db, meter).run()
    assert (meter.jobs, report.measured, report.rounds) == ([], 0, 1)
    assert report.known > 0


def test_every_block_of_the_plans_and_every_operator_is_measured_on_request(db: ProfileDB) -> None:
    few = campaign(db, Meter()).run().measured
    report = campaign(db, Meter(), every=True).run()
    assert few + report.measured >= 4 * 3  # four different operators of three sizes


def test_two_devices_share_the_work(db: ProfileDB) -> None:
    both = threading.Barrier(2, timeout=30)
    first: list[Job] = []

    def meter(job: Job) -> Measurement:
        if len(first) < 2:  # neither goes on before the other has a job too
            first.append(job)
            both.wait()
        return Measurement(1.0, 0.0, 5)

    report = campaign(db, meter, meter, every=True).run()
    assert report.failed == {} and len(db) == report.measured


def test_a_block_that_fails_is_reported_and_the_rest_is_measured(db: ProfileDB) -> None:
    good = Meter()

    def meter(job: Job) -> Measurement:
        if "permute_dims" in job.block and "matmul" in job.block:
            raise RuntimeError("does not build")
        return good(job)

    report = campaign(db, meter, every=True).run()
    assert set(report.failed.values()) == {"does not build"}
    assert report.measured == len(db) > 0


def test_a_lost_device_leaves_its_work_to_the_others(db: ProfileDB) -> None:
    def lost(job: Job) -> Measurement:
        raise UnreachableError("gone")

    meter = Meter()
    report = campaign(db, lost, meter).run()
    assert report.measured == len(meter.jobs) > 0 and not report.failed


def test_without_any_device_left_the_error_says_so(db: ProfileDB) -> None:
    def lost(job: Job) -> Measurement:
        raise UnreachableError("gone")

    with pytest.raises(UnreachableError, match="gone"):
        campaign(db, lost).run()


def test_progress_says_how_much_is_done_and_how_long_it_takes(db: ProfileDB) -> None:
    told: list[Status] = []
    campaign(db, Meter(), tell=told.append).run()
    assert (told[0].done, told[0].left_s) == (0, None)
    assert told[-1].done == told[-1].total and told[-1].left_s == 0.0
    assert [s.done for s in told] == sorted(s.done for s in told)


def test_graphs_without_weights_ask_the_same() -> None:
    import numpy as np

    graph = yellow((8,))
    data = {"w8": np.arange(64, dtype=np.float32).reshape(8, 8)}
    full = Graph(graph.tensors, graph.ops, ("x8",), graph.outputs, data).check()
    light = without_weights(full)
    assert light.constants["w8"].shape == (8, 8) and light.constants["w8"].strides == (0, 0)
    assert plan(extend(light), device=DEVICE) == plan(extend(full), device=DEVICE)
