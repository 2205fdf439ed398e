"""Building graphs by hand: shapes, dtypes and Relax's default attributes are filled in.

Used by rewriting rules (what they put in place of what they match), by tests and by generators of
models. The argument and attribute forms are exactly Relax's, so that a built graph can be written
back as Relax.
"""

from __future__ import annotations

from typing import Any, Union

import numpy as np

from tvm_dnnfusion.ecg.graph import Arg, Attr, Graph, GraphError, Lit, Op, Ref, Tensor
from tvm_dnnfusion.ecg.shapes import infer
from tvm_dnnfusion.ecg.signatures import SIGNATURES, Signature

Operand = Union[str, int, float, bool, Lit, Ref, np.ndarray, tuple["Operand", ...], None]
"""What `GraphBuilder.op` takes for an argument."""

_TUPLES = ("strides", "dilation", "padding", "output_padding", "pool_size", "output_size")
_AXES = ("axis", "axes", "repeats")


class GraphBuilder:
    """Collects ops in order and makes a checked graph of them.

    >>> b = GraphBuilder()
    >>> x = b.input("x", (1, 64, 56, 56))
    >>> y = b.op("nn.relu", b.op("multiply", x, 2.0))
    >>> graph = b.output(y).build()
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.ops: list[Op] = []
        self.inputs: list[str] = []
        self.outputs: list[str] = []

    def fresh(self, base: str) -> str:
        """A tensor name that is not taken."""
        name, k = base, 0
        while name in self.tensors:
            k += 1
            name = f"{base}_{k}"
        return name

    def input(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> str:
        """A parameter of the function; returns its name."""
        if name in self.tensors:
            raise GraphError(f"two tensors are named {name}")
        self.tensors[name] = Tensor(name, tuple(shape), dtype)
        self.inputs.append(name)
        return name

    def constant(self, name: str, data: Any, dtype: str | None = None) -> str:
        """A constant tensor; returns its name (made unique). Python floats become float32."""
        array = np.asarray(data, dtype=dtype)
        if dtype is None and not isinstance(data, (np.ndarray, np.generic)):
            array = array.astype("float32") if array.dtype == np.float64 else array
        name = self.fresh(name)
        self.tensors[name] = Tensor(name, array.shape, array.dtype.name)
        self.constants[name] = array
        return name

    def op(
        self,
        kind: str,
        *operands: Operand,
        name: str | None = None,
        origins: tuple[str, ...] = (),
        rules: tuple[str, ...] = (),
        **attributes: Attr,
    ) -> Any:
        """Append an op.

        Parameters
        ----------
        kind : Relax's operator name without the prefix.
        operands : tensor names, tuples of them, numbers (a scalar literal where Relax takes one, a
            0-dimensional constant of the first operand's dtype where it takes a tensor), tuples of
            numbers where Relax takes a shape or indices, or arguments as `Op` holds them.
        name : name of the op and base of its outputs' names; made unique.
        attributes : Relax's attributes; those that are missing get Relax's defaults.

        Returns
        -------
        The name of the output, or a tuple of names when there are several.

        Raises
        ------
        GraphError for an unknown operator or attribute, or operands that do not fit.
        """
        signature = SIGNATURES.get(kind)
        if signature is None:
            raise GraphError(f"{kind}: no such operator in the table of signatures")
        args = self._args(kind, signature, operands)
        values = full_attrs(kind, attributes)
        results = infer(kind, args, values, self.tensors)
        if kind == "reshape":  # Relax resolves -1 and 0 when it builds the call
            args = (args[0], Lit("shape", results[0][0]))
        base = self.fresh(name or kind.rpartition(".")[2])
        outputs = []
        for i, (shape, dtype) in enumerate(results):
            out = base if len(results) == 1 else self.fresh(f"{base}.{i}")
            self.tensors[out] = Tensor(out, shape, dtype)
            outputs.append(out)
        self.ops.append(
            Op(
                outputs[0] if len(results) > 1 else base,
                kind,
                args,
                tuple(outputs),
                tuple(sorted(values.items())),
                origins,
                rules,
            )
        )
        return outputs[0] if len(results) == 1 else tuple(outputs)

    def output(self, *tensors: str) -> GraphBuilder:
        """Mark tensors as returned, in order."""
        self.outputs.extend(tensors)
        return self

    def build(self) -> Graph:
        """The graph. Raises GraphError when it is not well formed."""
        graph = Graph(
            dict(self.tensors),
            tuple(self.ops),
            tuple(self.inputs),
            tuple(self.outputs),
            dict(self.constants),
        )
        return graph.check()

    def _args(self, kind: str, sig: Signature, operands: tuple[Operand, ...]) -> tuple[Arg, ...]:
        needed = sum(1 for _, mark in sig.params if not mark.endswith("?"))
        if not needed <= len(operands) <= len(sig.params):
            raise GraphError(f"{kind}: takes {needed} arguments, not {len(operands)}")
        like = next(
            (self.tensors[o].dtype for o in operands if isinstance(o, str) and o in self.tensors),
            "float32",
        )
        return tuple(self._arg(kind, mark, o, like) for (_, mark), o in zip(sig.params, operands))

    def _arg(self, kind: str, mark: str, value: Operand, like: str) -> Arg:
        if isinstance(value, (Ref, Lit)):
            return value
        if isinstance(value, str):
            if value not in self.tensors:
                raise GraphError(f"{kind}: no tensor is named {value}")
            return Ref(value)
        if isinstance(value, np.ndarray):
            return Ref(self.constant("const", value))
        if isinstance(value, (tuple, list)):
            if mark == "@":
                return Lit("shape", tuple(int(v) for v in value))  # type: ignore[arg-type]
            return tuple(self._arg(kind, "#" if mark[:1] == "%" else "", v, like) for v in value)
        if isinstance(value, (bool, int, float, np.number)):
            if mark != "#":
                return Ref(self.constant("const", value, like))
            dtype = "int64" if isinstance(value, (int, np.integer)) else "float64"  # as Relax
            return Lit(dtype, value.item() if isinstance(value, np.generic) else value)
        raise GraphError(f"{kind}: cannot take {value!r} as an argument")


def full_attrs(kind: str, given: dict[str, Attr]) -> dict[str, Attr]:
    """All attributes of a call in Relax's form: defaults filled, scalars widened to tuples.

    Raises GraphError for a name that the operator does not have.
    """
    values = SIGNATURES[kind].defaults
    for key, value in given.items():
        if key not in values:
            raise GraphError(f"{kind}: no attribute {key}; it has {', '.join(values) or 'none'}")
        values[key] = _widened(kind, key, value, values[key])
    if "out_layout" in values and values["out_layout"] is None:
        values["out_layout"] = values.get("data_layout") or values.get("layout")
    return values


def _widened(kind: str, key: str, value: Attr, default: Attr) -> Attr:
    value = tuple(value) if isinstance(value, list) else value
    if key in _TUPLES and value is not None:
        items = value if isinstance(value, tuple) else (value,)
        rank = len(default) if isinstance(default, tuple) else int(kind[-2])
        return items * (rank // len(items)) if len(items) < rank else items
    reduces = kind in ("sum", "mean", "max", "min", "prod", "std", "variance", "median")
    wide = reduces or kind in ("expand_dims", "squeeze", "tile") or key == "axes"
    if key in _AXES and wide and isinstance(value, int):
        return (value,)
    return value
