"""Constants under reshape and permute_dims, computed without compiling anything.

The ONNX importer writes a bias as reshape(constant) and a Gemm's weights as
permute_dims(constant). TVM's FoldConstant would build one kernel for each.

    lv = reshape(const[64], (1, 64, 1, 1))  ->  const[1, 64, 1, 1]
"""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from tvm_dnnfusion.frontend.origins import map_bindings

_KINDS = frozenset(
    f"relax.{name}" for name in ("reshape", "expand_dims", "squeeze", "permute_dims")
)


def fold_layout(func: relax.Function) -> relax.Function:
    """The function with such bindings replaced by constants."""
    known: dict[relax.Var, np.ndarray] = {}

    def change(var: relax.Var, value: relax.Expr) -> relax.Expr:
        folded = _fold(value, known)
        if folded is None:
            return value
        known[var] = folded
        return relax.const(folded, str(folded.dtype))  # else int64 becomes int32

    return map_bindings(func, change)


def _fold(value: relax.Expr, known: dict[relax.Var, np.ndarray]) -> np.ndarray | None:
    if not isinstance(value, relax.Call) or getattr(value.op, "name", "") not in _KINDS:
        return None
    data = _data(value.args[0], known)
    shape = getattr(value.ty, "shape", None)
    if data is None or not isinstance(shape, relax.ShapeExpr):
        return None
    if value.op.name == "relax.permute_dims":
        axes = value.attrs.axes
        return np.ascontiguousarray(
            data.transpose(None if axes is None else [int(a) for a in axes])
        )
    return data.reshape([int(d) for d in shape.values])


def _data(value: relax.Expr, known: dict[relax.Var, np.ndarray]) -> np.ndarray | None:
    if isinstance(value, GenericConst) and str(value.ty.dtype) != "bfloat16":
        return value.value.numpy()
    return known.get(value) if isinstance(value, relax.Var) else None


def calls(func: relax.Function, op: str) -> bool:
    """Whether a binding of the function calls the operator."""
    values = (b.value for block in func.body.blocks for b in block.bindings)
    return any(isinstance(v, relax.Call) and getattr(v.op, "name", "") == op for v in values)
