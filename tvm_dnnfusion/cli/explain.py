"""`dnnfusion explain`: why two layers were, or were not, put in one kernel."""

from __future__ import annotations

from pathlib import Path

import click

from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.output import Output


@click.command("explain")
@click.argument("plan", type=click.Path(path_type=Path))
@click.argument("layer_a")
@click.argument("layer_b")
@options.common
def command(plan: Path, layer_a: str, layer_b: str, as_json: bool) -> None:
    """Say in which kernels LAYER_A and LAYER_B are, and why.

    PLAN is the plan.json that `optimize` wrote, or its folder. A layer is named as in the model; an
    op or a kernel of the plan, or the beginning of any of these names, serves as well.
    """
    from tvm_dnnfusion.report.explain import explain
    from tvm_dnnfusion.report.plan_file import read_plan_file

    found = explain(*read_plan_file(plan), layer_a, layer_b)
    Output(as_json).emit(found.to_dict(), found.text)
