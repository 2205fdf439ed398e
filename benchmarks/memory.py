"""Memory that a compiled model holds: a process of its own loads it, runs it, and looks.

Counted is anonymous resident memory after three runs less that before loading: weights and
activations wherever the runtime keeps them, not the pages of files, which the system may drop.

    python -m benchmarks.memory ort model.onnx 2
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

RUNS = 3


def measure(peer: str, file: Path, feed: dict[str, np.ndarray], threads: int) -> float:
    """Megabytes held for "ort" (an ONNX file) or "dnnfusion" (a library of ours).

    Raises RuntimeError where the process fails.
    """
    values = file.with_suffix(".inputs.npz")
    np.savez(values, **feed)
    command = [sys.executable, "-m", "benchmarks.memory", peer, str(file), str(threads)]
    environment = {**os.environ, "TVM_NUM_THREADS": str(threads)}
    root = Path(__file__).parent.parent
    done = subprocess.run(
        command, env=environment, cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr else "no reason")
    return float(done.stdout.split()[-1])


def held_mb() -> float:
    """Anonymous resident memory of this process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1e3
    raise RuntimeError("this system does not say how much memory a process holds")


def _ort(file: Path, feed: dict[str, np.ndarray], threads: int) -> Callable[[], object]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)


def _library(file: Path, feed: dict[str, np.ndarray], threads: int) -> Callable[[], object]:
    import tvm
    from tvm import relax

    machine = relax.VirtualMachine(tvm.runtime.load_module(str(file)), tvm.cpu())
    machine.set_input("main", *(tvm.runtime.tensor(array) for array in feed.values()))
    return lambda: machine.invoke_stateful("main")


def main() -> None:
    """Load, run, print the difference."""
    if len(sys.argv) != 4:
        print("usage: python -m benchmarks.memory ort|dnnfusion FILE THREADS", file=sys.stderr)
        return 2
    peer, name, threads = sys.argv[1:]
    file = Path(name)
    with np.load(file.with_suffix(".inputs.npz")) as found:
        feed = {key: found[key] for key in found.files}
    if peer == "ort":
        import onnxruntime  # noqa: F401 - the runtime itself is not the model's memory
    else:
        from tvm import relax  # noqa: F401
    before = held_mb()
    run = (_ort if peer == "ort" else _library)(file, feed, int(threads))
    for _ in range(RUNS):
        run()
    print(f"{held_mb() - before:.1f}")


if __name__ == "__main__":
    main()
