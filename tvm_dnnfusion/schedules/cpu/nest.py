"""Loop nests written out by hand, for templates whose loops no schedule primitive makes.

Statements are built from the inside: `loop` takes the function that makes its body, `Straight`
collects straight-line arithmetic whose intermediate results live in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlock

_KINDS = {
    "serial": tirx.ForKind.SERIAL,
    "parallel": tirx.ForKind.PARALLEL,
    "vector": tirx.ForKind.VECTORIZED,
    "unroll": tirx.ForKind.UNROLLED,
}


def number(value: int) -> Any:
    """An index constant."""
    return tirx.const(value, "int32")


def buffer(name: str, shape: Sequence[int]) -> Any:
    """A float32 buffer. Below 1 KiB TVM puts it on the stack, else into its workspace."""
    return tirx.decl_buffer(list(shape), "float32", name)


def loop(name: str, extent: Any, body: Callable[[Any], Any], kind: str = "serial") -> Any:
    """for name in range(extent): body(name). A loop of one turn that is not parallel vanishes."""
    if extent == 1 and kind != "parallel":
        return body(number(0))
    var = tirx.Var(name, "int32")
    stop = number(extent) if isinstance(extent, int) else extent
    return tirx.For(var, number(0), stop, _KINDS[kind], body(var))


def loops(extents: Mapping[str, Any], body: Callable[..., Any], kind: str = "serial") -> Any:
    """A nest of loops, outermost first."""
    names = list(extents)

    def level(k: int, outer: tuple[Any, ...]) -> Any:
        if k == len(names):
            return body(*outer)
        return loop(names[k], extents[names[k]], lambda i: level(k + 1, (*outer, i)), kind)

    return level(0, ())


def sequence(*statements: Any) -> Any:
    """Statements one after the other."""
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def load(source: Any, *index: Any) -> Any:
    """An element of a buffer."""
    return tirx.BufferLoad(source, [number(i) if isinstance(i, int) else i for i in index])


def store(target: Any, value: Any, *index: Any) -> Any:
    """A store of one element."""
    return tirx.BufferStore(target, value, [number(i) if isinstance(i, int) else i for i in index])


class Straight:
    """Straight-line arithmetic over vectors of `lanes` floats.

    Each `let` is a buffer of one vector on the stack, which LLVM keeps in a register. (Scope
    "local" would not do: TVM takes that from its workspace, whatever the size.) Every statement is
    a vector loop by itself: TVM would allocate the buffers inside of a loop that they share.
    """

    def __init__(self, name: str, lanes: int):
        self.lane = tirx.Var("lane", "int32")
        self.name, self.lanes = name, lanes
        self.registers: list[Any] = []
        self.statements: list[Any] = []

    def let(self, value: Any) -> Any:
        """The value in a register of its own."""
        register = buffer(self.name, (self.lanes,))
        self.registers.append(register)
        self.store(register, value)
        return load(register, self.lane)

    def store(self, target: Any, value: Any, *index: Any) -> None:
        """Write a value to memory; the lane is the last index."""
        self.write(target, value, lambda lane: (*index, lane))

    def write(self, target: Any, value: Any, place: Callable[[Any], Sequence[Any]]) -> None:
        """Write a value to memory, each lane at its place."""
        fresh = tirx.Var("lane", "int32")
        body = store(target, replaced(value, self.lane, fresh), *place(fresh))
        self.statements.append(vector(fresh, self.lanes, body))

    def add(self, statement: Any) -> None:
        """A statement of another form."""
        self.statements.append(statement)

    def close(self) -> Any:
        """The statements in their order."""
        return sequence(*self.statements)


def vector(lane: Any, lanes: int, body: Any) -> Any:
    """A vector loop over a variable."""
    return tirx.For(lane, number(0), number(lanes), _KINDS["vector"], body)


def replaced(expression: Any, old: Any, new: Any) -> Any:
    """The expression with a variable replaced."""
    return tvm_ffi.structural_map(expression, [(tirx.Var, lambda v: new if v.same_as(old) else v)])


def combination(terms: Sequence[tuple[Fraction, Any]]) -> Any:
    """The sum of products of constants and values; a factor that is one is not multiplied."""
    first = next((k for k, (c, _) in enumerate(terms) if c == 1), 0)
    total: Any = None
    for c, x in (terms[first], *terms[:first], *terms[first + 1 :]):
        product = x if abs(c) == 1 else x * tirx.const(float(abs(c)), "float32")
        if total is None:
            total = product if c > 0 else product * tirx.const(-1.0, "float32")
        else:
            total = total + product if c > 0 else total - product
    return total


def blocks_of(statement: Any) -> dict[str, Any]:
    """Blocks in a statement, by name."""
    found: dict[str, Any] = {}

    def visit(block: Any) -> None:
        found[block.name_hint] = block

    tvm_ffi.structural_walk(statement, [(SBlock, visit)])
    return found


def loads_of(expression: Any, source: Any) -> list[Any]:
    """Loads from a buffer in an expression or statement."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if node.source.same_as(source):
            found.append(node)

    tvm_ffi.structural_walk(expression, [(TensorLoad, visit)])
    return found


def touches(statement: Any, source: Any) -> bool:
    """Whether a statement reads or writes a buffer."""
    found: list[bool] = []

    def visit(node: Any) -> None:
        target = node.buffer if isinstance(node, tirx.BufferStore) else node.source
        found.append(target.same_as(source))

    tvm_ffi.structural_walk(statement, [(TensorLoad, visit), (tirx.BufferStore, visit)])
    return any(found)
