"""A stable name for a graph: what a plan carries so that it is not applied to another model.

The hash covers the names, kinds, arguments and attributes of the ops, the shapes and dtypes of the
tensors, and what the function takes and returns. It does not depend on the order of the ops, on
the hash seed or on the values of constants: a retrained model of the same form keeps its plans.
Cost: linear in the graph; no constant is read.
"""

from __future__ import annotations

import hashlib

from tvm_dnnfusion.ecg.graph import Arg, Attr, Graph, Lit, Op, Ref

_VERSION = "ecg-1"


def fingerprint(graph: Graph) -> str:
    """SHA-256 of the graph as hexadecimal digits."""
    lines = sorted(_op(op) for op in graph.ops)
    lines += sorted(
        f"tensor {t.name!r} {t.shape!r} {t.dtype} {t.name in graph.constants}"
        for t in graph.tensors.values()
    )
    lines += [f"inputs {graph.inputs!r}", f"outputs {graph.outputs!r}"]
    digest = hashlib.sha256(_VERSION.encode())
    for line in lines:
        digest.update(b"\n")
        digest.update(line.encode())
    return digest.hexdigest()


def _op(op: Op) -> str:
    args = ",".join(_arg(a) for a in op.args)
    values = ",".join(f"{key}={_attr(value)}" for key, value in sorted(op.attrs))
    return f"op {op.name!r} {op.kind} ({args}) [{values}] {op.outputs!r} {op.barrier}"


def _arg(arg: Arg) -> str:
    if isinstance(arg, Ref):
        return f"%{arg.tensor!r}"
    if isinstance(arg, Lit):
        return f"{arg.kind}:{_attr(arg.value)}"
    return "(" + ",".join(_arg(a) for a in arg) + ")"


def _attr(value: Attr) -> str:
    if isinstance(value, tuple):
        return "(" + ",".join(_attr(v) for v in value) + ")"
    return f"{type(value).__name__}:{value!r}"
