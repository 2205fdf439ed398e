"""Trained classifiers and explainers as files: plain arrays, no pickles.

A file holds one fusion scheme: the classifier (`gnn.*`), PGExplainer's and RG-Explainer's networks
(`pg.*`, `rg.*`) as 16-bit floats, and what was measured when it was trained (`facts`, JSON).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tvm_dnnfusion.gnn.explain import GNNE, PG, EdgeScorer
from tvm_dnnfusion.gnn.files import WeightsError, no_sums, read
from tvm_dnnfusion.gnn.model import ValidityGNN
from tvm_dnnfusion.gnn.walk import RG


@dataclass
class Trained:
    """A classifier with its trained explainers, and the facts of its training."""

    gnn: ValidityGNN
    pg: PG
    rg: RG
    facts: dict[str, Any]

    def scorer(self, name: str) -> EdgeScorer:
        """The explainer "gnne", "pg" or "rg". Raises KeyError for another name."""
        if name == "gnne":
            return GNNE(self.gnn)
        return {"pg": self.pg, "rg": self.rg}[name]


def save(trained: Trained, path: Path) -> None:
    """Write the file, whole or not at all."""
    parts = {"gnn": trained.gnn, "pg": trained.pg.algorithm.mlp, "rg": trained.rg}
    arrays = {
        f"{part}.{name}": value.numpy().astype(np.float16 if value.dim() > 1 else np.float32)
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    facts = np.frombuffer(json.dumps(trained.facts, sort_keys=True).encode(), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}.part.npz")
    np.savez_compressed(draft, facts=facts, **arrays)
    draft.replace(path)


def load(path: Path, features: int) -> Trained:
    """Read a file that `save` wrote, for nodes of that many features.

    Raises
    ------
    WeightsError where the file is missing, damaged, or made for other features.
    """
    arrays, facts = read(path)
    arrays.setdefault("gnn.sums.weight", no_sums(features))
    gnn = ValidityGNN(features)
    _fill(gnn, "gnn", arrays, path)
    pg, rg = PG(gnn.eval()), RG(gnn)
    _fill(pg.algorithm.mlp, "pg", arrays, path)
    _fill(rg, "rg", arrays, path)
    return Trained(gnn, pg, rg, facts)


def _fill(module: nn.Module, part: str, arrays: dict[str, np.ndarray], path: Path) -> None:
    state = {
        name.removeprefix(f"{part}."): torch.from_numpy(value.astype(np.float32))
        for name, value in arrays.items()
        if name.startswith(f"{part}.")
    }
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path}: not weights of this form ({error})") from error
