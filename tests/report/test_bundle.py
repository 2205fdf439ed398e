"""Times by block, and files that belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.report.samples import diamond, diamond_plan
from tvm_dnnfusion.report import bundle
from tvm_dnnfusion.report.data import ReportData
from tvm_dnnfusion.report.plan_file import (
    PlanFileError,
    plan_file_text,
    read_plan,
    read_plan_file,
)  # fmt: skip
from tvm_dnnfusion.report.stats import statistics
from tvm_dnnfusion.runtime.bench import KernelTime as Measured


def test_blocks_that_share_a_kernel_share_its_time():
    measured = [Measured("b001_exp", 2, 30.0, 0.75, ()), Measured("vm.builtin", 5, 10.0, 0.25, ())]
    shared = {"b001_exp": "b001_exp", "b002_sqrt": "b001_exp"}
    rows = {r.name: r for r in bundle.block_times(measured, diamond_plan(), shared)}
    assert set(rows) == {"b001_exp", "b002_sqrt", "vm.builtin"}
    assert rows["b001_exp"].total_us == rows["b002_sqrt"].total_us == 15.0
    assert rows["b002_sqrt"].calls == 1
    assert "share one kernel" in rows["b002_sqrt"].note
    assert rows["vm.builtin"].note == ""


def test_a_kernel_of_one_block_keeps_its_time():
    (row,) = bundle.block_times([Measured("b003_add", 1, 7.0, 1.0, ())], diamond_plan(), {})
    assert (row.name, row.total_us, row.note) == ("b003_add", 7.0, "")


def test_kernels_carry_the_layers_in_them():
    found = bundle.kernel_origins(diamond(), diamond_plan())
    assert found["b000_conv2d_relu"] == ("layer1/Conv", "layer1/Relu")


def test_a_plan_file_reads_back_as_plan_and_graph(tmp_path: Path):
    plan, graph = diamond_plan(), diamond()
    (tmp_path / "plan.json").write_text(plan_file_text(plan, graph))
    for place in (tmp_path, tmp_path / "plan.json"):
        assert read_plan_file(place) == (plan, graph)
        assert read_plan(place) == plan


def test_a_bare_plan_can_be_read_but_not_explained(tmp_path: Path):
    text = json.dumps(json.loads(plan_file_text(diamond_plan(), diamond()))["plan"])
    (tmp_path / "bare.json").write_text(text)
    assert read_plan(tmp_path / "bare.json") == diamond_plan()
    with pytest.raises(PlanFileError, match="no summary"):
        read_plan_file(tmp_path / "bare.json")


def test_the_files_are_the_same_for_the_same_result():
    net, plan = diamond(), diamond_plan()
    data = ReportData("m", plan, net, statistics(net, net, plan))
    one, two = (bundle.files(data, {"a": 1}) for _ in range(2))
    assert one == two
    assert set(one) == {"plan.json", "stats.json", "report.html"}


def test_rules_that_fired_and_near_misses_are_lines():
    from tvm_dnnfusion.rewrite import RewriteReport, all_rules

    name, other = (r.name for r in all_rules()[:2])
    report = RewriteReport({name: 3}, (), {other: "two readers"}, 5, 4, 10, 9, 8, 7, 1)
    lines = {line.name: line for line in bundle.rule_lines(report)}
    assert (lines[name].fired, lines[other].fired) == (3, 0)
    assert "→" in lines[name].note
    assert lines[other].near_miss == "two readers"
    assert bundle.rule_lines(None) == ()
