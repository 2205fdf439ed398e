"""Explainers by name: the edges of an invalid group at which it is worth cutting.

`gnne`, `pg` and `rg` ask the trained classifier (`tvm_dnnfusion.gnn`); `informed` tries edges with
exact figures and needs no network; `random` is the paper's baseline. Repeated
blocks of a network look alike to the classifier: their explanation is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tvm_dnnfusion.cost.memory.model import MemoryModel
from tvm_dnnfusion.gnn.files import explainer_weights, shipped
from tvm_dnnfusion.gnn.inference import Scorer, scorer
from tvm_dnnfusion.planners.get.features import GroupEncoder, feature_count, node_features
from tvm_dnnfusion.planners.get.oracle import Counter
from tvm_dnnfusion.planners.get.space import Edge, Mask, Space
from tvm_dnnfusion.planners.get.split import AllEdges, Explainer

LEARNED = ("rg", "pg", "gnne")
EXPLAINERS = (*LEARNED, "informed", "random")
"""Names that `--explainer` takes; the first is the default."""

KEPT_SHARE = 0.3
"""Share of a group's edges that an explanation names, those of the largest weights. The paper does
not state it; with half of them the splits get little better and cost twice the checks."""
KEPT_LEAST = 4
KEPT_MOST = 24


class ExplainerError(ValueError):
    """No explainer of that name, or no weights for it; the message says what there is."""

    exit_code = 2


class LearnedExplainer:
    """The edges of the largest weights, kept by what a group looks like to the classifier."""

    def __init__(self, encoder: GroupEncoder, scorer: Scorer) -> None:
        self._encoder = encoder
        self._scorer = scorer
        self._known: dict[tuple[bytes, bytes], tuple[int, ...]] = {}
        self.memory = Counter()

    def edges(self, group: Mask) -> Sequence[Edge]:
        """The most telling edges first; those of weight 0 are not part of the explanation."""
        found = self._encoder.edges(group)
        return [found[k] for k in self._ranked(group)] if found else []

    def _ranked(self, group: Mask) -> tuple[int, ...]:
        key = self._encoder.signature(group)
        self.memory.asked += 1
        if key in self._known:
            self.memory.hits += 1
        else:
            self._known[key] = _top(self._scorer.weights(self._encoder.encode(group)))
        return self._known[key]


def _top(weights: np.ndarray) -> tuple[int, ...]:
    count = min(KEPT_MOST, max(KEPT_LEAST, round(KEPT_SHARE * len(weights))))
    order = np.argsort(-weights, kind="stable")[:count]
    return tuple(int(k) for k in order if weights[k] > 0)


def make_explainer(
    name: str, model: MemoryModel, space: Space, weights: Path | None = None
) -> Explainer | None:
    """The explainer of that name for a memory model; None for "random".

    Parameters
    ----------
    weights : a file that `dnnfusion gnn train` wrote; None: those that the package carries.

    Raises
    ------
    ExplainerError for an unknown name, or where there are no weights for the memory model.
    WeightsError for a file that holds none of this form.
    """
    if name == "random":
        return None
    if name == "informed":
        return AllEdges(space)
    if name not in LEARNED:
        raise ExplainerError(f"no explainer {name!r}; there are {', '.join(EXPLAINERS)}")
    scheme = model.name
    path = weights or shipped(scheme)
    if weights is None and not path.is_file():
        raise ExplainerError(
            f"the package has no weights for the memory model {scheme!r}: train them with"
            f" `dnnfusion gnn train --scheme {scheme} --output FILE` and give that file, or take"
            " the explainer informed"
        )
    encoder = GroupEncoder(space, node_features(model.network, model.setting, scheme))
    return LearnedExplainer(encoder, scorer(name, explainer_weights(path, feature_count(scheme))))
