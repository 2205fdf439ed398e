"""plan.json: a plan, and beside it the summary of the graph that it is a plan of.

{"plan": ..., "graph": ...}: the first section is what `planners.plan_io` reads and writes, the
second is `summary.to_dict`'s. A file that holds a bare plan can be applied, but not explained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tvm_dnnfusion.planners.plan import Plan
from tvm_dnnfusion.planners.plan_io import PlanError, plan_from_json, plan_to_json
from tvm_dnnfusion.report.summary import GraphSummary, SummaryError, from_dict, to_dict

_EXPECTED = "give the plan.json that `dnnfusion optimize` wrote"


class PlanFileError(ValueError):
    """A file cannot be read as a plan; the message names it and says why."""

    exit_code = 2


def plan_file_text(plan: Plan, graph: GraphSummary) -> str:
    """The text of plan.json: the same plan and graph give the same text."""
    sections = {"plan": json.loads(plan_to_json(plan)), "graph": to_dict(graph)}
    return json.dumps(sections, indent=1) + "\n"


def read_plan(path: Path) -> Plan:
    """The plan in a plan.json, or in a file that holds nothing else.

    Raises PlanFileError where the file cannot be read or holds no plan.
    """
    data = _read(path)
    return _plan(path, data.get("plan", data))


def read_plan_file(path: Path) -> tuple[Plan, GraphSummary]:
    """Plan and graph of a plan.json, or of the output folder that holds it.

    Raises PlanFileError where the file cannot be read or has no "graph" section.
    """
    data = _read(path)
    if "plan" not in data and "blocks" not in data:
        raise PlanFileError(f"{path}: not a plan file: it has neither a plan nor blocks")
    if "graph" not in data or "plan" not in data:
        raise PlanFileError(
            f"{path}: no summary of the graph beside the plan, so nothing can be explained from "
            f"it; `dnnfusion optimize` writes one"
        )
    try:
        return _plan(path, data["plan"]), from_dict(data["graph"])
    except SummaryError as error:
        raise PlanFileError(f"{path}: {error}") from error


def _plan(path: Path, data: object) -> Plan:
    try:
        return plan_from_json(json.dumps(data))
    except PlanError as error:
        raise PlanFileError(f"{path}: not a plan file: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    file = path / "plan.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PlanFileError(f"{file}: there is no such file") from error
    except OSError as error:
        raise PlanFileError(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PlanFileError(f"{file}: not a plan file: it is not a text; {_EXPECTED}") from error
    except ValueError as error:
        raise PlanFileError(
            f"{file}: not a plan file: it is not JSON ({error}); {_EXPECTED}"
        ) from error
    if not isinstance(data, dict):
        raise PlanFileError(f"{file}: not a plan file: it is not a JSON object; {_EXPECTED}")
    return data
