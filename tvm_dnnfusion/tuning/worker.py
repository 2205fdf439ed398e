"""The child process: builds and times functions that it is sent (see `child`).

Requests come on stdin, answers go to what was stdout, each as a length and a pickle. The process
ends when stdin does, so that none outlives its parent, even one that was killed.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
from queue import SimpleQueue
from typing import Any

from tvm_dnnfusion.tuning.child import HEADER

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer requests until stdin ends."""
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what TVM prints does not mix with the answers
    requests: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    import tvm_dnnfusion.codegen.vecmath  # noqa: F401  TVM, and the operators that code may hold

    _answer(answers, "ready")
    while True:
        _answer(answers, _done(requests.get()))


def _die_with_parent() -> None:
    """Have Linux kill this process with its parent: a kernel that hangs would not notice."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _listen(requests: SimpleQueue[bytes]) -> None:
    """Queue requests; leave with the parent, also while a candidate runs."""
    source = sys.stdin.buffer
    while True:
        header = source.read(HEADER.size)
        if len(header) < HEADER.size:
            os._exit(0)
        requests.put(source.read(HEADER.unpack(header)[0]))


def _done(request: bytes) -> Any:
    """What a request asks for; failures are answers about the candidate."""
    kind, *arguments = pickle.loads(request)
    return _built(*arguments) if kind == "build" else _timed(*arguments)


def _timed(text: str, target: Any, threads: int | None, limits: Any) -> tuple[Any, ...]:
    """(microseconds or None, spread, samples, message)."""
    import tvm

    from tvm_dnnfusion.profile.measure import measure_primfunc

    try:
        found = measure_primfunc(tvm.ir.load_json(text), target, threads=threads, limits=limits)
    except Exception as error:  # whatever TVM or LLVM raise
        return None, 0.0, 0, _line(error)
    return found.median_us, found.spread, found.samples, ""


def _built(text: str, target: Any, path: str) -> str:
    """Write the library of a function; why that failed, or nothing."""
    import tvm

    from tvm_dnnfusion.runtime.link import find_linker

    try:
        func = tvm.ir.load_json(text)
        mod = tvm.IRModule({str(func.attrs["global_symbol"]): func})
        made = tvm.compile(mod, target=tvm.target.Target(dict(target)))
        made.export_library(path, fcompile=find_linker(str(target.get("mtriple", ""))))
    except Exception as error:  # whatever TVM, LLVM or the linker raise
        return _line(error)
    return ""


def _line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return (lines[-1].strip() if lines else type(error).__name__)[:200]


def _answer(out: Any, value: object) -> None:
    data = pickle.dumps(value)
    out.write(HEADER.pack(len(data)) + data)
    out.flush()
