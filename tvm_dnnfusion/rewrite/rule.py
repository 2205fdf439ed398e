"""What a rewriting rule is, and the register of them (DNNFusion, PLDI'21, section 4.2).

A rule is data: two patterns, guards with reasons, the family of the property it uses. Built-in
rules come from the tables in `rules/`; a user's rule is registered in the same way:

    register_rule(Rule("double-not", Family.CLEANUP, "lnot(lnot(A))", "A"))
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tvm_dnnfusion.rewrite.pattern import Node, Pattern, Seq, depth, parse

if TYPE_CHECKING:
    from tvm_dnnfusion.rewrite.site import Site


class Family(enum.Enum):
    """What justifies a rule. The first three are the paper's and stay within a partition."""

    ASSOCIATIVE = "associative"
    DISTRIBUTIVE = "distributive"
    COMMUTATIVE = "commutative"
    FOLD = "constant folding"
    CLEANUP = "clean-up"
    EXPORTER = "exporter pattern"

    @property
    def algebraic(self) -> bool:
        """One of the paper's three families."""
        return self in (Family.ASSOCIATIVE, Family.DISTRIBUTIVE, Family.COMMUTATIVE)


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition beyond the pattern. `reason` says what is needed: "B must not be negative"."""

    reason: str
    holds: Callable[[Site], bool]


@dataclass(frozen=True, slots=True)
class Miss:
    """Why a rule that met its pattern did not apply."""

    reason: str


@dataclass(frozen=True, slots=True)
class Spec:
    """A tensor of an example: shape, type, and range of its random values."""

    shape: tuple[int, ...] = (6, 8)
    dtype: str = "float32"
    low: float = -1.0
    high: float = 1.0


Program = Callable[["Site"], "Mapping[str, str] | Miss | None"]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Parameters
    ----------
    name : unique, kebab-case; kept on the ops that the rule makes.
    family : the property that it uses.
    before, after : patterns, see `pattern.py`. For a rule with a program they are its description.
    guards : what must hold beyond the pattern; each with its reason.
    derive : values for names of `after` that `before` does not bind (arrays become constants).
    reassociates : changes rounding; switched off by RewriteOptions(reassociate=False).
    always : applied wherever it matches, before any rule that is ranked by FLOPs. Such a rule must
        not be undone by another.
    late : applied wherever it matches, once no other rule applies; nor may another undo it.
    enabler : part of matching (commutation), never applied on its own.
    program : in place of patterns: (site) -> {old tensor: new tensor}, a Miss, or None. `kinds` are
        the kinds of op it wants to see.
    example, near_miss : tensors and literals by name for the graph of `before`, on which the rule
        applies, and on which the first guard stops it.
    printed : number of its row in table 4 of the paper.
    integers : sound in wrapping integer arithmetic with truncated division. A rule of any family
        but CLEANUP without it applies to no integers. Clean-up is exact on every type.
    range_risk : may overflow or underflow where the original does not: it takes a product or a
        quotient under a root, a logarithm or a reciprocal, or squares what was not squared. Left
        out unless RewriteOptions(range_risk=True).
    """

    name: str
    family: Family
    before: str
    after: str
    guards: tuple[Guard, ...] = ()
    derive: Callable[[Site], Mapping[str, Any]] | None = None
    reassociates: bool = True
    always: bool = False
    late: bool = False
    enabler: bool = False
    program: Program | None = None
    kinds: tuple[str, ...] = ()
    example: Mapping[str, Any] = field(default_factory=dict)
    near_miss: Mapping[str, Any] | None = None
    printed: int | None = None
    note: str = ""
    integers: bool = False
    range_risk: bool = False

    @cached_property
    def pattern(self) -> Pattern | None:
        """`before`, parsed; None for a rule with a program."""
        return parse(self.before) if self.program is None else None

    @cached_property
    def target(self) -> Pattern | None:
        """`after`, parsed; None for a rule with a program."""
        return parse(self.after) if self.program is None else None

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """Kinds of op at which to look; ("*",) for all."""
        if self.program is not None:
            return self.kinds
        return self.pattern.kinds if isinstance(self.pattern, Node) else ()

    @cached_property
    def reach(self) -> int:
        """How many ops above the root it looks at."""
        return depth(self.pattern) if self.pattern is not None else 3

    @cached_property
    def needs(self) -> tuple[frozenset[str], ...]:
        """Kinds of which the root must read one result each: a cheap test before matching."""
        if not isinstance(self.pattern, Node):
            return ()
        parts = [x for a in self.pattern.args for x in (a.items if isinstance(a, Seq) else (a,))]
        return tuple(frozenset(a.kinds) for a in parts if isinstance(a, Node))


_RULES: dict[str, Rule] = {}
_CHANGES: list[str] = []


def register_rule(rule: Rule) -> Rule:
    """Add a rule; the order of registration breaks ties. Raises ValueError for a taken name."""
    if rule.name in _RULES:
        raise ValueError(f"a rule named {rule.name!r} is registered already")
    if rule.program is None:
        assert rule.pattern is not None and rule.target is not None  # parses both, or raises
    _RULES[rule.name] = rule
    _CHANGES.append(rule.name)
    return rule


def unregister_rule(name: str) -> None:
    """Remove a rule. Raises KeyError for an unknown name."""
    del _RULES[name]
    _CHANGES.append(name)


def all_rules() -> tuple[Rule, ...]:
    """Every registered rule, in order of registration."""
    import_module("tvm_dnnfusion.rewrite.rules")  # registers the built-in tables
    return tuple(_RULES.values())


def registry_version() -> int:
    """A number that changes with every registration: a key for what is derived from the rules."""
    all_rules()
    return len(_CHANGES)


def rule_named(name: str) -> Rule:
    """The rule of that name. Raises KeyError."""
    all_rules()
    return _RULES[name]
