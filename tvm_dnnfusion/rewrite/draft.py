"""What a rule wants to put in place: ops that are priced before they are put into the graph.

A draft folds constants, reuses ops that are there already (common sub-expressions), and keeps its
ops apart until the engine takes the candidate.
"""

from __future__ import annotations

from collections import ChainMap
from typing import Any

import numpy as np

from tvm_dnnfusion.ecg.builder import GraphBuilder, Operand
from tvm_dnnfusion.ecg.evaluate import NotEvaluated, evaluate_op
from tvm_dnnfusion.ecg.graph import Attr, Op, Ref
from tvm_dnnfusion.rewrite.work import INTERN_ELEMENTS, Cost, Work, cost_of, key_of

FOLD_ELEMENTS = 1 << 16
"""A folded constant may have this many elements (256 KiB of float32, an L2 cache's share), or
twice those of its operands: folding must not blow weights up."""


class Draft(GraphBuilder):
    """A builder on top of a graph under change. `root` names what it makes."""

    def __init__(self, work: Work, root: str) -> None:
        super().__init__()
        self.work = work
        self.root = root
        self.tensors = ChainMap({}, work.tensors)  # type: ignore[assignment]
        self.constants = ChainMap({}, work.constants)  # type: ignore[assignment]

    def constant(self, name: str, data: Any, dtype: str | None = None) -> str:
        made = super().constant(f"{self.root}.{name}", data, dtype)
        array = self.constants[made]
        known = (
            self.work.interned.get((array.dtype.str, array.shape, array.tobytes()))
            if array.size <= INTERN_ELEMENTS
            else None
        )
        if known is None or known not in self.constants:
            return made
        del self.constants[made], self.tensors[made]
        return known

    def op(
        self,
        kind: str,
        *operands: Operand,
        name: str | None = None,
        origins: tuple[str, ...] = (),
        rules: tuple[str, ...] = (),
        **attributes: Attr,
    ) -> Any:
        """As GraphBuilder.op; returns an existing or folded tensor where there is one."""
        made = super().op(
            kind,
            *operands,
            name=name or f"{self.root}.{kind.rpartition('.')[2]}",
            origins=origins,
            rules=rules,
            **attributes,
        )
        op = self.ops.pop()
        known = self.work.by_key.get(key_of(op)) or self._mine(op)
        if known is not None:
            outputs = self.work.ops[known].outputs if known in self.work.ops else self._outs(known)
            for t in op.outputs:
                del self.tensors[t]
            return outputs[0] if isinstance(made, str) else outputs
        if isinstance(made, str) and self._fold(op):
            return made
        self.ops.append(op)
        return made

    def put(self, op: Op, *operands: str) -> str:
        """An op like `op`, with other tensors for its first operands and all else as it is."""
        args = (*(Ref(t) for t in operands), *op.args[len(operands) :])
        return self.op(op.kind, *args, **dict(op.attrs))  # type: ignore[arg-type]

    def chain(self, kind: str, operands: tuple[str, ...]) -> str:
        """Operands joined by an associative op, those with few elements first."""
        ordered = sorted(
            operands, key=lambda t: (t not in self.constants, self.tensors[t].elements)
        )
        out = ordered[0]
        for t in ordered[1:]:
            small, large = (out, t) if t not in self.constants else (t, out)
            out = self.op(kind, large, small)
        return out

    def cost(self) -> Cost:
        """FLOPs and bytes read of the new ops."""
        costs = [cost_of(op, self.tensors) for op in self.ops]
        return Cost(sum(c.flops for c in costs), sum(c.bytes_read for c in costs))

    def _mine(self, op: Op) -> str | None:
        return next((o.name for o in self.ops if key_of(o) == key_of(op)), None)

    def _outs(self, name: str) -> tuple[str, ...]:
        return next(o.outputs for o in self.ops if o.name == name)

    def _fold(self, op: Op) -> bool:
        """Replace an op on constants by its value, in the type of its result."""
        data = fold(op, self.tensors, self.constants)
        if data is None:
            return False
        self.constants[op.output] = data
        return True


def fold(op: Op, tensors: Any, constants: Any) -> np.ndarray | None:
    """The value of a one-output op whose operands are all constants, or None.

    Computed in double and rounded once. None as well when the result would outgrow its operands
    or the interpreter has no entry.
    """
    if len(op.outputs) != 1 or op.barrier or any(t not in constants for t in op.inputs):
        return None
    if any(tensors[t].dtype not in _NUMPY_TYPES for t in (*op.inputs, op.output)):
        return None
    out = tensors[op.output]
    room = 2 * sum(tensors[t].elements for t in op.inputs)
    if out.elements > max(FOLD_ELEMENTS, room):
        return None
    exact = op.kind in _MOVES  # no arithmetic: spare the copies, weights can be large
    values = {t: constants[t] if exact else _double(constants[t]) for t in op.inputs}
    try:
        (data,) = evaluate_op(op, tensors, values, dtype="float32" if exact else "float64")
    except NotEvaluated:
        return None
    return np.ascontiguousarray(data).astype(out.dtype, copy=False).reshape(out.dims)


_MOVES = frozenset(
    "reshape permute_dims expand_dims squeeze flatten nn.batch_flatten concat stack strided_slice "
    "take gather_elements gather_nd flip tile repeat broadcast_to".split()
)
"""Kinds that only move elements."""

_NUMPY_TYPES = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
)
"""Element types that numpy computes with; others (bfloat16, float8, int4) are not folded."""


def _double(data: np.ndarray) -> np.ndarray:
    return data.astype("float64") if data.dtype.kind == "f" else data
