"""A rule at a place: matched, checked, drafted and priced, but not yet applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tvm_dnnfusion.ecg.graph import GraphError, Op
from tvm_dnnfusion.rewrite.draft import Draft
from tvm_dnnfusion.rewrite.match import Matcher
from tvm_dnnfusion.rewrite.pattern import ASSOCIATIVE
from tvm_dnnfusion.rewrite.rule import Family, Miss, Rule
from tvm_dnnfusion.rewrite.site import Site
from tvm_dnnfusion.rewrite.work import Work

MAX_MATCHES = 16
"""Matches of one rule at one root that are priced; the best of them counts."""

INTEGERS = "the rule holds for real numbers, and there are integers here"
"""Integers wrap and their division truncates: int8 max(x + 100) is not max(x) + 100."""


@dataclass(frozen=True)
class Candidate:
    """What would replace what. `gain` is (FLOPs, bytes read, ops) saved."""

    rule: Rule
    root: str
    draft: Draft
    replaced: Mapping[str, str]
    matched: tuple[str, ...]
    dead: tuple[Op, ...]
    gain: tuple[int, int, int]


@dataclass
class NearMisses:
    """The closest that each rule came: (ops matched, reason)."""

    best: dict[str, tuple[int, str]] = field(default_factory=dict)

    def note(self, rule: str, reached: int, reason: str) -> None:
        """Keep the reason if the match went further than any before."""
        if reason and reached > self.best.get(rule, (0, ""))[0]:
            self.best[rule] = (reached, reason)


class Finder:
    """Looks for candidates."""

    def __init__(self, work: Work, inside: frozenset[str]) -> None:
        self.work = work
        self.inside = inside
        self.misses = NearMisses()

    def read_kinds(self, root: Op) -> frozenset[str]:
        """Kinds of the ops whose results the root reads, through a chain of its own kind."""
        leaves = root.inputs
        if root.kind in ASSOCIATIVE and root.barrier is None:
            leaves = Matcher(self.work, None).flatten(root)[0]
        return frozenset(self.work.producer[t].kind for t in leaves if t in self.work.producer)

    def promising(self, rule: Rule, root: Op, read: frozenset[str]) -> bool:
        """Whether the ops right above the root are such that the rule may match."""
        for kinds in rule.needs:
            if not kinds & read:
                if rule.name not in self.misses.best:
                    wanted = " or ".join(sorted(kinds)[:3])
                    self.misses.note(rule.name, 1, f"at {root.name}: reads no result of {wanted}")
                return False
        return True

    def best(self, rule: Rule, root: Op) -> Candidate | None:
        """The candidate of a rule at an op with the largest gain, or None."""
        found = list(self._candidates(rule, root))
        if not found:
            return None
        return max(found, key=lambda c: c.gain)  # the first of equals

    def _candidates(self, rule: Rule, root: Op) -> Iterator[Candidate]:
        if rule.program is not None:
            site = Site(self.work, root, Draft(self.work, root.outputs[0]))
            made = self._price(rule, site, rule.program, (root.name,))
            if made is not None:
                yield made
            return
        matcher = Matcher(self.work, self.inside if rule.family.algebraic else None)
        assert rule.pattern is not None
        for i, env in enumerate(matcher.find(rule.pattern, root)):
            if i >= MAX_MATCHES:
                break
            site = Site(self.work, root, Draft(self.work, root.output), env)
            made = self._price(rule, site, lambda s: _substitute(rule, s), env.ops)
            if made is not None:
                yield made
        self.misses.note(rule.name, matcher.reached, matcher.stop)

    def _price(self, rule: Rule, site: Site, program, matched) -> Candidate | None:  # type: ignore
        reached = 100 + len(matched)  # a guard that fails is nearer than a pattern that does
        try:
            found = self._result(rule, site, program, matched)
        except GraphError as error:
            found = Miss(str(error))
        if found is None:
            return None
        if not isinstance(found, Miss):
            found = self._checked(site, found)
        if isinstance(found, Miss):
            self.misses.note(rule.name, reached, f"at {site.root.name}: {found.reason}")
            return None
        made = self._candidate(rule, site, found, tuple(dict.fromkeys(matched)))
        if not (rule.always or rule.late) and made.gain <= (0, 0, 0):
            self.misses.note(rule.name, reached, f"at {site.root.name}: nothing would be saved")
            return None
        return made

    def _result(self, rule: Rule, site: Site, program, matched):  # type: ignore
        """What the rule gives at a site, unless it is of real numbers and the site of integers."""
        barred = self._of_integers(rule, site.root, matched)
        if barred and rule.program is None:
            return Miss(INTEGERS)
        found = program(site)
        return Miss(INTEGERS) if barred and found is not None else found

    def _of_integers(self, rule: Rule, root: Op, matched: tuple[str, ...]) -> bool:
        if rule.integers or rule.family is Family.CLEANUP:
            return False
        names = [t for name in matched for t in self.work.ops[name].outputs]
        if rule.program is not None:  # looks further up than the root, which is all it matched
            names += root.inputs
        return any(is_integer(self.work.tensors[t].dtype) for t in names)

    def _checked(self, site: Site, found: Mapping[str, str]) -> Mapping[str, str] | Miss:
        for old, new in found.items():
            a, b = self.work.tensors[old], site.draft.tensors[new]
            if (a.shape, a.dtype) != (b.shape, b.dtype):
                return Miss(f"the result would be {b.dtype}{b.shape}, not {a.dtype}{a.shape}")
            if old == new:
                return Miss("already in this form")
        return found

    def _candidate(
        self, rule: Rule, site: Site, found: Mapping[str, str], matched: tuple[str, ...]
    ) -> Candidate:
        draft = pruned(site.draft, tuple(found.values()))
        kept = {t for op in draft.ops for t in op.inputs} | set(found.values())
        dead = self.work.dead_if(found, kept)
        cost = draft.cost()
        saved = [self.work.costs[op.name] for op in dead]
        gain = (
            sum(c.flops for c in saved) - cost.flops,
            sum(c.bytes_read for c in saved) - cost.bytes_read,
            len(dead) - len(draft.ops),
        )
        return Candidate(rule, site.root.name, draft, dict(found), matched, dead, gain)


def is_integer(dtype: str) -> bool:
    """Whether arithmetic of the type wraps."""
    return dtype.startswith(("int", "uint"))


def pruned(draft: Draft, results: tuple[str, ...]) -> Draft:
    """The draft without ops that its results do not need."""
    needed = set(results)
    kept: list[Op] = []
    for op in reversed(draft.ops):
        if any(t in needed for t in op.outputs):
            needed.update(op.inputs)
            kept.append(op)
    draft.ops = kept[::-1]
    return draft


def _substitute(rule: Rule, site: Site) -> Mapping[str, str] | Miss:
    """Guards, derivations and the right-hand side of a pattern rule."""
    for guard in rule.guards:
        if not guard.holds(site):
            return Miss(guard.reason)
    if rule.derive is not None:
        site.bind(rule.derive(site))
    assert rule.target is not None
    out = site.emit(rule.target)
    if site.env.rest:
        out = site.draft.chain(site.root.kind, (out, *site.env.rest))
    return {site.root.output: out}


def renamed(c: Candidate) -> Candidate:
    """With the draft's results named as the tensors that they replace, where they are new."""
    made = {t for op in c.draft.ops for t in op.outputs}
    free = {t for op in c.dead for t in op.outputs}
    names = {new: old for old, new in c.replaced.items() if new in made and old in free}
    if not names:
        return c
    ops = []
    for op in c.draft.ops:
        outputs = tuple(names.get(t, t) for t in op.outputs)
        ops.append(replace(op, name=outputs[0], outputs=outputs) if outputs != op.outputs else op)
    c.draft.ops = ops
    replaced = {old: (old if new in names else new) for old, new in c.replaced.items()}
    return replace(c, replaced=replaced)
