"""`dnnfusion gnn`: train the classifier and explainers of the planner `get`, and check them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.report.table import TableData, table

SCHEMES = ("lbdf", "brr", "tiles")


@click.group("gnn")
def command() -> None:
    """The graph network behind the planner get: whether a fusion group fits the buffer.

    Weights for lbdf and brr come with the package. Needs the extra gnn (torch, torch-geometric).
    """


@command.command("train")
@click.option("--scheme", type=click.Choice(SCHEMES), required=True, help="Memory model.")
@click.option("--output", type=click.Path(path_type=Path), required=True, metavar="FILE.npz",
              help="Where the weights go.")  # fmt: skip
@click.option("--networks", type=click.IntRange(min=1), default=None, metavar="N",
              help="Random networks to draw groups from.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(min=1), default=None, metavar="N",
              help="Passes over the groups.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--torch-threads", type=click.IntRange(min=1), default=1, show_default=True,
              help="More is faster; one gives the same weights on every run.")  # fmt: skip
@options.common
def train(
    scheme: str,
    output: Path,
    networks: int | None,
    epochs: int | None,
    seed: int,
    torch_threads: int,
    as_json: bool,
) -> None:
    """Train on groups of random networks, labelled by the exact check, and write the weights.

    About ten minutes on one core. Ctrl-C while the classifier is trained keeps the best so far.
    """
    from tvm_dnnfusion.planners.get import learn

    out = Output(as_json)
    course = learn.Course(scheme, networks or learn.NETWORKS, epochs or learn.EPOCHS, seed)
    with Phases(out.notes, quiet=as_json) as phases:
        trained = learn.learn(course, phases, torch_threads=torch_threads)
    from tvm_dnnfusion.gnn.weights import save

    save(trained, output)
    rows = [(k, trained.facts[k]) for k in ("test", "networks_not_trained_on")]
    data = {"file": str(output), **trained.facts}
    out.emit(data, _figures(rows), f"weights written to {output}")


@command.command("check")
@click.argument("models", nargs=-1)
@click.option("--scheme", type=click.Choice(SCHEMES), default="lbdf", show_default=True,
              help="Memory model.")  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="Weights to check. Default: those that the package carries.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="Of the groups that are drawn.")  # fmt: skip
@options.common
def check(
    models: tuple[str, ...], scheme: str, weights: Path | None, seed: int, as_json: bool
) -> None:
    """Figures of the weights on groups of MODELS; without models, those of their training."""
    from tvm_dnnfusion.gnn import require

    require()
    from tvm_dnnfusion.gnn.files import shipped
    from tvm_dnnfusion.gnn.weights import load
    from tvm_dnnfusion.planners.get.features import feature_count
    from tvm_dnnfusion.planners.get.learn import judged
    from tvm_dnnfusion.planners.get.samples import Recipe, samples_of

    out = Output(as_json)
    path = weights or shipped(scheme)
    trained = load(path, feature_count(scheme))
    rows: list[tuple[str, Any]] = [
        (k, trained.facts[k]) for k in ("test", "networks_not_trained_on") if k in trained.facts
    ]
    with Phases(out.notes, quiet=as_json) as phases:
        for model in models:
            phases("load")
            found = samples_of([_network(model)], Recipe(scheme), seed, phases)
            rows.append((model, judged(trained, found)))
    out.emit({"file": str(path), **dict(rows)}, _figures(rows))


def _network(model: str) -> Any:
    from tvm_dnnfusion.cli.build import load_model
    from tvm_dnnfusion.cost.memory import network_of
    from tvm_dnnfusion.frontend.relax import from_relax
    from tvm_dnnfusion.rewrite import RewriteOptions, rewrite

    graph = rewrite(from_relax(load_model(model, None)).graph, RewriteOptions()).graph
    return network_of(graph, merge=False, name=model)


def _figures(rows: list[tuple[str, Any]]) -> TableData:
    names = ("groups", "invalid", "accuracy", "precision", "recall", "f1")
    cells = [
        (name, *(f"{f[n]:.0f}" if n in names[:2] else f"{f[n]:.3f}" for n in names))
        for name, f in rows
    ]
    return table("Is a group invalid?", ("", *names), cells, right=(1, 2, 3, 4, 5, 6))
