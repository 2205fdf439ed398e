"""A graph as text that does not depend on names, order of ops, or grouping of chains.

Two graphs with equal text compute the same by the same operators: structural equality for tests.
"""

from __future__ import annotations

import hashlib

from tvm_dnnfusion.ecg.graph import Arg, Graph, Op, Ref
from tvm_dnnfusion.rewrite.pattern import ASSOCIATIVE, COMMUTATIVE


def canonical(graph: Graph) -> tuple[str, ...]:
    """One expression per output of the graph."""
    return tuple(_text(graph, t, {}) for t in graph.outputs)


def _text(graph: Graph, tensor: str, known: dict[str, str]) -> str:
    if tensor not in known:
        op = graph.producers.get(tensor)
        if tensor in graph.constants:
            data = graph.constants[tensor]
            digest = hashlib.sha256(data.tobytes()).hexdigest()[:8]
            value = data.item() if data.size == 1 else digest
            known[tensor] = f"{data.dtype}{data.shape}:{value}"
        elif op is None:
            known[tensor] = tensor
        else:
            known[tensor] = _op(graph, op, tensor, known)
    return known[tensor]


def _op(graph: Graph, op: Op, tensor: str, known: dict[str, str]) -> str:
    parts = [_arg(graph, a, known) for a in _operands(graph, op)]
    if op.kind in COMMUTATIVE:
        parts.sort()
    attrs = ",".join(f"{k}={v}" for k, v in op.attrs if v is not None)
    at = f".{op.outputs.index(tensor)}" if len(op.outputs) > 1 else ""
    return f"{op.kind}({', '.join(parts)}{'; ' + attrs if attrs else ''}){at}"


def _operands(graph: Graph, op: Op) -> list[Arg]:
    """Arguments, with chains of an associative kind laid out flat."""
    if op.kind not in ASSOCIATIVE:
        return list(op.args)
    out: list[Arg] = []
    for a in op.args:
        inner = graph.producers.get(a.tensor) if isinstance(a, Ref) else None
        same = inner is not None and inner.kind == op.kind
        out.extend(_operands(graph, inner) if same and inner is not None else (a,))
    return out


def _arg(graph: Graph, arg: Arg, known: dict[str, str]) -> str:
    if isinstance(arg, Ref):
        return _text(graph, arg.tensor, known)
    if isinstance(arg, tuple):
        return "(" + ", ".join(_arg(graph, a, known) for a in arg) + ")"
    return f"{arg.kind}:{arg.value}"
