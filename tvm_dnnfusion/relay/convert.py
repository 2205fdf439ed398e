"""Relay expressions to Relax bindings.

Second step of the import. Each expression of a scope is visited once; visits run on a stack of
generators, so that depth costs memory and no recursion. Functions are inlined where they are called
(whatever their Primitive, Composite or Compiler attributes say), `let` binds a name, both branches
of an `If` get scopes of their own. What has no Relax form is noted with its place and replaced by a
variable of the type that the file gives, so that one run finds all of it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from tvm import relax

from tvm_dnnfusion.frontend.origins import Origins
from tvm_dnnfusion.relay.emit import Emitter
from tvm_dnnfusion.relay.entry import Call, Unsupported, constant
from tvm_dnnfusion.relay.errors import (
    SAVE_AGAIN,
    CyclicRelayError,
    OversizedRelayError,
    RelayUnsupportedError,
)
from tvm_dnnfusion.relay.reader import Document
from tvm_dnnfusion.relay.scope import (
    MISSING,
    Closure,
    Frame,
    first_line,
    has_closure,
    has_missing,
    said_text,
    stand_in,
    type_text,
    variable_name,
)
from tvm_dnnfusion.relay.table import TABLE
from tvm_dnnfusion.relay.values import attributes, span_names, string_at, type_of

MAX_UNFOLDING = 20
"""Visits per node of the file. A call takes about 20 nodes, so that this allows each function to be
inlined some 400 times; a file that unfolds into more was made to."""

MAX_NESTING = 64
"""Branches inside branches, and functions inside functions. TVM's own passes recurse over these."""


Visit = Generator[tuple[int, Frame], Any, Any]


class Converter:
    """Converts the functions of one document; `visits` counts the expressions."""

    def __init__(self, doc: Document, functions: dict[int, int], emitter: Emitter) -> None:
        self.doc = doc
        self.functions = functions  # GlobalVar -> function, both as node indices
        self.emitter = emitter
        self.visits = 0
        self._calls = 0
        self._problems: dict[str, list[tuple[str, str]]] = {}
        self._let_names: dict[int, str] = {}
        self._constants: dict[int, relax.Expr] = {}
        self._inlining: list[int] = []
        self._branching = 0
        self._limit = MAX_UNFOLDING * len(doc.nodes) + 1000
        self._kinds = {
            "relay.Call": self._call,
            "relay.Let": self._let,
            "relay.If": self._if,
            "relay.Tuple": self._tuple,
            "relay.TupleGetItem": self._item,
        }

    def convert(self, index: int, frame: Frame) -> Any:
        """The value of an expression. Raises RelayUnsupportedError with all that it found."""
        value = self._run(index, frame)
        if isinstance(value, Closure):
            self._note("Function", frame, index, "the result is a function")
        if self._problems:
            found = {name: tuple(calls) for name, calls in self._problems.items()}
            raise RelayUnsupportedError(self.doc.source, found)
        return value

    def _run(self, index: int, frame: Frame) -> Any:
        """Drive the visits: a stack of (node, scope, generator)."""
        value, stack, active = self._start(index, frame)
        running: list[tuple[tuple[int, int], Frame, Visit]] = []
        path: set[tuple[int, int]] = set()
        while True:
            if stack is not None:
                if active in path:
                    raise self._cycle(index)
                path.add(active)
                running.append((active, frame, stack))
                value = None
            if not running:
                return value
            key, here, visit = running[-1]
            try:
                index, frame = visit.send(value)
            except StopIteration as done:
                running.pop()
                path.discard(key)
                value, stack = done.value, None
                here.known[key[0]] = value
                continue
            value, stack, active = self._start(index, frame)

    def _start(self, index: int, frame: Frame) -> tuple[Any, Visit | None, tuple[int, int]]:
        """(value, None) of what needs no visit, (None, visit) else."""
        key = (index, id(frame))
        found = frame.find(index)
        if found is not None:
            return found, None, key
        self.visits += 1
        if self.visits > self._limit:
            reason = f"its functions and branches unfold into more than {self._limit} expressions"
            raise OversizedRelayError(self.doc.source, reason, "Inline less before saving")
        node = self.doc.node(index)
        make = self._kinds.get(node.kind)
        if make is not None:
            return None, make(index, frame), key
        value = self._leaf(index, node.kind, frame)
        frame.known[index] = value
        return value, None, key

    def _leaf(self, index: int, kind: str, frame: Frame) -> Any:
        """Constants, functions, variables; anything else is no expression of Relay's core."""
        if kind == "relay.Constant":
            return self._constant(index)
        if kind in ("GlobalVar", "relay.GlobalVar"):
            if index not in self.functions:
                raise self.doc.damaged(f"the global variable of node {index} has no function")
            return Closure(self.functions[index], None, string_at(self.doc, index, "name_hint"))
        if kind == "relay.Function":
            return Closure(index, frame, "fn")
        if kind == "relay.Var":
            name = variable_name(self.doc, index)
            raise self.doc.damaged(f"the variable {name} (node {index}) is not bound in its scope")
        if kind == "":
            raise self.doc.damaged("an expression is missing (node 0 stands for it)")
        if not kind.startswith("relay.") and kind != "Op":
            raise self.doc.damaged(f"node {index}, a {kind:.60}, stands where an expression should")
        return self._note(kind.removeprefix("relay."), frame, index, "not an operator's call")

    def _constant(self, index: int) -> relax.Expr:
        if index not in self._constants:
            at = self.doc.node(index).attrs.get("data", "")
            if not str(at).isdecimal():
                raise self.doc.damaged(f"the constant of node {index} has no data")
            self._constants[index] = constant(self.doc.array(int(at)))
        return self._constants[index]

    def _tuple(self, index: int, frame: Frame) -> Visit:
        fields = []
        for item in self.doc.items(index, "fields"):
            fields.append((yield item, frame))
        return tuple(fields)

    def _item(self, index: int, frame: Frame) -> Visit:
        owner = yield self.doc.index(index, "tuple_value"), frame
        at = str(self.doc.node(index).attrs.get("index", ""))
        if owner is MISSING:
            return self._placeholder(index)
        if not isinstance(owner, tuple) or not at.isdecimal() or int(at) >= len(owner):
            raise self.doc.damaged(f"node {index} takes field {at!r:.20} of what has no such field")
        return owner[int(at)]

    def _let(self, index: int, frame: Frame) -> Visit:
        """A chain of lets in one visit: let a = ..; let b = ..; body."""
        seen: set[int] = set()
        while self.doc.node(index).kind == "relay.Let":
            if index in seen:
                raise self._cycle(index)
            seen.add(index)
            var, value = self.doc.index(index, "var"), self.doc.index(index, "value")
            self._let_names.setdefault(value, variable_name(self.doc, var))
            frame.known[var] = yield value, frame
            index = self.doc.index(index, "body")
        return (yield index, frame)

    def _if(self, index: int, frame: Frame) -> Visit:
        cond = yield self.doc.index(index, "cond"), frame
        if self._branching == MAX_NESTING:
            reason = f"more than {MAX_NESTING} branches lie inside each other"
            raise OversizedRelayError(self.doc.source, reason, SAVE_AGAIN)
        self._branching += 1
        scopes = []
        for name in ("true_branch", "false_branch"):
            self.emitter.open()
            value = yield self.doc.index(index, name), Frame(frame, frame.where)
            failed = has_missing(value) or has_closure(value)
            scopes.append((self.emitter.close(() if failed else value), value, failed))
        self._branching -= 1
        (yes, shown, bad), (no, _, worse) = scopes
        if bad or worse or has_missing(cond):
            if has_closure(tuple(v for _, v, _ in scopes)):
                self._note("If", frame, index, "a branch gives a function")
            return self._placeholder(index)
        try:
            made = self.emitter.branch(cond, yes, no)
        except Exception as error:
            return self._note("If", frame, index, first_line(error))
        return self._fields(made, shown)

    def _fields(self, made: relax.Expr, like: Any) -> Any:
        """The result of a branch in the form of its value: tuples as tuples."""
        if not isinstance(like, tuple):
            return made
        items = [self.emitter.emit(relax.TupleGetItem(made, i)) for i in range(len(like))]
        return tuple(self._fields(item, part) for item, part in zip(items, like, strict=True))

    def _call(self, index: int, frame: Frame) -> Visit:
        op = self.doc.index(index, "op")
        kind = self.doc.node(op).kind
        args = []
        for item in self.doc.items(index, "args"):
            args.append((yield item, frame))
        if kind == "Op":
            return self._operator(index, self.doc.node(op).text, tuple(args), frame)
        callee = yield op, frame
        if isinstance(callee, Closure):
            return (yield from self._inline(index, callee, args))
        if callee is MISSING:
            return self._placeholder(index)
        name = kind.removeprefix("relay.")
        return self._note(name, frame, index, "the call of something that is no function")

    def _inline(self, index: int, callee: Closure, args: list[Any]) -> Visit:
        if callee.index in self._inlining:
            reason = f"the function {callee.name} (node {callee.index}) calls itself"
            raise CyclicRelayError(self.doc.source, reason, "Unroll the recursion in Relay")
        if len(self._inlining) == MAX_NESTING:
            reason = f"calls of more than {MAX_NESTING} functions lie inside each other"
            raise OversizedRelayError(self.doc.source, reason, SAVE_AGAIN)
        params = self.doc.items(callee.index, "params")
        if len(params) != len(args):
            what = f"{len(args)} operands for the {len(params)} parameters of {callee.name}"
            raise self.doc.damaged(f"node {index} gives {what}")
        inner = Frame(callee.frame, callee.name, dict(zip(params, args, strict=True)))
        self._inlining.append(callee.index)
        value = yield self.doc.index(callee.index, "body"), inner
        self._inlining.pop()
        return value

    def _operator(self, index: int, name: str, args: tuple[Any, ...], frame: Frame) -> Any:
        self._calls += 1
        entry = TABLE.get(name)
        if entry is None:
            return self._note(name, frame, index, "no row in the operator table")
        if has_closure(args):
            return self._note(name, frame, index, "an operand is a function")
        try:
            struct, attrs = attributes(self.doc, self.doc.index(index, "attrs"))
            if entry.struct and struct not in ("", entry.struct):
                raise Unsupported(f"its attributes are a {struct}")
            call = Call(name, args, attrs, self.emitter.emit)
            entry.check(call)
            if has_missing(args):
                return self._placeholder(index)
            self.emitter.origins = self._origins(index)
            return self._checked(index, entry.make(call))
        except Unsupported as reason:
            return self._note(name, frame, index, str(reason))
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            what = f"its attributes or operands do not fit ({first_line(error)})"
            return self._note(name, frame, index, what)
        except Exception as error:  # TVM's type inference raises types of its own
            return self._note(name, frame, index, first_line(error))

    def _checked(self, index: int, value: Any) -> Any:
        """The value, once its type is what the file says that it is."""
        said = type_of(self.doc, self.doc.index(index, "_checked_type_"))
        made = type_text(value)
        wanted = said_text(said)
        if wanted is not None and made is not None and wanted != made:
            raise Unsupported(f"Relax makes {made} where the file says {wanted}")
        return value

    def _origins(self, index: int) -> Origins:
        """Names in the span; else the name that let gave; else those of the variables it takes."""
        found = span_names(self.doc, index)
        if found or index in self._let_names:
            return found or (self._let_names[index],)
        args = self.doc.items(index, "args")
        named = [a for a in args if self.doc.node(a).kind == "relay.Var"]
        return tuple(dict.fromkeys(variable_name(self.doc, a) for a in named))

    def _note(self, name: str, frame: Frame, index: int, reason: str) -> Any:
        """Note a problem and go on with a stand-in."""
        origins = self._origins(index) if self.doc.node(index).kind == "relay.Call" else ()
        near = f", {' '.join(origins[:2])}" if origins else ""
        place = f"call {self._calls} of {frame.where}, node {index}{near}"
        self._problems.setdefault(name or "an operator without a name", []).append((place, reason))
        return self._placeholder(index)

    def _placeholder(self, index: int) -> Any:
        return stand_in(type_of(self.doc, self.doc.index(index, "_checked_type_")))

    def _cycle(self, index: int) -> CyclicRelayError:
        kind = self.doc.node(index).kind.removeprefix("relay.")
        reason = f"the {kind} of node {index} is made from itself"
        return CyclicRelayError(self.doc.source, reason, SAVE_AGAIN)
