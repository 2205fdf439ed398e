"""Training for one memory model from nothing: networks, samples, classifier, explainers, figures.

    trained = learn(Course(scheme="lbdf"), progress)

Takes some ten minutes on one core for the course that the package's weights come from. Needs the
extra `gnn`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_dnnfusion.cost.memory.layers import network_of
from tvm_dnnfusion.cost.memory.network import Network
from tvm_dnnfusion.gnn import require
from tvm_dnnfusion.planners.get.samples import Recipe, samples_of
from tvm_dnnfusion.planners.get.synthetic import random_network

if TYPE_CHECKING:
    from tvm_dnnfusion.gnn.weights import Trained

NETWORKS = 300
EPOCHS = 24
HELD_OUT = 30
"""Random networks on which the figures of a training are taken; none is trained on."""
_HELD_OUT_SEED = 1_000_000

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Course:
    """What is trained: memory model, number of random networks, epochs, seed."""

    scheme: str
    networks: int = NETWORKS
    epochs: int = EPOCHS
    seed: int = 0
    groups: int = Recipe("").groups

    @property
    def recipe(self) -> Recipe:
        """How groups are sampled."""
        return Recipe(self.scheme, groups=self.groups)


def random_networks(count: int, seed: int) -> list[Network]:
    """Random networks, every other one with its simple operators merged."""
    return [network_of(random_network(seed + k), merge=bool(k % 2)) for k in range(count)]


def learn(
    course: Course,
    progress: Progress | None = None,
    more: Sequence[Network] = (),
    torch_threads: int = 1,
) -> Trained:
    """Train the classifier and both trained explainers; facts of the training come with them.

    Parameters
    ----------
    more : networks to train on beside the random ones.
    torch_threads : one gives the same weights on every run.

    Raises
    ------
    MissingGNN where torch or torch-geometric is not installed.
    """
    require()
    import torch

    from tvm_dnnfusion.gnn.explain import PG
    from tvm_dnnfusion.gnn.train import divided, fit
    from tvm_dnnfusion.gnn.walk import RG
    from tvm_dnnfusion.gnn.weights import Trained

    torch.set_num_threads(torch_threads)
    networks = [*random_networks(course.networks, 2 * course.seed * _HELD_OUT_SEED), *more]
    samples = samples_of(networks, course.recipe, course.seed, progress)
    train, check, test = divided(samples, np.random.default_rng(course.seed))
    gnn, losses = fit(train, check, course.seed, course.epochs, progress)
    pg, rg = PG(gnn), RG(gnn)
    pg_losses = pg.fit(train, course.seed, progress)
    rewards = rg.fit(train, course.seed, progress)
    held_out = random_networks(HELD_OUT, (2 * course.seed + 1) * _HELD_OUT_SEED)
    facts: dict[str, Any] = {
        "course": asdict(course),
        "samples": len(samples),
        "invalid_share": float(samples.invalid.mean()),
        "epochs_run": len(losses),
        "loss": [losses[0], losses[-1]] if losses else [],
        "pg_loss": [pg_losses[0], pg_losses[-1]] if pg_losses else [],
        "rg_reward": [rewards[0], rewards[-1]] if rewards else [],
    }
    trained = Trained(gnn, pg, rg, facts)
    facts["test"] = judged(trained, test)
    facts["networks_not_trained_on"] = judged(
        trained, samples_of(held_out, course.recipe, course.seed)
    )
    return trained


def judged(trained: Trained, samples: Any) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of a classifier on samples."""
    from tvm_dnnfusion.gnn.train import score

    return score(trained.gnn, samples).as_dict()
