"""Relax's operators that no runtime of TVM has: its compiler's Python computes them.

Loaded by `server.py` where it lies beside it; needs TVM's runtime and numpy.
"""

from __future__ import annotations

from typing import Any


def register() -> None:
    """Register them where they are missing."""
    import tvm_ffi

    for name, function in (("nonzero", nonzero), ("unique", unique)):
        if tvm_ffi.get_global_func(f"relax.run.{name}", allow_missing=True) is None:
            tvm_ffi.register_global_func(f"relax.run.{name}", function)


def nonzero(x: Any) -> Any:
    """The indices of what is not zero, [rank, number of them]."""
    import numpy as np
    import tvm

    return tvm.runtime.tensor(np.stack(np.atleast_1d(x.numpy()).nonzero()))


def unique(x: Any, ordered: int, *flags: Any) -> Any:
    """The values of a tensor, each once, in order or in that of their first places.

    `flags`: whether the places of the values, the value of each place and the values' numbers are
    asked for too; then the axis, or None.
    """
    import numpy as np
    import tvm

    wanted, axis = flags[:3], (*flags, None)[3]
    values, first, back, counts = np.unique(x.numpy(), True, True, True, axis=axis)
    if not ordered:
        order = np.argsort(first)
        values = np.take(values, order, axis=axis or 0)
        first, counts, back = first[order], counts[order], np.argsort(order)[back]
    more = [part for part, on in zip((first, back.reshape(-1), counts), wanted, strict=True) if on]
    made = [tvm.runtime.tensor(part) for part in (values, *more)]
    return tuple(made) if more else made[0]
