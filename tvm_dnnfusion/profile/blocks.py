"""A block back from its canonical form: what a row of the database says, as a graph again.

The inverse of `keys.canonical_block`, up to names. What is rebuilt can be described by features
and measured anew, on this machine or another, without the model that it came from. Contents of
constants are not in a row: floats become a ramp from 0.5 to 1 along the longest axis (nothing that
a kernel could take as an immediate, save for single numbers), integers 0 and 1 in turn. They take
no memory.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from tvm_dnnfusion.ecg.graph import Arg, Attr, Graph, Lit, Op, Ref, Tensor
from tvm_dnnfusion.profile.arrays import Array, numpy_dtype
from tvm_dnnfusion.profile.store import ProfileFileError

_NOT_IN_JSON = ("inf", "-inf", "nan")
_READER = "abs"


def block_graph(block: str) -> tuple[tuple[Op, ...], Graph]:
    """The ops of a canonical block, and a graph in which they stand.

    Results that are needed outside are read there by an op of their own, as in a model; the ops'
    canonical form in this graph is `block` again.

    Raises ProfileFileError where the text is no canonical block.
    """
    try:
        return _decoded(json.loads(block))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ProfileFileError(f"not a block's canonical form ({error}): {block[:80]}") from error


def _decoded(data: Any) -> tuple[tuple[Op, ...], Graph]:
    tensors: dict[str, Tensor] = {}
    constants: dict[str, Array] = {}
    names: dict[int, str] = {}
    for i, (shape, dtype, constant) in enumerate(data["in"], 1):
        names[-i] = f"in{i}"
        tensors[f"in{i}"] = _tensor(f"in{i}", shape, dtype)
        if constant:
            constants[f"in{i}"] = _ramp(tuple(shape), dtype)
    ops: list[Op] = []
    made = 0
    for kind, attributes, args, results in data["ops"]:
        outputs: list[str] = []
        for shape, dtype in results:
            names[made] = f"t{made}"
            tensors[f"t{made}"] = _tensor(f"t{made}", shape, dtype)
            outputs.append(f"t{made}")
            made += 1
        attrs = tuple((str(n), _value(v)) for n, v in attributes)
        read = tuple(_arg(a, names) for a in args)
        ops.append(Op(f"op{len(ops)}", str(kind), read, tuple(outputs), attrs))
    readers = [_reader(names[n], tensors) for n in data["out"]]
    inputs = tuple(t for n, t in names.items() if n < 0 and t not in constants)
    results = tuple(op.output for op in readers)
    graph = Graph(tensors, (*ops, *readers), inputs, results, constants)
    return tuple(ops), graph.check()


def _tensor(name: str, shape: list[Any] | None, dtype: str) -> Tensor:
    return Tensor(name, None if shape is None else tuple(shape), dtype)


def _reader(tensor: str, tensors: dict[str, Tensor]) -> Op:
    record = tensors[tensor]
    name = f"{tensor}_outside"
    tensors[name] = Tensor(name, record.shape, record.dtype)
    return Op(f"read_{tensor}", _READER, (Ref(tensor),), (name,))


def _arg(arg: Any, names: dict[int, str]) -> Arg:
    if isinstance(arg, int):
        return Ref(names[arg])
    if isinstance(arg, dict):
        ((kind, value),) = arg.items()
        return Lit(str(kind), _value(value))
    return tuple(_arg(a, names) for a in arg)


def _value(value: Any) -> Attr:
    if isinstance(value, list):
        return tuple(_value(v) for v in value)
    return float(value) if value in _NOT_IN_JSON else value


def _ramp(shape: tuple[int, ...], dtype: str) -> Array:
    kind = numpy_dtype(dtype)
    longest = max(range(len(shape)), key=lambda i: shape[i]) if shape else 0
    count = shape[longest] if shape else 1
    if kind.kind in "iub":
        line = (np.arange(count) % 2).astype(kind)
    else:
        line = np.linspace(0.5, 1.0, max(count, 2), dtype=np.float32)[-count:].astype(kind)
    if not shape:
        return line[-1:].reshape(())
    return np.broadcast_to(
        line.reshape([-1 if i == longest else 1 for i in range(len(shape))]), shape
    )
