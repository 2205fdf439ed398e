"""A stable name for a graph: what a plan carries so that it is not applied to another model.

The hash covers the names, kinds, arguments and attributes of the ops, the shapes and dtypes of the
tensors, and what the function takes and returns. Names are part of it because plans name ops. It
does not depend on the order of the ops, on the hash seed, or on the names and values of constants:
a constant is its shape and dtype where it is read. So a retrained model of the same form keeps its
plans, and so does a graph that has been through Relax, which does not name constants.
Cost: linear in the graph; no constant is read.
"""

from __future__ import annotations

import hashlib

from tvm_dnnfusion.ecg.graph import Arg, Attr, Graph, Lit, Op, Ref

_VERSION = "ecg-2"


def fingerprint(graph: Graph) -> str:
    """SHA-256 of the graph as hexadecimal digits."""
    lines = sorted(_op(op, graph) for op in graph.ops)
    made = {*graph.inputs, *(name for op in graph.ops for name in op.outputs)}
    lines += sorted(f"tensor {name!r} {_form(name, graph)}" for name in made)
    outputs = ",".join(_tensor(name, graph) for name in graph.outputs)
    lines += [f"inputs {graph.inputs!r}", f"outputs ({outputs})"]
    digest = hashlib.sha256(_VERSION.encode())
    for line in lines:
        digest.update(b"\n")
        digest.update(line.encode())
    return digest.hexdigest()


def _op(op: Op, graph: Graph) -> str:
    args = ",".join(_arg(a, graph) for a in op.args)
    values = ",".join(f"{key}={_attr(value)}" for key, value in sorted(op.attrs))
    return f"op {op.name!r} {op.kind} ({args}) [{values}] {op.outputs!r} {op.barrier}"


def _tensor(name: str, graph: Graph) -> str:
    """How a tensor that is read is told from others: by name, a constant by its form."""
    return f"constant {_form(name, graph)}" if name in graph.constants else f"%{name!r}"


def _form(name: str, graph: Graph) -> str:
    record = graph.tensors[name]
    return f"{record.shape!r} {record.dtype}"


def _arg(arg: Arg, graph: Graph) -> str:
    if isinstance(arg, Ref):
        return _tensor(arg.tensor, graph)
    if isinstance(arg, Lit):
        return f"{arg.kind}:{_attr(arg.value)}"
    return "(" + ",".join(_arg(a, graph) for a in arg) + ")"


def _attr(value: Attr) -> str:
    if isinstance(value, tuple):
        return "(" + ",".join(_attr(v) for v in value) + ")"
    return f"{type(value).__name__}:{value!r}"
