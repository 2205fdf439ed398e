"""BatchNorm, scales and shifts into the weights of convolutions and matmuls.

    batch_norm(A)            ->  A * S + T                  S = g / sqrt(v + e), T = b - m S
    conv(A, W) * S           ->  conv(A, W S)               S one value per output channel
    (conv(A, W) + T) * S     ->  conv(A, W S) + T S
    conv(A * S, W)           ->  conv(A, S W)               S one value per input channel
    conv(A + T, W)           ->  conv(A, W) + conv(T, W)    only where no padding is added

Beyond the paper: constants only, so the products cost nothing at run time. Weights in any layout;
an addition stays an addition, since it is fused into the convolution's kernel anyway.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.rewrite.rule import Family, Miss, Rule
from tvm_dnnfusion.rewrite.site import Site

CONVS = tuple(f"nn.conv{n}d{t}" for n in (1, 2, 3) for t in ("", "_transpose"))


def _batch_norm(s: Site) -> Mapping[str, str] | Miss | None:
    op, work = s.root, s.work
    if op.attr("training"):
        return Miss("in training mode the statistics come from the batch")
    data = [work.constants.get(t) for t in op.inputs[1:5]]
    if any(d is None for d in data):
        return Miss("its statistics must be constants")
    if any(work.used(t) for t in op.outputs[1:]):
        return Miss("its running statistics are read")
    gamma, beta, mean, var = (np.asarray(d, "float64") for d in data)
    gamma = gamma if op.attr("scale") else np.ones_like(gamma)
    beta = beta if op.attr("center") else np.zeros_like(beta)
    scale = gamma / np.sqrt(var + float(op.attr("epsilon")))  # type: ignore[arg-type]
    shift = beta - mean * scale
    dtype = work.constants[op.inputs[1]].dtype
    rank = len(work.tensors[op.inputs[0]].dims)
    axis = int(op.attr("axis", 1)) % rank  # type: ignore[arg-type]
    shape = (-1,) + (1,) * (rank - axis - 1)
    out = s.draft.op(
        "multiply",
        op.inputs[0],
        s.draft.constant("scale", scale.reshape(shape).astype(dtype)),
    )
    shifted = s.draft.constant("shift", shift.reshape(shape).astype(dtype))
    return {op.outputs[0]: s.draft.op("add", out, shifted)}


def _operands(s: Site, op: Op) -> tuple[str, str] | None:
    """(variable, constant) operands of a commutative op."""
    a, b = op.inputs[:2]
    if (a in s.work.constants) == (b in s.work.constants):
        return None
    return (b, a) if a in s.work.constants else (a, b)


def per_channel(data: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray | None:
    """A constant that is broadcast to `shape`, as one value per channel (or one), or None."""
    if data.ndim > len(shape):
        return None
    full = data.reshape((1,) * (len(shape) - data.ndim) + data.shape)
    if any(d != 1 for i, d in enumerate(full.shape) if i != axis):
        return None
    return full.reshape(-1)


def channel_axis(op: Op, rank: int) -> int:
    """The axis of the results that counts output channels."""
    if op.kind == "matmul":
        return rank - 1
    return str(op.attr("out_layout") or op.attr("data_layout")).index("C")


def scaled_weight(s: Site, op: Op, scale: np.ndarray) -> str | None:
    """The weight of a convolution or matmul times one value per output channel."""
    weight = s.work.constants.get(op.inputs[1])
    if weight is None:
        return None
    w = weight.astype("float64")
    k = scale.astype("float64")
    if op.kind == "matmul":
        out = w * k
    else:
        layout = str(op.attr("kernel_layout"))
        groups = int(op.attr("groups") or 1)  # type: ignore[arg-type]
        o, i = layout.index("O"), layout.index("I")
        if op.kind.endswith("_transpose") and groups > 1 and k.size > 1:
            # channel g * (O / groups) + o of the result comes from inputs of group g
            parts = zip(np.split(w, groups, i), np.split(k, groups))
            out = np.concatenate([p * _spread(v, o, w.ndim) for p, v in parts], i)
        else:
            out = w * _spread(k, o, w.ndim)
    return s.draft.constant("weight", out.astype(weight.dtype))


def _spread(v: np.ndarray, axis: int, rank: int) -> np.ndarray:
    return v.reshape([-1 if a == axis else 1 for a in range(rank)])


def _linear(s: Site, tensor: str) -> Op | Miss | None:
    """The convolution or matmul that makes a tensor, if nothing else reads it."""
    op = s.work.producer.get(tensor)
    if op is None or op.kind not in (*CONVS, "matmul") or op.barrier is not None:
        return None
    if op.inputs[1] not in s.work.constants:
        return Miss("the weight must be a constant")
    if len(s.work.tensors[op.inputs[1]].dims) < 2:
        return Miss("the weight must have two dimensions at least")
    if not s.work.single(tensor):
        return Miss("another op reads the unscaled result")
    return op


def _scale(s: Site) -> Mapping[str, str] | Miss | None:
    pair = _operands(s, s.root)
    op = _linear(s, pair[0]) if pair else None
    if pair is None or op is None or isinstance(op, Miss):
        return op if isinstance(op, Miss) else None
    shape = s.work.tensors[pair[0]].dims
    scale = per_channel(s.work.constants[pair[1]], shape, channel_axis(op, len(shape)))
    if scale is None:
        return Miss("the factor must be one number per output channel")
    weight = scaled_weight(s, op, scale)
    return None if weight is None else {s.root.output: s.draft.put(op, op.inputs[0], weight)}


def _scale_past_bias(s: Site) -> Mapping[str, str] | Miss | None:
    pair = _operands(s, s.root)
    add = s.work.producer.get(pair[0]) if pair else None
    if pair is None or add is None or add.kind != "add" or not s.work.single(pair[0]):
        return None
    inner = _operands(s, add)
    op = _linear(s, inner[0]) if inner else None
    if inner is None or op is None or isinstance(op, Miss):
        return op if isinstance(op, Miss) else None
    if s.work.tensors[inner[0]].dims != s.work.tensors[pair[0]].dims:
        return Miss("the addition broadcasts the result")
    shape = s.work.tensors[pair[0]].dims
    scale = per_channel(s.work.constants[pair[1]], shape, channel_axis(op, len(shape)))
    if scale is None:
        return Miss("the factor must be one number per output channel")
    weight = scaled_weight(s, op, scale)
    if weight is None:
        return None
    bias = s.draft.op("multiply", inner[1], pair[1])
    return {s.root.output: s.draft.op("add", s.draft.put(op, op.inputs[0], weight), bias)}


_MOVES = ("reshape", "permute_dims", "expand_dims", "squeeze", "flatten")


def _scale_past_movement(s: Site) -> Mapping[str, str] | Miss | None:
    """move(linear(A, K) + T) * s: attention scales its queries after they were laid out."""
    pair = _operands(s, s.root)
    if pair is None or s.work.constants[pair[1]].size != 1:
        return None
    moves: list[Op] = []
    tensor = pair[0]
    while True:
        op = s.work.producer.get(tensor)
        if op is None or op.kind not in _MOVES or op.barrier or not s.work.single(tensor):
            break
        moves.append(op)
        tensor = op.inputs[0]
    add = s.work.producer.get(tensor)
    inner = _operands(s, add) if add is not None and add.kind == "add" else None
    if not moves or not s.work.single(tensor):
        return None
    op = _linear(s, inner[0] if inner else tensor)
    if op is None or isinstance(op, Miss):
        return op
    weight = scaled_weight(s, op, s.work.constants[pair[1]].reshape(-1))
    if weight is None:
        return None
    out = s.draft.put(op, op.inputs[0], weight)
    if inner:
        out = s.draft.op("add", out, s.draft.op("multiply", inner[1], pair[1]))
    for move in reversed(moves):
        out = s.draft.put(move, out)
    return {s.root.output: out}


def _scale_before(s: Site) -> Mapping[str, str] | Miss | None:
    """conv(A * S, W) or (A * S) @ W."""
    mul = s.work.producer.get(s.root.inputs[0])
    if mul is None or mul.kind != "multiply" or s.root.inputs[1] not in s.work.constants:
        return None
    pair = _operands(s, mul)
    if pair is None:
        return None
    if not s.work.single(mul.output):
        return Miss("another op reads the scaled operand")
    if s.work.tensors[pair[0]].dims != s.work.tensors[mul.output].dims:
        return Miss("the factor broadcasts the operand")
    weight = _weight_by_input(s, s.root, s.work.constants[pair[1]])
    if weight is None:
        return Miss("the factor must be one number per input channel")
    return {s.root.output: s.draft.put(s.root, pair[0], weight)}


def _weight_by_input(s: Site, op: Op, factor: np.ndarray) -> str | None:
    shape = s.work.tensors[op.inputs[0]].dims
    weight = s.work.constants[op.inputs[1]]
    w = weight.astype("float64")
    if op.kind == "matmul":
        k = per_channel(factor, shape, len(shape) - 1)
        out = None if k is None else w * (k[:, None] if w.ndim > 1 else k)
    else:
        layout, groups = str(op.attr("kernel_layout")), int(op.attr("groups") or 1)  # type: ignore
        k = per_channel(factor, shape, str(op.attr("data_layout")).index("C"))
        if k is None:
            return None
        i, o = layout.index("I"), layout.index("O")
        if groups > 1 and k.size > 1 and not op.kind.endswith("_transpose"):
            # group g of the outputs reads group g of the inputs
            parts = zip(np.split(w, groups, o), np.split(k, groups))
            out = np.concatenate([p * _spread(v, i, w.ndim) for p, v in parts], o)
        else:
            out = w * _spread(k, i, w.ndim)
    return None if out is None else s.draft.constant("weight", out.astype(weight.dtype))


def _shift_before(s: Site) -> Mapping[str, str] | Miss | None:
    """conv(A + T, W) without padding: every output sees the whole of T."""
    add = s.work.producer.get(s.root.inputs[0])
    if add is None or add.kind != "add" or s.root.inputs[1] not in s.work.constants:
        return None
    pair = _operands(s, add)
    if pair is None:
        return None
    if any(s.root.ints("padding")):
        return Miss("the border of a padded input is not shifted")
    if not s.work.single(add.output) or not _has_bias(s):
        return Miss("it would not save an addition")
    if s.work.tensors[pair[0]].dims != s.work.tensors[add.output].dims:
        return Miss("the shift broadcasts the operand")
    bias = _bias_of_shift(s, s.work.constants[pair[1]])
    if bias is None:
        return Miss("the shift must be one number per input channel")
    return {s.root.output: s.draft.op("add", s.draft.put(s.root, pair[0]), bias)}


def _has_bias(s: Site) -> bool:
    """Whether the only reader adds a constant: the new one then folds into it."""
    users = s.work.users.get(s.root.output, {})
    reader = s.work.ops[next(iter(users))] if s.work.single(s.root.output) else None
    return reader is not None and reader.kind == "add" and _operands(s, reader) is not None


def _bias_of_shift(s: Site, shift: np.ndarray) -> str | None:
    op = s.root
    shape = s.work.tensors[op.inputs[0]].dims
    weight = s.work.constants[op.inputs[1]]
    w = weight.astype("float64")
    if op.kind == "matmul":
        k = per_channel(shift, shape, len(shape) - 1)
        if k is None or w.ndim < 2:
            return None
        full = np.broadcast_to(k, (w.shape[-2],)).astype("float64")
        return s.draft.constant(
            "bias",
            (full @ w)[..., None, :].astype(weight.dtype)
            if w.ndim > 2
            else (full @ w).astype(weight.dtype),
        )
    layout = str(op.attr("kernel_layout"))
    k = per_channel(shift, shape, str(op.attr("data_layout")).index("C"))
    if k is None or int(op.attr("groups") or 1) > 1:  # type: ignore[arg-type]
        return None
    total = (w * _spread(k.astype("float64"), layout.index("I"), w.ndim)).sum(
        tuple(a for a in range(w.ndim) if a != layout.index("O"))
    )
    rank = len(s.work.tensors[op.output].dims)
    axis = channel_axis(op, rank)
    return s.draft.constant(
        "bias", total.reshape((-1,) + (1,) * (rank - axis - 1)).astype(weight.dtype)
    )


RULES = (
    Rule(
        "batch-norm-to-affine",
        Family.FOLD,
        "batch_norm(A, g, b, m, v)",
        "A * S + T",
        program=_batch_norm,
        kinds=("nn.batch_norm",),
        always=True,
        note="S = g / sqrt(v + e), T = b - m S; constant statistics, inference mode.",
    ),
    Rule(
        "scale-into-weight",
        Family.FOLD,
        "linear(A, K) * S",
        "linear(A, K * S)",
        program=_scale,
        kinds=("multiply",),
        always=True,
        note="linear: convolution, transposed convolution, matmul. S per output channel.",
    ),
    Rule(
        "scale-past-bias",
        Family.FOLD,
        "(linear(A, K) + T) * S",
        "linear(A, K * S) + T * S",
        program=_scale_past_bias,
        kinds=("multiply",),
        always=True,
    ),
    Rule(
        "scale-past-movement",
        Family.FOLD,
        "move(linear(A, K) + T) * s",
        "move(linear(A, K * s) + T * s)",
        program=_scale_past_movement,
        kinds=("multiply",),
        always=True,
        note="move: reshapes and transposes in any number; s is one number.",
    ),
    Rule(
        "scale-before-linear",
        Family.FOLD,
        "linear(A * S, K)",
        "linear(A, S * K)",
        program=_scale_before,
        kinds=(*CONVS, "matmul"),
        always=True,
        note="S per input channel; exact with zero padding as well.",
    ),
    Rule(
        "shift-before-linear",
        Family.FOLD,
        "linear(A + T, K) + B",
        "linear(A, K) + (T K + B)",
        program=_shift_before,
        kinds=(*CONVS[::2], "matmul"),
        always=True,
        note="Only without padding, and only where an addition follows already.",
    ),
)
