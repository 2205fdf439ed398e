"""The child process of a session: it alone talks to TVM, so that it can be ended at any moment.

A frozen device blocks TVM's client for ever, even at exit. So the client lives here and the parent
keeps the clock. Requests and answers go over a pipe, pickled: (operation, arguments) comes in, any
number of ("part", value) and then ("done", value) or ("error", (type, message)) go out.

`local` is the same without RPC: a kernel that crashes or hangs takes this process with it only.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from tvm_dnnfusion.devices import server

Array = np.ndarray[Any, Any]
ORPHAN_POLL_S = 1.0
CHUNK_S = 2.0
"""Samples are told in groups of about so many seconds: what a lost device takes with it."""
EXE = "/proc/self/exe"
HEADER = 64


class Worker:
    """Keeps the connection and the loaded libraries; each public method is an operation."""

    def __init__(self, tell: Callable[[Any], None]) -> None:
        self._tell = tell
        self._remote: Any = None
        self._programs: dict[int, tuple[Any, str, bool, str]] = {}

    def connect(self, host: str, port: int, key: str, timeout_s: float) -> None:
        """Open a session at a server; `timeout_s` is the server's limit for all of it, 0 none."""
        from tvm import rpc

        self._forget()
        self._remote = rpc.connect(host, port, key, session_timeout=timeout_s)

    def here(self) -> None:
        """Work on this machine."""
        from tvm.rpc.client import LocalSession

        server.make_room_for_threads()
        server.register()
        self._forget()
        self._remote = LocalSession()

    def info(self) -> str:
        """JSON of `server.info`, "" where the server is not ours."""
        return str(self._ask("dnnfusion.info", ""))

    def executable_header(self) -> bytes:
        """First bytes of the server's own program, which tell its machine; empty if unknown."""
        for path in (EXE, "../" * 12 + EXE[1:]):
            try:
                return bytes(self._remote.download(path))[:HEADER]
            except Exception:  # a server without this function, or without /proc
                continue
        return b""

    def state(self) -> str:
        """JSON of `server.state`, "" where the server is not ours."""
        return str(self._ask("dnnfusion.state", ""))

    def session_end(self, name: str) -> str:
        """How a session ended, "" where it is not known."""
        return str(self._ask("dnnfusion.session_end", "", name))

    def threads(self, mode: int, count: int) -> int:
        """Set threads and the cores that they stay on; the number in force."""
        self._remote.get_function("runtime.config_threadpool")(mode, count)
        return int(self._remote.get_function("runtime.NumThreads")())

    def exists(self, kind: str) -> bool:
        """Whether the device has a processor of that kind, "cpu" or "opencl"."""
        return bool(self._processor(kind).exist)

    def load(self, number: int, path: str, name: str, kind: str, plain: bool) -> None:
        """Send a library under that name and load it; `plain` without a virtual machine."""
        self._remote.upload(path, target=name)
        self._programs[number] = (self._machine(name, plain, kind), name, plain, kind)

    def unload(self, number: int) -> None:
        """Forget a library and remove its file."""
        found = self._programs.pop(number, None)
        if found is not None:
            name = found[1]
            del found
            self._remote.remove(name)

    def run(self, number: int, entry: str, inputs: Sequence[Array]) -> list[Array]:
        """Run a function once: its results, or all arguments after the call of a plain one."""
        code, _, plain, kind = self._programs[number]
        places = self._tensors(inputs, kind)
        if plain:
            code[entry](*places)
            return [place.numpy() for place in places]
        code.set_input(entry, *places)
        code.invoke_stateful(entry)
        return _flat(code.get_outputs(entry))

    def time(
        self,
        number: int,
        entry: str,
        inputs: Sequence[Array],
        samples: int,
        sample_us: float,
        warmup_s: float,
        pause_s: float,
        wall_s: float,
        fewest: int,
    ) -> tuple[int, int]:
        """Tell microseconds per run as they are taken; return (runs per sample, warm-ups).

        Of `samples` those after the first `fewest` are left out once `wall_s` seconds are over.
        """
        timer = self._timer(number, entry, inputs)
        until, once, warmups = time.monotonic() + warmup_s, float("inf"), 0
        while not warmups or time.monotonic() < until:
            once = min(once, *timer(1, 1))
            warmups += 2  # the timer runs once more, before it looks at the clock
        calls = max(1, int(np.ceil(sample_us / max(once, 1e-3))))
        chunk = 1 if pause_s > 0 else max(1, int(CHUNK_S * 1e6 / (calls * max(once, 1e-3))))
        left, over = samples, time.monotonic() + wall_s
        while left > 0 and (samples - left < fewest or time.monotonic() < over):
            if pause_s > 0 and left < samples:
                time.sleep(pause_s)
            found = timer(calls, min(chunk, left))
            left -= len(found)
            self._tell(("part", found))
        return calls, warmups

    def profile(self, number: int, entry: str, inputs: Sequence[Array], runs: int) -> list[str]:
        """Rows of the instrument as JSON, one text per run."""
        code, _, _, kind = self._programs[number]
        take = self._remote.get_function("dnnfusion.instrument_rows")
        self._ask("dnnfusion.instrument_at", "", kind)
        code.set_input(entry, *self._tensors(inputs, kind))
        code.invoke_stateful(entry)
        code.set_instrument("dnnfusion.instrument")
        out: list[str] = []
        for _ in range(runs):
            take()
            code.invoke_stateful(entry)
            out.append(str(take()))
        # No way to take an instrument off: a fresh machine for whatever comes next.
        self._again(number)
        return out

    def counts(self, number: int, entry: str, inputs: Sequence[Array]) -> str:
        """Executed instructions of one run as JSON rows, "" where the device counts none.

        One thread runs meanwhile: the counters of several would lose steps.
        """
        code, name, plain, kind = self._programs[number]
        if self._ask("dnnfusion.counters", "{}", "") == "{}":
            return ""
        threads = int(self._remote.get_function("runtime.NumThreads")())
        self.threads(1, 1)
        try:
            if plain:
                count = self._remote.get_function("dnnfusion.count_call")
                found = count(name, code, entry, 1, *self._tensors(inputs, kind))
                return f'[["{entry}", {found}]]'
            code.set_input(entry, *self._tensors(inputs, kind))
            code.invoke_stateful(entry)
            self._remote.get_function("dnnfusion.count_of")(name)
            code.set_instrument("dnnfusion.count_instrument")
            code.invoke_stateful(entry)
            return str(self._remote.get_function("dnnfusion.count_rows")())
        finally:
            self.threads(0, threads)
            self._again(number)

    def _again(self, number: int) -> None:
        """Make a program's virtual machine anew."""
        _, name, plain, kind = self._programs[number]
        self._programs[number] = (self._machine(name, plain, kind), name, plain, kind)

    def _machine(self, name: str, plain: bool, kind: str) -> Any:
        from tvm.runtime.vm import VirtualMachine

        code = self._remote.load_module(name)
        if plain:
            return code
        places = [self._processor(kind)] + ([] if kind == "cpu" else [self._processor("cpu")])
        return VirtualMachine(code, places)

    def _timer(
        self, number: int, entry: str, inputs: Sequence[Array]
    ) -> Callable[[int, int], list[float]]:
        """A function of (calls, samples) that gives microseconds per call, one per sample."""
        code, _, plain, kind = self._programs[number]
        places = self._tensors(inputs, kind)
        if not plain:
            code.set_input(entry, *places)
        name, arguments = (entry, places) if plain else ("invoke_stateful", [entry])
        device = self._processor(kind)

        def timer(calls: int, samples: int) -> list[float]:
            timed = code.time_evaluator(name, device, number=calls, repeat=samples)
            return [float(s) * 1e6 for s in timed(*arguments).results]

        return timer

    def _tensors(self, inputs: Sequence[Array], kind: str) -> list[Any]:
        import tvm

        device = self._processor(kind)
        return [tvm.runtime.tensor(array, device) for array in inputs]

    def _processor(self, kind: str) -> Any:
        return self._remote.cpu(0) if kind == "cpu" else self._remote.cl(0)

    def _ask(self, name: str, otherwise: str, *arguments: Any) -> Any:
        try:
            function = self._remote.get_function(name)
        except (AttributeError, ValueError):  # a server that is not ours
            return otherwise
        return function(*arguments)

    def _forget(self) -> None:
        self._programs.clear()
        self._remote = None


def _flat(value: Any) -> list[Array]:
    """Results as arrays in order; tuples flattened, shapes as int64 vectors."""
    if hasattr(value, "numpy"):
        return [value.numpy()]
    items = list(value)
    if items and all(isinstance(i, int) for i in items):
        return [np.asarray(items, dtype=np.int64)]
    return [array for item in items for array in _flat(item)]


def serve(pipe: Connection) -> None:
    """Answer requests until the parent closes the pipe."""
    worker = Worker(pipe.send)
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        if request is None:
            return
        operation, arguments = request
        try:
            answer = ("done", getattr(worker, operation)(*arguments))
        except BaseException as error:  # whatever it is, the parent decides what it means
            answer = ("error", (type(error).__name__, str(error)))
        pipe.send(answer)


def _watch(parent: int) -> None:
    """Leave when the parent has died; a call that blocks in TVM would keep us for ever."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_POLL_S)
    os._exit(1)


def main(descriptor: int) -> None:
    """Entry of the process: serve, then leave without TVM's destructors."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    try:
        serve(Connection(descriptor))
    finally:
        # The destructor of a session with a dead device may block for ever.
        os._exit(0)
