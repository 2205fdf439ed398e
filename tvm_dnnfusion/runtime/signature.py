"""Inputs and outputs of a model by name, shape and dtype.

Names are the source model's where the frontend kept them (attributes "input_names" and
"output_names" of the function), else the parameters' names, and "output0", "output1", ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm_dnnfusion.profile.arrays import Array


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output. A dimension that is not a number is the text of its expression.

    `shape` is None where the rank is unknown; `dtype` is TVM's name, "" for a shape value.
    """

    name: str
    shape: tuple[int | str, ...] | None
    dtype: str

    def __str__(self) -> str:
        dims = "?" if self.shape is None else ", ".join(str(d) for d in self.shape)
        return f"{self.name}: {self.dtype or 'shape'}[{dims}]"


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs in the order of the function's parameters, outputs in order of the result."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def signature_of(mod: Any, entry: str = "main") -> Signature:
    """The signature of a Relax function; nested tuples of results are flattened.

    Raises ValueError for a parameter that is not a tensor.
    """
    func = mod[entry]
    given = dict(func.attrs) if func.attrs else {}
    names = _names(given, "input_names", [str(p.name) for p in func.params])
    inputs = tuple(_port(name, p.ty) for name, p in zip(names, func.params, strict=True))
    for port, param in zip(inputs, func.params, strict=True):
        if not port.dtype:
            raise ValueError(f"parameter {port.name} is not a tensor: {param.ty}")
    leaves = _leaves(func.ret_ty)
    outs = _names(given, "output_names", [f"output{i}" for i in range(len(leaves))])
    return Signature(inputs, tuple(_port(n, t) for n, t in zip(outs, leaves, strict=True)))


def flatten(value: Any) -> list[Array]:
    """Results of a call as numpy arrays in order; tuples flattened, shapes as int64 vectors."""
    import numpy as np

    if hasattr(value, "numpy"):
        return [value.numpy()]
    items = list(value)
    if all(isinstance(i, int) for i in items):
        return [np.asarray(items, dtype=np.int64)]
    return [array for item in items for array in flatten(item)]


def _names(attrs: dict[str, Any], key: str, fallback: Sequence[str]) -> list[str]:
    """Names kept by the frontend, where there is one for each."""
    kept = [str(n) for n in attrs.get(key, ())]
    return kept if len(kept) == len(fallback) and len(set(kept)) == len(kept) else list(fallback)


def _leaves(kind: Any) -> list[Any]:
    fields = getattr(kind, "fields", None)
    if fields is None:
        return [kind]
    return [leaf for field in fields for leaf in _leaves(field)]


def _port(name: str, kind: Any) -> Port:
    dtype = getattr(kind, "dtype", None)
    shape = getattr(kind, "shape", None)
    dims = None if shape is None else tuple(_dim(d) for d in shape)
    return Port(name, dims, "" if dtype is None else str(dtype))


def _dim(value: Any) -> int | str:
    try:
        return int(value)
    except (TypeError, ValueError):
        return str(value)
