"""Boosted trees as arrays: prediction without XGBoost, and the file that holds them.

All trees of all members of an ensemble are walked at once, a level per numpy step: a prediction
takes about as many microseconds as the trees have levels. A node sends x[feature] < threshold to
the left, as XGBoost does; a leaf's `left` is -1 and its `threshold` is its value.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

FORMAT = 1
READABLE = 0o644
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


class ForestError(ValueError):
    """A file that holds no latency model, or one of other features; the message says which."""

    exit_code = 2


@dataclass(frozen=True)
class Forest:
    """An ensemble of boosted trees.

    `feature`, `threshold`, `left` and `right` are arrays [nodes]; `roots` and `members` [trees] say
    where each tree begins and which member of the ensemble it belongs to. `facts` say what it was
    trained on, how it does on models left out, and which devices it fits.
    """

    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    roots: Ints
    members: Ints
    facts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def count(self) -> int:
        """Members of the ensemble."""
        return int(self.members.max()) + 1 if len(self.members) else 0

    def predict(self, x: Sequence[float]) -> Floats:
        """The sum of the trees of each member for one row of features: [members]."""
        row = np.asarray(x, np.float32)
        at = self.roots.copy()
        going = np.flatnonzero(self.left[at] >= 0)
        while going.size:
            node = at[going]
            goes_left = row[self.feature[node]] < self.threshold[node]
            at[going] = np.where(goes_left, self.left[node], self.right[node])
            going = going[self.left[at[going]] >= 0]
        return np.bincount(
            self.members, weights=self.threshold[at], minlength=self.count
        ).astype(np.float32)  # fmt: skip


def save(forest: Forest, path: Path | str) -> None:
    """Write a forest, whole or not at all. Raises OSError where the file cannot be written."""
    target = Path(path)
    facts = np.frombuffer(
        json.dumps({"format": FORMAT, **forest.facts}, sort_keys=True).encode(), np.uint8
    )
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            np.savez_compressed(
                out, facts=facts, feature=forest.feature.astype(np.int16),
                threshold=forest.threshold, left=forest.left, right=forest.right,
                roots=forest.roots, members=forest.members.astype(np.int16),
            )  # fmt: skip
        os.chmod(temporary, READABLE)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path: Path | str, names: Sequence[str]) -> Forest:
    """Read a forest whose features are `names`.

    Raises ForestError for a file that is absent, is none, or is of other features.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as data:
            facts = json.loads(data["facts"].tobytes())
            whole = {n: data[n].astype(np.int32) for n in ("feature", "left", "right", "roots")}
            members = data["members"].astype(np.int32)
            threshold = data["threshold"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ForestError(f"{path} holds no latency model: {error}") from error
    if facts.get("format") != FORMAT or list(facts.get("features", ())) != list(names):
        raise ForestError(
            f"{path} is a latency model of other features than this version of the library has; "
            f"train it anew: dnnfusion db train"
        )
    return Forest(threshold=threshold, members=members, facts=facts, **whole)
