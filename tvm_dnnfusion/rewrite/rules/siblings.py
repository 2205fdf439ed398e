"""Products of one left operand by several constants, computed as one.

    A @ K1 + T1, A @ K2 + T2, A @ K3 + T3  ->  split(A @ [K1 K2 K3] + [T1 T2 T3])

The projections of attention are such products. As one, the left operand is read once, there is one
kernel to start in place of three, and tiles divide the columns more evenly among the cores. The
split is an index function in whatever reads its parts. Products whose result an elementwise op
reads stay apart: each takes that op as its epilogue. The rule comes last, since others (a scale
that moves into the weights of the queries) look at each product alone. No number changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.rewrite.rule import Family, Miss, Rule
from tvm_dnnfusion.rewrite.site import Site

_READERS = frozenset(
    "reshape permute_dims split strided_slice squeeze expand_dims nn.attention nn.attention_bias"
    " matmul".split()
)


@dataclass(frozen=True, slots=True)
class _Product:
    """A product by a constant, and the constant that is added to it, if any."""

    op: Op
    weight: str
    bias: str | None
    result: str


def _side_by_side(s: Site) -> Mapping[str, str] | Miss | None:
    first = _product(s, s.root)
    if first is None:
        return None
    left = s.root.inputs[0]
    readers = [s.work.ops[name] for name in s.work.users.get(left, {})]
    found = [p for p in (_product(s, op) for op in readers) if p is not None]
    found = [p for p in found if _alike(s, p, first)]
    found.sort(key=lambda p: (s.work.order[p.op.name], p.op.name))
    if len(found) < 2:
        return None
    if found[0].op.name != s.root.name:
        return Miss("an earlier product of the same operand takes this one in")
    if any(not _apart(s, p) for p in found):
        return Miss("an elementwise op reads a product, and is better as its epilogue")
    return _emit(s, left, found)


def _product(s: Site, op: Op) -> _Product | None:
    """The op as a product of a tensor by a constant matrix."""
    if (
        op.kind != "matmul"
        or op.barrier is not None
        or op.attr("out_dtype") not in (None, "", "void")
    ):
        return None
    left, right = op.inputs
    if right not in s.work.constants or left in s.work.constants:
        return None
    if len(s.work.tensors[right].dims) != 2 or len(s.work.tensors[left].dims) < 2:
        return None
    return _Product(op, right, *_bias(s, op))


def _bias(s: Site, op: Op) -> tuple[str | None, str]:
    """The constant that the only reader adds to each row, and the sum; or None and the product."""
    if s.work.single(op.output):
        reader = s.work.ops[next(iter(s.work.users[op.output]))]
        if reader.kind == "add" and reader.barrier is None:
            other = next((t for t in reader.inputs if t != op.output), None)
            columns = s.work.tensors[op.output].dims[-1]
            if other in s.work.constants and s.work.tensors[other].elements == columns:
                dims = s.work.tensors[other].dims
                if (
                    dims[-1:] in ((), (columns,))
                    and s.work.tensors[reader.output].dims == s.work.tensors[op.output].dims
                ):
                    return other, reader.output
    return None, op.output


def _alike(s: Site, p: _Product, first: _Product) -> bool:
    return s.work.tensors[p.weight].dtype == s.work.tensors[first.weight].dtype


def _apart(s: Site, p: _Product) -> bool:
    """Whether only movements, attention and products read the result."""
    return p.result not in s.work.outputs and all(
        s.work.ops[name].kind in _READERS for name in s.work.users.get(p.result, {})
    )


def _emit(s: Site, left: str, found: list[_Product]) -> Mapping[str, str]:
    weights = [s.work.constants[p.weight] for p in found]
    merged = s.draft.constant("weights", np.concatenate(weights, axis=1))
    out = s.draft.put(found[0].op, left, merged)
    if any(p.bias is not None for p in found):
        parts = [
            np.zeros(w.shape[1], w.dtype)
            if p.bias is None
            else s.work.constants[p.bias].reshape(-1)
            for p, w in zip(found, weights)
        ]
        out = s.draft.op("add", out, s.draft.constant("biases", np.concatenate(parts)))
    ends = np.cumsum([w.shape[1] for w in weights])[:-1]
    axis = len(s.draft.tensors[out].dims) - 1
    pieces = s.draft.op("split", out, indices_or_sections=tuple(map(int, ends)), axis=axis)
    return {p.result: piece for p, piece in zip(found, pieces)}


RULES = (
    Rule(
        "products-side-by-side",
        Family.FOLD,
        "A @ K1 + T1, A @ K2 + T2",
        "split(A @ [K1 K2] + [T1 T2])",
        program=_side_by_side,
        kinds=("matmul",),
        reassociates=False,
        integers=True,
        late=True,
        note="Only where movements, attention or products read the results.",
    ),
)
