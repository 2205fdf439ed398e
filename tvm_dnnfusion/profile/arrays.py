"""Random tensors for measuring and running: reproducible, of sensible scale, safe as indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def numpy_dtype(name: str) -> np.dtype[Any]:
    """numpy's dtype of a TVM name; "bfloat16" and the float8 types come from ml_dtypes.

    Raises ValueError for a name that neither knows.
    """
    try:
        return np.dtype(name)
    except TypeError:
        pass
    import ml_dtypes

    found = getattr(ml_dtypes, name, None)
    if found is None:
        raise ValueError(f"numpy has no element type {name!r}")
    return np.dtype(found)


def random_array(
    shape: Sequence[int], dtype: str, rng: np.random.Generator, int_high: int = 2
) -> Array:
    """A tensor of that shape.

    Floats are uniform in [-1, 1): no denormal numbers, which slow some CPUs down. Integers are in
    [0, `int_high`): they may be indices, and 0 and 1 are within almost any axis.
    """
    kind = numpy_dtype(dtype)
    if kind.kind == "b":
        return rng.integers(0, 2, size=tuple(shape)).astype(kind)
    if kind.kind in "iu":
        return rng.integers(0, int_high, size=tuple(shape)).astype(kind)
    return rng.uniform(-1.0, 1.0, size=tuple(shape)).astype(np.float32).astype(kind)
