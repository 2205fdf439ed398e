"""Files of trained weights, read without torch."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np


class WeightsError(ValueError):
    """A file of weights is missing, damaged, or of another form; the message names it."""

    exit_code = 2


def shipped(scheme: str) -> Path:
    """Where the package keeps the weights of a fusion scheme ("lbdf", "brr")."""
    return Path(str(resources.files("tvm_dnnfusion.gnn") / f"{scheme}.npz"))


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays of a file that `weights.save` wrote, as 32-bit floats, and the facts of its training.

    Raises
    ------
    WeightsError where the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(arrays.pop("facts").tobytes())
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise WeightsError(f"{path}: cannot read weights ({error})") from error
    return {k: v.astype(np.float32) for k, v in arrays.items()}, facts


def no_sums(features: int) -> np.ndarray:
    """`gnn.sums.weight` of a classifier whose readout sums embeddings alone, as that of brr."""
    return np.zeros((1, features), dtype=np.float32)


def explainer_weights(path: Path, features: int) -> dict[str, np.ndarray]:
    """Arrays of a file, for nodes of that many features.

    Raises
    ------
    WeightsError where the file is missing, damaged, or made for other features.
    """
    arrays, _ = read(path)
    arrays.setdefault("gnn.sums.weight", no_sums(features))
    found = arrays["gnn.mean"].shape if "gnn.mean" in arrays else ()
    if found != (features,):
        raise WeightsError(f"{path}: not weights of this form (features: {found}, not {features})")
    return arrays
