"""Patterns: what a rule looks for and what it puts in its place, as expressions in one line.

A pattern is written as Python arithmetic over tensors and parsed once, at import:

    "recip(A) * recip(A * B)"        ->  "square(recip(A)) * recip(B)"
    "sum(A * K, **r)"                ->  "sum(A, **r) * K"

Upper-case names are tensors; the same name twice is the same tensor. A name that starts with K
is a constant. Lower-case names as positional arguments are literals (a shape, a bound), `axis=a`
binds one attribute, `**r` all of them. Names of a class of operators (`unary`, `monotone`, `conv`)
match every kind of the class; before and after, one name stands for the same operator. Arguments
of a commutative operator match in any order, chains of an associative one in any grouping.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

from tvm_dnnfusion.ecg.signatures import SIGNATURES

COMMUTATIVE = frozenset(
    "add multiply maximum minimum logical_and logical_or logical_xor bitwise_and bitwise_or "
    "bitwise_xor equal not_equal log_add_exp".split()
)
"""Kinds whose two arguments may be exchanged."""

ASSOCIATIVE = frozenset(
    "add multiply maximum minimum logical_and logical_or logical_xor bitwise_and bitwise_or "
    "bitwise_xor".split()
)
"""Commutative kinds whose chains may be regrouped: matched as one flat operand list."""

_INFIX: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
    ast.MatMult: "matmul",
    ast.LShift: "left_shift",
    ast.RShift: "right_shift",
    ast.BitAnd: "bitwise_and",
    ast.BitOr: "bitwise_or",
    ast.BitXor: "bitwise_xor",
}
_PREFIX: dict[type[ast.unaryop], str] = {ast.USub: "negative", ast.Invert: "bitwise_not"}

_NON_DECREASING = (
    "nn.relu sigmoid tanh exp erf atan asinh sinh floor ceil round trunc sign nn.softplus"
).split()
_PLAIN_UNARY = (
    "abs acos acosh asin asinh atan atanh bitwise_not ceil cos cosh erf exp floor log logical_not "
    "negative round rsqrt sigmoid sign sin sinh sqrt square tan tanh trunc nn.gelu nn.gelu_tanh "
    "nn.relu nn.selu nn.silu nn.leakyrelu nn.softplus clip isnan isinf isfinite astype"
).split()
_CONVS = [f"nn.conv{n}d" for n in (1, 2, 3)]

CLASSES: dict[str, tuple[tuple[str, ...], int]] = {
    "unary": (tuple(_PLAIN_UNARY), 1),
    "monotone": (tuple(_NON_DECREASING), 1),
    "odd": (tuple("tanh sin sinh asin asinh atan atanh erf tan sign".split()), 1),
    "even": (tuple("abs cos cosh square".split()), 1),
    "keeps_zero": (
        tuple(
            "nn.relu abs square sqrt tanh sin erf nn.gelu nn.gelu_tanh nn.silu "
            "nn.leakyrelu sign floor ceil round trunc negative asinh atan sinh "
            "nn.selu".split()
        ),
        1,
    ),
    "idempotent": (tuple("nn.relu abs floor ceil round trunc sign".split()), 1),
    "binary": (tuple("add subtract multiply divide maximum minimum power".split()), 2),
    "conv": (tuple(_CONVS), 2),
    "conv_transpose": (tuple(k + "_transpose" for k in _CONVS), 2),
    "max_pool": (tuple(f"nn.max_pool{n}d" for n in (1, 2, 3)), 1),
    "avg_pool": (tuple(f"nn.{a}avg_pool{n}d" for n in (1, 2, 3) for a in ("", "adaptive_")), 1),
    "reduce": (tuple("sum mean max min prod".split()), 1),
    "average": (tuple("sum mean".split()), 1),
    "repeating": (tuple("broadcast_to tile repeat".split()), 1),
    "cutting": (("strided_slice",), 1),
    "gathering": (("take",), 1),
}
"""Class name -> (kinds, number of tensor operands). A trailing digit makes another name of it."""

_ALIASES = {
    name: f"nn.{name}"
    for name in (
        "relu gelu gelu_tanh silu selu softmax log_softmax leakyrelu softplus pad layer_norm "
        "rms_norm conv1d conv2d conv3d batch_norm"
    ).split()
} | {
    "neg": "negative",
    "transpose": "permute_dims",
    "slice": "strided_slice",
    "land": "logical_and",
    "lor": "logical_or",
    "lnot": "logical_not",
}


@dataclass(frozen=True, slots=True)
class Var:
    """Any tensor, or any constant where `constant`."""

    name: str
    constant: bool


@dataclass(frozen=True, slots=True)
class Num:
    """A constant tensor whose elements all equal the number."""

    value: float


@dataclass(frozen=True, slots=True)
class Hole:
    """A literal argument, bound by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Seq:
    """A tuple of tensors, as concat takes."""

    items: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """An operator. `label` names its class, `rest` binds all attributes, `fixed` some of them."""

    kinds: tuple[str, ...]
    args: tuple[Pattern, ...]
    label: str | None = None
    rest: str | None = None
    fixed: tuple[tuple[str, object], ...] = ()

    @property
    def kind(self) -> str:
        """The only kind. Not for a class."""
        return self.kinds[0]

    @property
    def chains(self) -> bool:
        """Whether the operands are matched as a flat chain."""
        return self.label is None and self.kind in ASSOCIATIVE


Pattern = Union[Var, Num, Hole, Seq, Node]


class PatternError(ValueError):
    """A rule's text does not parse; the message quotes it."""


def parse(text: str) -> Pattern:
    """The pattern of an expression. Raises PatternError."""
    try:
        return _convert(ast.parse(text, mode="eval").body)
    except (SyntaxError, KeyError, PatternError) as error:
        raise PatternError(f"pattern {text!r}: {error}") from error


def _convert(e: ast.expr) -> Pattern:
    if isinstance(e, ast.Name):
        return Var(e.id, e.id.startswith("K")) if e.id[0].isupper() else Hole(e.id)
    if isinstance(e, ast.Constant):
        return Num(e.value)  # type: ignore[arg-type]
    if isinstance(e, (ast.Tuple, ast.List)):
        return Seq(tuple(map(_convert, e.elts)))
    if isinstance(e, ast.UnaryOp):
        inner = _convert(e.operand)
        if isinstance(inner, Num):
            return Num(-inner.value)
        return Node((_PREFIX[type(e.op)],), (inner,))
    if isinstance(e, ast.BinOp):
        return _flat(_INFIX[type(e.op)], (_convert(e.left), _convert(e.right)))
    if isinstance(e, ast.Call):
        return _call(e)
    raise PatternError(f"{ast.dump(e)} has no meaning here")


def _call(e: ast.Call) -> Pattern:
    name = ast.unparse(e.func)
    args = tuple(map(_convert, e.args))
    if name == "recip":
        return Node(("divide",), (Num(1.0), *args))
    rest = next((ast.unparse(k.value) for k in e.keywords if k.arg is None), None)
    fixed = tuple((k.arg, _attr(k.value)) for k in e.keywords if k.arg is not None)
    if name.rstrip("0123456789") in CLASSES:
        return Node(CLASSES[name.rstrip("0123456789")][0], args, label=name)
    kind = _ALIASES.get(name, name)
    if kind not in SIGNATURES and kind != "fill":
        raise PatternError(f"no operator is named {name}")
    if kind in ASSOCIATIVE:
        return _flat(kind, args)
    return Node((kind,), args, rest=rest, fixed=fixed)


def _attr(e: ast.expr) -> object:
    """A literal value, or the Hole of a lower-case name."""
    return Hole(e.id) if isinstance(e, ast.Name) else ast.literal_eval(e)


def _flat(kind: str, args: tuple[Pattern, ...]) -> Pattern:
    if kind not in ASSOCIATIVE:
        return Node((kind,), args)
    parts: list[Pattern] = []
    for a in args:
        same = isinstance(a, Node) and a.kinds == (kind,)
        parts.extend(a.args if isinstance(a, Node) and same else (a,))
    return Node((kind,), tuple(parts))


def nodes(p: Pattern) -> Iterator[Node]:
    """Every operator of a pattern, root first."""
    if isinstance(p, Node):
        yield p
        for a in p.args:
            yield from nodes(a)
    elif isinstance(p, Seq):
        for a in p.items:
            yield from nodes(a)


def depth(p: Pattern) -> int:
    """Operators on the longest path from the root."""
    if isinstance(p, Node):
        return 1 + max(map(depth, p.args), default=0)
    return max(map(depth, p.items), default=0) if isinstance(p, Seq) else 0


def variables(p: Pattern) -> tuple[Var, ...]:
    """The tensors that a pattern names, in order, each once."""
    if isinstance(p, Var):
        return (p,)
    parts = p.args if isinstance(p, Node) else p.items if isinstance(p, Seq) else ()
    return tuple(dict.fromkeys(v for a in parts for v in variables(a)))
