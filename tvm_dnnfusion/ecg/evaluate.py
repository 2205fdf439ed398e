"""A numpy interpreter of graphs: constant folding, and the reference that rules are tested against.

Table-driven: one entry per operator kind; what slides a window is in `evaluate_nn.py`. Clarity over
speed: a convolution is an einsum over windows. With dtype="float64" every floating tensor is
computed in double, which gives the reference for the error of float32 results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_dnnfusion.ecg.graph import Graph, GraphError, Op, Ref, Tensor
from tvm_dnnfusion.ecg.shapes import Call, slices, split_points

Array = np.ndarray
Values = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Run:
    """One operator being evaluated: its call, the operands' data, and the float type in force."""

    call: Call
    values: Values
    floats: str

    def x(self, i: int = 0) -> Array:
        """Data of the i-th argument."""
        arg = self.call.args[i]
        if not isinstance(arg, Ref):
            self.call.fail(f"argument {i} has no data")
        return self.values[arg.tensor]

    def many(self, i: int = 0) -> list[Array]:
        """Data of a tuple of tensors."""
        return [self.values[a.tensor] for a in self.call.args[i] if isinstance(a, Ref)]  # type: ignore

    def axes(self, name: str = "axis") -> tuple[int, ...]:
        """Axes of the first operand, counted from the front."""
        return self.call.axes(name, self.x().ndim)

    def flag(self, name: str) -> bool:
        """A boolean attribute."""
        return bool(self.call.attrs.get(name))

    def dtype(self, name: str) -> np.dtype[Any]:
        """The numpy type of a result, with floats widened to the type in force."""
        return np.dtype(_widened(name, self.floats))


class NotEvaluated(GraphError):
    """The interpreter has no entry for an operator, or not for this use of it."""


def evaluate(graph: Graph, inputs: Mapping[str, Any], dtype: str = "float32") -> dict[str, Array]:
    """All tensors of a graph, by name.

    Parameters
    ----------
    graph : any graph without barriers.
    inputs : an array per graph input.
    dtype : "float32" computes every tensor in its own type; "float64" computes floats in double.

    Raises
    ------
    NotEvaluated naming an operator that has no entry; GraphError for a missing input.
    """
    values: dict[str, Array] = {}
    for name in (*graph.inputs, *graph.constants):
        data = graph.constants.get(name, inputs.get(name))
        if data is None:
            raise GraphError(f"no value for input {name}")
        values[name] = np.asarray(data, dtype=_widened(graph.tensors[name].dtype, dtype))
    for op in graph.ops:
        values.update(zip(op.outputs, evaluate_op(op, graph.tensors, values, dtype)))
    return values


def evaluate_op(
    op: Op, tensors: Mapping[str, Tensor], values: Values, dtype: str = "float32"
) -> tuple[Array, ...]:
    """The results of one op. `values` holds its operands. Raises NotEvaluated."""
    from tvm_dnnfusion.ecg.evaluate_nn import NN_TABLE

    entry = TABLE.get(op.kind) or NN_TABLE.get(op.kind)
    if entry is None or op.barrier is not None:
        raise NotEvaluated(f"{op.name}: the interpreter has no entry for {op.kind}")
    run = Run(Call(op.kind, op.args, dict(op.attrs), tensors), values, dtype)
    with np.errstate(all="ignore"):
        found = entry(run)
    results = found if isinstance(found, tuple) else (found,)
    return tuple(
        np.asarray(r, dtype=_widened(tensors[t].dtype, dtype)) for r, t in zip(results, op.outputs)
    )


def _widened(dtype: str, floats: str) -> str:
    return floats if floats == "float64" and dtype.startswith(("float", "bfloat")) else dtype


def erf(x: Array) -> Array:
    """Error function, element by element (numpy has none)."""
    return np.vectorize(math.erf, otypes=["float64"])(x) if x.size else x


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), 1 - 1 / (1 + np.exp(-np.abs(x))))


def _selu(x: Array) -> Array:
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _softplus(r: Run) -> Array:
    beta, threshold = (float(str(r.call.attrs[k])) for k in ("beta", "threshold"))
    scaled = r.x() * beta
    return np.where(scaled > threshold, r.x(), np.log1p(np.exp(np.minimum(scaled, 80))) / beta)


def _prelu(r: Run) -> Array:
    x, axis = r.x(), r.call.axis(r.call.int("axis", 1), r.x().ndim)
    alpha = r.x(1).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return np.where(x > 0, x, x * alpha)


def _unary(f: Callable[[Array], Array]) -> Callable[[Run], Array]:
    return lambda r: f(r.x())


def _binary(f: Callable[[Array, Array], Array]) -> Callable[[Run], Array]:
    return lambda r: f(r.x(0), r.x(1))


def _divide(a: Array, b: Array) -> Array:
    if np.issubdtype(a.dtype, np.integer):
        # truncated, and exact beyond 2^53
        b = np.where(b == 0, np.ones_like(b), b)
        quotient = np.floor_divide(a, b)
        return quotient + ((quotient * b != a) & ((a < 0) != (b < 0))).astype(a.dtype)
    return a / b


def _reduce(f: Callable[..., Array]) -> Callable[[Run], Array]:
    def entry(r: Run) -> Array:
        x = r.x()
        options = {} if f in (np.max, np.min) else {"dtype": x.dtype}
        return f(x, axis=r.axes(), keepdims=r.flag("keepdims"), **options)

    return entry


def _argreduce(f: Callable[..., Array]) -> Callable[[Run], Array]:
    def entry(r: Run) -> Array:
        axis = r.call.attrs.get("axis")
        return f(r.x(), axis=axis, keepdims=r.flag("keepdims"))

    return entry


def _scan(f: Callable[..., Array], start: int) -> Callable[[Run], Array]:
    def entry(r: Run) -> Array:
        axis = r.call.attrs.get("axis")
        x = r.x().reshape(-1) if axis is None else r.x()
        axis = r.call.axis(0 if axis is None else int(axis), x.ndim)  # type: ignore[arg-type]
        dtype = r.dtype(str(r.call.attrs.get("dtype") or x.dtype))
        if r.flag("exclusive"):
            x = np.insert(np.delete(x, -1, axis), 0, start, axis)
        return f(x, axis=axis, dtype=dtype)

    return entry


def _softmax(r: Run) -> Array:
    x, axis = r.x(), r.call.int("axis", -1)
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def _log_softmax(r: Run) -> Array:
    x, axis = r.x(), r.call.int("axis", -1)
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _clip(r: Run) -> Array:
    return np.minimum(np.maximum(r.x(), r.call.scalar(1)), r.call.scalar(2)).astype(r.x().dtype)


def _split(r: Run) -> tuple[Array, ...]:
    x = r.x()
    axis = r.call.axis(r.call.int("axis"), x.ndim)
    points = split_points(x.shape[axis], r.call.attrs["indices_or_sections"])
    return tuple(x[(slice(None),) * axis + (slice(b, e),)] for b, e in points)


def _reshape(r: Run) -> Array:
    return r.x().reshape(r.call.numbers(1))


def _expand_dims(r: Run) -> Array:
    return np.expand_dims(r.x(), r.call.ints("axis") or ())


def _squeeze(r: Run) -> Array:
    return np.squeeze(r.x(), None if r.call.attrs.get("axis") is None else r.axes())


def _take(r: Run) -> Array:
    axis = r.call.axis(r.call.int("axis"), r.x().ndim)
    if not isinstance(r.call.args[1], Ref):
        return np.take(r.x(), int(r.call.scalar(1)), axis)
    return np.take(r.x(), r.x(1), axis, mode="wrap")  # negative indices count from the end


def _gather_elements(r: Run) -> Array:
    axis, at = r.axes()[0], r.x(1)
    # the indices may cover less of the other axes than the data
    part = tuple(slice(None if a == axis else n) for a, n in enumerate(at.shape))
    return np.take_along_axis(r.x()[part], at, axis)


def _gather_nd(r: Run) -> Array:
    x, index, skip = r.x(), r.x(1), r.call.int("batch_dims")
    lead = np.indices(index.shape[:skip])
    wide = [d.reshape(d.shape + (1,) * (index.ndim - 1 - skip)) for d in lead]
    return x[(*wide, *np.moveaxis(index, -1, 0))]


def _collapse(r: Run) -> Array:
    x = r.x()
    target = r.x(1).shape if r.call.kind.endswith("like") else r.call.numbers(1)
    x = x.sum(tuple(range(x.ndim - len(target))))
    axes = tuple(i for i, d in enumerate(target) if d == 1)
    return x.sum(axes, keepdims=True) if axes else x


def _filled(r: Run) -> Array:
    like = r.call.kind.endswith("_like")
    shape = r.x().shape if like else r.call.numbers(0)
    word = r.call.kind.split("_")[0]
    value = {"zeros": 0, "ones": 1}.get(word)
    dtype = str(r.call.attrs.get("dtype") or r.x().dtype)
    return np.full(shape, r.x(1) if value is None else value, r.dtype(dtype))


def _arange(r: Run) -> Array:
    return np.arange(*(r.call.scalar(i) for i in range(3)), dtype=str(r.call.attrs["dtype"]))


def _one_hot(r: Run) -> Array:
    index = np.expand_dims(r.x(), r.call.int("axis", -1))
    shape = [1] * index.ndim
    shape[r.call.int("axis", -1)] = r.call.int("depth")
    hit = index == np.arange(r.call.int("depth")).reshape(shape)
    return np.where(hit, r.call.scalar(1), r.call.scalar(2))


def _sorted(r: Run, index: bool) -> Array:
    x, axis = r.x(), r.call.int("axis", -1)
    order = np.argsort(-x if r.flag("descending") else x, axis, kind="stable")
    return order if index else np.take_along_axis(x, order, axis)


def _repeat(r: Run) -> Array:
    axis = r.call.attrs.get("axis")
    return np.repeat(r.x(), r.call.int("repeats", 1), axis)  # type: ignore[arg-type,return-value]


def _permute(r: Run) -> Array:
    return np.transpose(r.x(), r.call.attrs.get("axes"))  # type: ignore[arg-type]


def _pad(r: Run) -> Array:
    width: Sequence[int] = r.call.ints("pad_width") or ()
    pairs = [(width[i], width[i + 1]) for i in range(0, len(width), 2)]
    mode = {"circular": "wrap", "replicate": "edge"}.get(
        str(r.call.attrs["pad_mode"]), str(r.call.attrs["pad_mode"])
    )
    if any(a < 0 or b < 0 for a, b in pairs):
        raise NotEvaluated("nn.pad: negative widths")
    options = {"constant_values": r.call.attrs["pad_value"]} if mode == "constant" else {}
    return np.pad(r.x(), pairs, mode, **options)  # type: ignore[call-overload]


_NUMPY_UNARY = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "bitwise_not": np.invert,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "erf": erf,
    "exp": np.exp,
    "floor": np.floor,
    "isfinite": np.isfinite,
    "isinf": np.isinf,
    "isnan": np.isnan,
    "log": np.log,
    "logical_not": np.logical_not,
    "negative": np.negative,
    "round": np.round,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": sigmoid,
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
    "trunc": np.trunc,
    "nn.relu": lambda x: np.maximum(x, 0),
    "nn.selu": _selu,
    "nn.silu": lambda x: x * sigmoid(x),
    "nn.gelu_tanh": _gelu_tanh,
    "nn.gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
}
_NUMPY_BINARY = {
    "add": np.add,
    "atan2": np.arctan2,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "divide": _divide,
    "floor_divide": np.floor_divide,
    "floor_mod": np.mod,
    "left_shift": np.left_shift,
    "log_add_exp": np.logaddexp,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.fmod,
    "multiply": np.multiply,
    "power": np.power,
    "right_shift": np.right_shift,
    "subtract": np.subtract,
    "equal": np.equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "not_equal": np.not_equal,
}

TABLE: dict[str, Callable[[Run], Any]] = {
    **{kind: _unary(f) for kind, f in _NUMPY_UNARY.items()},
    **{kind: _binary(f) for kind, f in _NUMPY_BINARY.items()},
    "sum": _reduce(np.sum),
    "mean": _reduce(np.mean),
    "prod": _reduce(np.prod),
    "std": _reduce(np.std),
    "variance": _reduce(np.var),
    "max": _reduce(np.max),
    "min": _reduce(np.min),
    "argmax": _argreduce(np.argmax),
    "argmin": _argreduce(np.argmin),
    "cumsum": _scan(np.cumsum, 0),
    "cumprod": _scan(np.cumprod, 1),
    "where": lambda r: np.where(r.x(0), r.x(1), r.x(2)),
    "ewise_fma": lambda r: r.x(0) * r.x(1) + r.x(2),
    "clip": _clip,
    "astype": lambda r: r.x().astype(r.dtype(str(r.call.attrs["dtype"]))),
    "matmul": lambda r: np.matmul(r.x(0), r.x(1)),
    "outer": lambda r: np.outer(r.x(0), r.x(1)),
    "einsum": lambda r: np.einsum(str(r.call.attrs["subscripts"]), *r.many()),
    "nn.softmax": _softmax,
    "nn.log_softmax": _log_softmax,
    "nn.softplus": _softplus,
    "nn.leakyrelu": lambda r: np.where(r.x() > 0, r.x(), r.x() * r.call.attrs["alpha"]),
    "nn.prelu": _prelu,
    "nn.pad": _pad,
    "nn.dropout": lambda r: (r.x(), np.ones_like(r.x())),
    "reshape": _reshape,
    "flatten": lambda r: r.x().reshape(-1),
    "nn.batch_flatten": lambda r: r.x().reshape(r.x().shape[0], -1),
    "broadcast_to": lambda r: np.broadcast_to(r.x(), r.call.numbers(1)),
    "collapse_sum_to": _collapse,
    "collapse_sum_like": _collapse,
    "permute_dims": _permute,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "concat": lambda r: np.concatenate(r.many(), r.call.int("axis")),
    "stack": lambda r: np.stack(r.many(), r.call.int("axis")),
    "split": _split,
    "strided_slice": lambda r: r.x()[slices(r.call)],
    "take": _take,
    "gather_nd": _gather_nd,
    "gather_elements": _gather_elements,
    "tile": lambda r: np.tile(r.x(), r.call.ints("repeats") or ()),
    "repeat": _repeat,
    "flip": lambda r: np.flip(r.x(), r.call.int("axis")),
    "tril": lambda r: np.tril(r.x(), int(r.call.scalar(1))),
    "triu": lambda r: np.triu(r.x(), int(r.call.scalar(1))),
    **dict.fromkeys(("full", "zeros", "ones", "full_like", "zeros_like", "ones_like"), _filled),
    "arange": _arange,
    "one_hot": _one_hot,
    "sort": lambda r: _sorted(r, index=False),
    "argsort": lambda r: _sorted(r, index=True),
}
