"""Attention as exporters write it, recognised as one operator.

    softmax(q k^T * s + mask) v  ->  transpose(attention(q', k', v'; scale=s))

with q, v [B, H, S, D] and k^T [B, H, D, T]. Relax's operator takes [B, S, H, D], so each operand
and the result get a transposition; those cancel against those that exporters write around heads.
Multiplication or division by one number and an added mask may each be missing; a mask of fewer axes
is one of four. What is recognised becomes one kernel, in which the scores never leave the core's
cache.

PyTorch exports boolean masks with a guard, where(isnan(p), 0, p) of the softmax p, as rows without
any key are 0 / 0. Such a row of p is NaN as a whole, and so is the row of the result: the guard is
put there. (Where `v` itself holds NaN, those become 0 too.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tvm_dnnfusion.ecg.graph import Lit, Op
from tvm_dnnfusion.rewrite.rule import Family, Miss, Rule
from tvm_dnnfusion.rewrite.site import Site


@dataclass(frozen=True, slots=True)
class _Scores:
    """The product under a softmax: its operands, the scale and the mask."""

    product: Op
    scale: float
    mask: str | None


def _attention(s: Site) -> Mapping[str, str] | Miss | None:
    read, values = s.root.inputs[:2]
    guarded = _without_guard(s, read)
    weights = guarded or read
    soft = s.work.producer.get(weights)
    if soft is None or soft.kind != "nn.softmax" or soft.barrier is not None:
        return None
    dims = s.work.tensors[weights].dims
    if len(dims) != 4 or int(soft.attr("axis", -1)) % 4 != 3:  # type: ignore[arg-type]
        return Miss("the softmax must be over the last of four axes")
    if not (guarded or s.work.single(weights)):
        return Miss("another op reads the softmax")
    found = _scores(s, soft.inputs[0])
    if isinstance(found, Miss):
        return found
    query, keys = found.product.inputs[:2]
    shapes = [s.work.tensors[t].dims for t in (query, keys, values)]
    if any(len(d) != 4 or d[:2] != dims[:2] for d in shapes):
        return Miss("batch and heads must be the same in all operands")
    types = {s.work.tensors[t].dtype for t in (query, keys, values, found.mask or values)}
    if len(types) > 1 or not types <= {"float32", "float16"}:
        return Miss("the operands must be float32, or all float16")
    return {s.root.output: _emit(s, found, (query, keys, values), guarded is not None)}


def _without_guard(s: Site, tensor: str) -> str | None:
    """p of where(isnan(p), 0, p), where nothing else reads the two ops' results."""
    where = _read_once(s, tensor)
    if where is None or where.kind != "where" or s.work.splat(where.inputs[1]) != 0:
        return None
    test = _read_once(s, where.inputs[0])
    p = where.inputs[2]
    tested = test is not None and test.kind == "isnan" and test.inputs[0] == p
    if not tested or len(s.work.users[p]) != 2 or p in s.work.outputs:
        return None
    return p


def _emit(s: Site, found: _Scores, operands: tuple[str, str, str], guarded: bool) -> str:
    draft, (query, keys, values) = s.draft, operands
    q = draft.op("permute_dims", query, axes=(0, 2, 1, 3))
    k = draft.op("permute_dims", keys, axes=(0, 3, 1, 2))
    v = draft.op("permute_dims", values, axes=(0, 2, 1, 3))
    if found.mask is None:
        out = draft.op("nn.attention", q, k, v, scale=found.scale)
    else:
        dims = s.work.tensors[found.mask].dims
        four = (1,) * (4 - len(dims)) + dims
        mask = found.mask if four == dims else draft.op("reshape", found.mask, Lit("shape", four))
        out = draft.op("nn.attention_bias", q, k, v, mask, scale=found.scale)
    if guarded:
        zero = draft.constant("zero", np.zeros((), s.work.tensors[query].dtype))
        out = draft.op("where", draft.op("isnan", out), zero, out)
    return draft.op("permute_dims", out, axes=(0, 2, 1, 3))


def _scores(s: Site, tensor: str) -> _Scores | Miss:
    """What is under the softmax: (product * number) + mask, each part optional."""
    mask, scale = None, 1.0
    op = _read_once(s, tensor)
    if op is not None and op.kind == "add":
        for main, other in (op.inputs, op.inputs[::-1]):
            if _leads_to_product(s, main) and len(s.work.tensors[other].dims) <= 4:
                mask, op = other, _read_once(s, main)
                break
        else:
            return Miss("the mask must have at most four axes and be added to the scores")
    if op is not None and op.kind in ("multiply", "divide"):
        number = s.work.splat(op.inputs[1])
        if number is None or number == 0:
            return Miss("the scores must be scaled by one number")
        scale = number if op.kind == "multiply" else 1.0 / number
        op = _read_once(s, op.inputs[0])
    if op is None or op.kind != "matmul":
        return Miss("no product of queries and keys under the softmax, or another op reads it")
    return _Scores(op, float(scale), mask)


def _read_once(s: Site, tensor: str) -> Op | None:
    """The op that makes a tensor which only one op reads."""
    op = s.work.producer.get(tensor)
    return op if op is not None and op.barrier is None and s.work.single(tensor) else None


def _leads_to_product(s: Site, tensor: str) -> bool:
    op = _read_once(s, tensor)
    if op is not None and op.kind in ("multiply", "divide"):
        op = _read_once(s, op.inputs[0])
    return op is not None and op.kind == "matmul"


RULES = (
    Rule(
        "attention-written-out",
        Family.EXPORTER,
        "softmax(q k^T * s + mask) v",
        "transpose(attention(q, k, v; scale=s))",
        program=_attention,
        kinds=("matmul",),
        always=True,
        note="Four axes, float32 or 16. Scale, mask, PyTorch's guard against NaN may be missing.",
    ),
)
