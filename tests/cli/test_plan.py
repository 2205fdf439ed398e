"""`dnnfusion plan`: memory planners from the command line."""

from __future__ import annotations

import json

import click
import pytest

from tvm_dnnfusion.cli.plan import parse_size


def test_planners_side_by_side_with_files(call, model, tmp_path) -> None:
    folder = tmp_path / "plans"
    answer = call("plan", model, "--planner", "memory", "--planner", "none", "--planner",
                  "dnnfusion", "--buffer", "16KB", "-o", folder, "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    ours, none, held = answer.json["planners"]
    assert ours["dram_bytes"] <= held["dram_bytes"] <= none["dram_bytes"]
    assert ours["dram_bytes"] == sum(g["dram_bytes"] for g in ours["groups"])
    parts = sum(ours[k] for k in ("weight_bytes", "input_bytes", "output_bytes"))
    assert ours["dram_bytes"] == parts
    assert ours["buffer_bytes"] < 16 * 1024
    assert "Groups in the buffer" in (folder / "memory.html").read_text()
    plan = json.loads((folder / "memory.json").read_text())["plan"]
    assert plan["memory"]["buffer_bytes"] == 16 * 1024

    explained = call("explain", folder / "memory.json", "block/conv1", "block/conv2")
    assert explained.code == 0
    assert "FUSED_MEMORY" in explained.out


def test_a_planner_that_refuses_leaves_the_others(call, model, tmp_path) -> None:
    """GET has no weights for tiles: the other's plan is shown and written; the exit code tells."""
    answer = call("plan", model, "--planner", "get", "--planner", "memory", "--memory-model",
                  "tiles", "-o", tmp_path / "p", "--json")  # fmt: skip
    assert answer.code == 2
    assert [p["planner"] for p in answer.json["planners"]] == ["memory"]
    assert "no weights for the memory model 'tiles'" in answer.json["refused"]["get"]
    assert "no plan by get" in answer.err
    assert [p.name for p in sorted((tmp_path / "p").iterdir())] == ["memory.html", "memory.json"]
    alone = call("plan", model, "--planner", "get", "--memory-model", "tiles", "--json")
    assert alone.code == 2 and '"planners"' not in alone.out


def test_a_layer_without_schedule_is_named(call, model) -> None:
    answer = call("plan", model, "--planner", "none", "--buffer", "8B")
    assert answer.code == 0
    assert "no schedule for" in answer.err
    assert "give a larger --buffer" in answer.err


def test_explain_names_the_operators_that_do_not_fit(call, model, tmp_path) -> None:
    assert (
        call("plan", model, "--buffer", "700B", "--memory-model", "lbdf", "-o", tmp_path).code == 0
    )
    answer = call("explain", tmp_path / "memory.json", "block/conv1", "block/conv2")
    assert "operators that do not fit together" in answer.out
    assert "block/conv2" in answer.out.partition("do not fit together")[2]


def test_the_table_for_people(call, model) -> None:
    answer = call("plan", model, "--buffer", "1MB", "--batch", 2, "--accounting", "paper")
    assert answer.code == 0
    assert "DRAM" in answer.out and "memory" in answer.out
    assert "Groups of memory" in answer.out


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [("--planner", "optimos", "known: "), ("--memory-model", "x", "brr"),
     ("--buffer", "12 parsecs", "128KB"), ("--accelerator", "eyeris", "did you mean eyeriss")],
)  # fmt: skip
def test_wrong_choices_are_refused_before_the_model_is_read(call, option, value, says) -> None:
    answer = call("plan", "missing.onnx", option, value)
    assert answer.code == 2
    assert says in answer.err


@pytest.mark.parametrize(
    ("text", "size"), [("128KB", 131072), ("1.5 MB", 1572864), ("900", 900), ("2k", 2048)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(click.Context(click.Command("x")), click.Option(["--x"]), text) == size
