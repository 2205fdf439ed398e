"""Finding a pattern in a graph, modulo commutativity and associativity.

Full associative-commutative matching is NP-complete (DNNFusion, section 4.2); here chains are
flattened through intermediate results with a single reader only, are cut at MAX_LEAVES operands,
and the search gives up after MAX_TRIES comparisons per root. Within these limits all matches are
enumerated, in an order that depends on the patterns and argument order alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Union

from tvm_dnnfusion.ecg.graph import Arg, Lit, Op, Ref
from tvm_dnnfusion.rewrite.pattern import (
    COMMUTATIVE,
    Hole,
    Node,
    Num,
    Pattern,
    Seq,
    Var,
    nodes,
)
from tvm_dnnfusion.rewrite.work import Work

MAX_LEAVES = 12
"""Operands of a chain that are looked at together; longer chains are matched piecewise."""

MAX_TRIES = 4000
"""Comparisons per rule and root; bounds the time on adversarial graphs."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Several operands of one associative kind, standing for their combination."""

    kind: str
    leaves: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """The operator that a class name stands for: everything but its tensor operands."""

    kind: str
    args: tuple[Arg, ...]
    attrs: tuple[tuple[str, object], ...]


Value = Union[str, Chain, Template, Lit, tuple[Any, ...], int, float, bool, None]


@dataclass(frozen=True, slots=True)
class Env:
    """What names stand for, the ops matched, and the operands of the root's chain left over."""

    values: dict[str, Value] = field(default_factory=dict)
    ops: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()

    def bind(self, name: str, value: Value) -> Env:
        """With one more name."""
        return replace(self, values={**self.values, name: value})

    def through(self, *names: str) -> Env:
        """With more matched ops."""
        return replace(self, ops=(*self.ops, *names))


class Matcher:
    """Enumerates the matches of one pattern at one op."""

    def __init__(self, work: Work, inside: frozenset[str] | None) -> None:
        self.work = work
        self.inside = inside  # kinds with mathematical properties: the match stays among them
        self.tries = 0
        self.reached = 0
        self.stop = ""

    def find(self, pattern: Pattern, root: Op) -> Iterator[Env]:
        """All matches with the pattern's root at an op."""
        if isinstance(pattern, Node) and len(root.outputs) == 1:
            if pattern.chains and self._inner(root):
                return
            yield from self._node(pattern, root, Env(), is_root=True)

    def _inner(self, op: Op) -> bool:
        """Whether the op is a link of a longer chain, at whose end it will be matched."""
        users = self.work.users.get(op.output, {})
        if not self.work.single(op.output):
            return False
        reader = self.work.ops[next(iter(users))]
        return reader.kind == op.kind and reader.inputs.count(op.output) == 1

    def _match(self, p: Pattern, arg: Arg, env: Env) -> Iterator[Env]:
        self.tries += 1
        if self.tries > MAX_TRIES:
            return
        if isinstance(p, Seq):
            yield from self._seq(p, arg, env)
        elif isinstance(p, Hole):
            yield from self._hole(p, arg, env)
        elif isinstance(arg, Ref):
            yield from self._tensor(p, arg.tensor, env)

    def _tensor(self, p: Pattern, tensor: str, env: Env) -> Iterator[Env]:
        if isinstance(p, Var):
            yield from self._var(p, tensor, env)
        elif isinstance(p, Num):
            found = self.work.splat(tensor)
            if found is not None and _equal(found, p.value):
                yield env
        elif isinstance(p, Node):
            op = self.work.producer.get(tensor)
            if op is not None and len(op.outputs) == 1:
                yield from self._node(p, op, env)
            else:
                self._missed(env, p, "an input or a constant")

    def _var(self, p: Var, tensor: str, env: Env) -> Iterator[Env]:
        if p.name in env.values:
            if self._same(env.values[p.name], tensor):
                yield env
        elif not p.constant or tensor in self.work.constants:
            yield env.bind(p.name, tensor)

    def _same(self, bound: Value, tensor: str) -> bool:
        if bound == tensor:
            return True
        a, b = self.work.constants.get(str(bound)), self.work.constants.get(tensor)
        return a is not None and b is not None and a.shape == b.shape and bool((a == b).all())

    def _hole(self, p: Hole, arg: Arg, env: Env) -> Iterator[Env]:
        if refs_in(arg):
            return
        if p.name not in env.values:
            yield env.bind(p.name, arg)  # type: ignore[arg-type]
        elif env.values[p.name] == arg:
            yield env

    def _seq(self, p: Seq, arg: Arg, env: Env) -> Iterator[Env]:
        if isinstance(arg, tuple) and len(arg) == len(p.items):
            yield from self._ordered(p.items, arg, env)

    def _ordered(self, ps: tuple[Pattern, ...], args: tuple[Arg, ...], env: Env) -> Iterator[Env]:
        if not ps:
            yield env
            return
        for found in self._match(ps[0], args[0], env):
            yield from self._ordered(ps[1:], args[1:], found)

    def _node(self, p: Node, op: Op, env: Env, is_root: bool = False) -> Iterator[Env]:
        if op.kind not in p.kinds or op.barrier is not None:
            self._missed(env, p, op.kind)
            return
        if self.inside is not None and op.kind not in self.inside:
            self._missed(env, p, f"{op.kind}, outside of the partition")
            return
        bound = self._attrs(p, op, env)
        if bound is None:
            return
        bound = bound.through(op.name)
        if p.chains:
            yield from self._chain(p, op, bound, is_root)
            return
        if p.label is not None:
            yield from self._of_class(p, op, bound)
            return
        if len(p.args) > len(op.args):
            return
        yield from self._ordered(p.args, op.args, bound)
        if p.kind in COMMUTATIVE and len(p.args) == 2:
            yield from self._ordered(p.args, op.args[::-1], bound)

    def _of_class(self, p: Node, op: Op, env: Env) -> Iterator[Env]:
        n = len(p.args)
        template = Template(op.kind, op.args[n:], op.attrs)
        label = str(p.label)
        if label in env.values and env.values[label] != template:
            return
        yield from self._ordered(p.args, op.args[:n], env.bind(label, template))

    def _attrs(self, p: Node, op: Op, env: Env) -> Env | None:
        if p.rest is not None:
            if p.rest in env.values and env.values[p.rest] != op.attrs:
                return None
            env = env.bind(p.rest, op.attrs)
        for key, wanted in p.fixed:
            value = op.attr(key)
            if not isinstance(wanted, Hole):
                if value != wanted:
                    return None
            elif wanted.name not in env.values:
                env = env.bind(wanted.name, value)
            elif env.values[wanted.name] != value:
                return None
        return env

    def _chain(self, p: Node, op: Op, env: Env, is_root: bool) -> Iterator[Env]:
        leaves, links = self.flatten(op)
        if len(leaves) < len(p.args):
            return
        order = sorted(p.args, key=_generality)
        yield from self._assign(tuple(order), leaves, env.through(*links), op.kind, is_root)

    def flatten(self, op: Op) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Operands of the chain that ends at an op, and the ops inside it."""
        leaves: list[str] = []
        links: list[str] = []
        pending = [(t, op) for t in op.inputs]
        dtype = self.work.tensors[op.output].dtype
        while pending:
            t, reader = pending.pop(0)
            inner = self.work.producer.get(t)
            room = len(leaves) + len(pending) + 2 <= MAX_LEAVES
            if (
                inner is not None
                and inner.kind == op.kind
                and room
                and inner.barrier is None
                and self.work.single(t)
                and reader.inputs.count(t) == 1
                and self.work.tensors[t].dtype == dtype
            ):
                links.append(inner.name)
                pending[:0] = [(x, inner) for x in inner.inputs]
            else:
                leaves.append(t)
        return tuple(leaves), tuple(links)

    def _assign(
        self, ps: tuple[Pattern, ...], leaves: tuple[str, ...], env: Env, kind: str, is_root: bool
    ) -> Iterator[Env]:
        if not ps:
            if is_root:
                yield replace(env, rest=leaves)
            elif not leaves:
                yield env
            return
        p, others = self._next(ps, env)
        free = isinstance(p, Var) and not p.constant and p.name not in env.values
        if isinstance(p, Var) and free and not others:
            if leaves:
                yield env.bind(p.name, leaves[0] if len(leaves) == 1 else Chain(kind, leaves))
            return
        bound = env.values.get(p.name) if isinstance(p, Var) else None
        if isinstance(bound, Chain):
            left = _without(leaves, bound.leaves) if bound.kind == kind else None
            if left is not None:
                yield from self._assign(others, left, env, kind, is_root)
            return
        for i, leaf in enumerate(leaves):
            if leaf in leaves[:i]:
                continue
            for found in self._match(p, Ref(leaf), env):
                yield from self._assign(others, leaves[:i] + leaves[i + 1 :], found, kind, is_root)

    def _next(self, ps: tuple[Pattern, ...], env: Env) -> tuple[Pattern, tuple[Pattern, ...]]:
        """The operand to place next: names that are bound already go before free ones."""
        if isinstance(ps[0], Var) and ps[0].name not in env.values:
            for i, p in enumerate(ps):
                if isinstance(p, Var) and p.name in env.values:
                    return p, ps[:i] + ps[i + 1 :]
        return ps[0], ps[1:]

    def _missed(self, env: Env, p: Node, found: str) -> None:
        if len(env.ops) > self.reached:
            self.reached = len(env.ops)
            wanted = p.label or p.kind
            self.stop = f"after {', '.join(env.ops)}: expected {wanted}, found {found}"


def _generality(p: Pattern) -> int:
    """Sort key: the most specific operand of a chain first."""
    if isinstance(p, Node):
        return -10 - sum(1 for _ in nodes(p))
    if isinstance(p, Num):
        return -5
    return -2 if isinstance(p, Var) and p.constant else 0


def _without(leaves: tuple[str, ...], taken: tuple[str, ...]) -> tuple[str, ...] | None:
    """Leaves less the taken ones; None when one is missing."""
    left = list(leaves)
    for t in taken:
        if t not in left:
            return None
        left.remove(t)
    return tuple(left)


def _equal(found: float, wanted: float) -> bool:
    """Whether a constant is the number, as float32 holds it."""
    return found == wanted or abs(found - wanted) <= 1e-6 * abs(wanted)


def refs_in(arg: Arg) -> bool:
    """Whether an argument holds a tensor."""
    return isinstance(arg, Ref) or (isinstance(arg, tuple) and any(map(refs_in, arg)))
