"""The child process of the local runner: builds and times functions that it is sent.

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

from tvm_dnnfusion.tuning.runner import HEADER

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer requests until stdin ends."""
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what TVM prints does not mix with the answers
    requests: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    import tvm  # noqa: F401  the slow part of the start

    _answer(answers, "ready")
    while True:
        _answer(answers, _measured(requests.get()))


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


def _measured(request: bytes) -> tuple[float | None, float, int, str]:
    """(microseconds or None, spread, samples, message)."""
    import tvm

    from tvm_dnnfusion.profile.measure import measure_primfunc

    text, target, threads, limits = pickle.loads(request)
    try:
        func = tvm.ir.load_json(text)
        found = measure_primfunc(func, target, threads=threads, limits=limits)
    except Exception as error:  # whatever TVM or LLVM raise is an answer about the candidate
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        return None, 0.0, 0, (lines[-1].strip() if lines else type(error).__name__)[:200]
    return found.median_us, found.spread, found.samples, ""


def _answer(out: Any, value: object) -> None:
    data = pickle.dumps(value)
    out.write(HEADER.pack(len(data)) + data)
    out.flush()
