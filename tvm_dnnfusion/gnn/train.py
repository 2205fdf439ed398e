"""Fitting the classifier, and the figures by which it is judged.

The label is whether a group fits. Where the exact check says how much buffer the group needs, its
logit is drawn towards that as well: groups at the edge of the buffer, where nearly all mistakes
are, then teach more than their label.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from tvm_dnnfusion.gnn.model import ValidityGNN, batch_of, logits
from tvm_dnnfusion.gnn.records import Samples

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]

EPOCHS = 25
"""Half of the paper's: the learning rate has come down by then. It states none of the others."""
BATCH = 256
LEARNING_RATE = 2e-3
CLIP = 1.0
"""Largest norm of a gradient: sums over the nodes of a large group make single steps jump."""
STEEPNESS = 12.0
"""Logit of a group that needs twice the buffer, as far as the second loss goes."""
NEED_WEIGHT = 0.2
"""Of the second loss: the mean absolute distance of logits from STEEPNESS * (need - 1).
Not its logarithm: needs are sums over nodes, as the readout is."""
SUMS_RATE = 10.0
"""Learning rate of the sums of features, in LEARNING_RATE: their weights end at 1 and more."""


@dataclass(frozen=True, slots=True)
class Score:
    """How well verdicts agree with the exact check; the class that counts is "invalid"."""

    groups: int
    invalid: int
    accuracy: float
    precision: float
    recall: float
    f1: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


def score(model: ValidityGNN, samples: Samples) -> Score:
    """The model's figures on labelled groups."""
    return compared(logits(model, samples) > 0, samples.invalid > 0)


def compared(said: np.ndarray, true: np.ndarray) -> Score:
    """Figures of verdicts against the truth; 0 where a ratio has no denominator."""
    hits = int((said & true).sum())
    precision = hits / max(1, int(said.sum()))
    recall = hits / max(1, int(true.sum()))
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return Score(len(true), int(true.sum()), float((said == true).mean()), precision, recall, f1)


def divided(samples: Samples, rng: np.random.Generator) -> tuple[Samples, Samples, Samples]:
    """80 % to train on, 10 % to choose the epoch by, 10 % to test (section A.3)."""
    order = rng.permutation(len(samples))
    a, b = int(0.8 * len(order)), int(0.9 * len(order))
    return samples.take(order[:a]), samples.take(order[a:b]), samples.take(order[b:])


def fit(
    train: Samples,
    check: Samples,
    seed: int = 0,
    epochs: int = EPOCHS,
    progress: Progress | None = None,
) -> tuple[ValidityGNN, list[float]]:
    """Fit a classifier; returns that of the epoch with the best F1 on `check`, and mean losses.

    Adam with a learning rate that falls to zero along a cosine. The same seed on the same machine
    gives the same weights. An interrupt ends the training; the best so far is returned.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = ValidityGNN(train.nodes.shape[1])
    model.standardise(train.nodes)
    best, best_f1, losses = _state(model), -1.0, list[float]()
    sums = [model.sums.weight]
    rest = [p for name, p in model.named_parameters() if not name.startswith("sums.")]
    optimiser = torch.optim.Adam(
        [{"params": rest}, {"params": sums, "lr": SUMS_RATE * LEARNING_RATE}], lr=LEARNING_RATE
    )
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    try:
        for epoch in range(epochs):
            losses.append(_epoch(model, optimiser, train, rng))
            falling.step()
            found = score(model, check).f1
            if found > best_f1:
                best, best_f1 = _state(model), found
            if progress is not None:
                progress("train", epoch + 1, epochs)
    except KeyboardInterrupt:
        log.warning("training was interrupted after %d of %d epochs", len(losses), epochs)
    model.load_state_dict(best)
    return model.eval(), losses


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _epoch(
    model: ValidityGNN,
    optimiser: torch.optim.Optimizer,
    train: Samples,
    rng: np.random.Generator,
) -> float:
    model.train()
    total = 0.0
    order = rng.permutation(len(train))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        nodes, edges, group, invalid = batch_of(train, chosen)
        said = model(nodes, edges, group)
        loss = nn.functional.binary_cross_entropy_with_logits(said, invalid)
        loss = loss + NEED_WEIGHT * _distance(said, train.share[chosen])
        optimiser.zero_grad()
        loss.backward()
        for part in optimiser.param_groups:
            nn.utils.clip_grad_norm_(part["params"], CLIP)
        optimiser.step()
        total += loss.item() * len(chosen)
    return total / len(order)


def _distance(said: torch.Tensor, share: np.ndarray) -> torch.Tensor:
    """Mean distance of logits from what needs say; beyond twice the buffer all needs are alike."""
    known = np.isfinite(share)
    wanted = (STEEPNESS * (np.where(known, share, 1.0) - 1).clip(-1, 1)).astype(np.float32)
    there = torch.from_numpy(wanted)
    beyond = (there.abs() >= STEEPNESS) & (said * there.sign() > STEEPNESS)
    counts = torch.from_numpy(known) & ~beyond
    return torch.where(counts, (said - there).abs(), 0).mean()
