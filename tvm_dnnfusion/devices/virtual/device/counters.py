"""Runs on the virtual phone: executed instructions, as functions that a session calls over RPC.

It imports nothing of the package, which is not installed there. The emulator's plug-in (counter.c)
answers a system call with the counts of all code, or of one loaded library's: the latter are exact,
the same on each run and on each CPU model.

| function                   | arguments                        | answers, as JSON             |
|----------------------------|----------------------------------|------------------------------|
| dnnfusion.counters         | library ("" for all code)        | {class: instructions so far} |
| dnnfusion.count_call       | library, module, function, runs, | {class: instructions of all  |
|                            | the function's arguments         | runs}                        |
| dnnfusion.count_of         | library to look at               | ""                           |
| dnnfusion.count_instrument | what the virtual machine gives   | counts each call of a kernel |
| dnnfusion.count_rows       |                                  | [[kernel, {class: ...}], ...]|

Without the plug-in the first answers {}.
"""

from __future__ import annotations

import ctypes
import json
from typing import Any

COUNT_CALL = 0x7A11
CLASSES = ("all", "branch", "load_store", "vector_load_store", "vector", "multiply_add", "other")
"""Of all instructions each is in one class, and multiply_add says how many of vector are that."""

_libc = ctypes.CDLL(None)
_counts = (ctypes.c_uint64 * len(CLASSES))()
_EVERYTHING = (0, (1 << 64) - 1)


def _read(span: tuple[int, int]) -> tuple[int, ...]:
    """Counts of the code between two addresses; zeros without the plug-in."""
    _libc.syscall(
        ctypes.c_long(COUNT_CALL), ctypes.c_uint64(span[0]), ctypes.c_uint64(span[1]), _counts
    )
    return tuple(_counts)


def span_of(library: str) -> tuple[int, int]:
    """Addresses of the code of a loaded library, by its file's name; of everything for ""."""
    if not library:
        return _EVERYTHING
    found: list[int] = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            words = line.split()
            if len(words) > 5 and words[5].endswith("/" + library):
                found += [int(address, 16) for address in words[0].split("-")]
    if not found:
        raise ValueError(f"no library {library} is loaded on this device")
    return min(found), max(found)


def _named(counts: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(CLASSES, counts, strict=True))


def _since(before: tuple[int, ...], span: tuple[int, int]) -> tuple[int, ...]:
    return tuple(now - then for now, then in zip(_read(span), before, strict=True))


def counters(library: str = "") -> str:
    """Instructions executed so far; "{}" where nothing counts."""
    return json.dumps(_named(_read(span_of(library))) if any(_read(_EVERYTHING)) else {})


def count_call(library: str, module: Any, name: str, runs: int, *arguments: Any) -> str:
    """Instructions of a library's code in so many calls of a function, after one that is not
    counted, in which memory is first touched."""
    function, span = module[name], span_of(library)
    function(*arguments)
    before = _read(span)
    for _ in range(int(runs)):
        function(*arguments)
    return json.dumps(_named(_since(before, span)))


class Instrument:
    """Instructions of every call that the virtual machine makes, without those of calls inside."""

    def __init__(self) -> None:
        self.span = _EVERYTHING
        self.stack: list[tuple[tuple[int, ...], list[int]]] = []
        self.rows: list[tuple[str, dict[str, int]]] = []

    def __call__(self, _: Any, name: Any, before: bool, *__: Any) -> int:
        """Called before and after each call; 0 means to go on."""
        if before:
            self.stack.append((_read(self.span), [0] * len(CLASSES)))
            return 0
        then, inner = self.stack.pop()
        whole = _since(then, self.span)
        if self.stack:
            outer = self.stack[-1][1]
            outer[:] = [a + b for a, b in zip(outer, whole, strict=True)]
        own = tuple(a - b for a, b in zip(whole, inner, strict=True))
        self.rows.append((str(name), _named(own)))
        return 0

    def of(self, library: str) -> str:
        """Look at one library's code from now on, and forget the rows."""
        self.span = span_of(library)
        self.rows.clear()
        return ""

    def take(self) -> str:
        """The rows since the last time."""
        text = json.dumps(self.rows)
        self.rows.clear()
        return text


def register() -> None:
    """Register the functions of the table above, in this process and those forked from it."""
    import tvm_ffi

    instrument = Instrument()
    functions = {
        "dnnfusion.counters": counters,
        "dnnfusion.count_call": count_call,
        "dnnfusion.count_instrument": lambda *_: tvm_ffi.convert(instrument),
        "dnnfusion.count_of": instrument.of,
        "dnnfusion.count_rows": instrument.take,
    }
    for name, function in functions.items():
        tvm_ffi.register_global_func(name, function, override=True)
