"""One model of a latency run: every peer compiled, compared, timed, and looked into."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from benchmarks import memory, rounds, runtimes
from benchmarks.models import ZOO_PREFIX, inputs, load
from benchmarks.peers import PEERS, Prepare, Session
from benchmarks.slowest import slowest
from benchmarks.tables import OURS, Result
from benchmarks.zoo import store
from benchmarks.zoo.catalog import ZOO
from tvm_dnnfusion.runtime.bench import profile

MAX_DIFFERENCE = 2e-3
"""Largest deviation from ONNX Runtime, over the largest output, at which a time still counts.

Float32 sums of some thousand products differ by 1e-5 to 1e-4 with the order of addition, by 1e-3
where exponentials of such sums are the result (YOLO-V4's boxes)."""

RIVAL_DIFFERENCE = 1e-2
"""The same for other people's runtimes: MNN's Winograd convolutions are off by some thousandths in
deep networks. To leave them out would flatter us; the table names them."""

SWAPPED_ROWS = 0.1
"""Share of rows that may deviate where rows are ranked by score: rounding swaps near ties."""

OTHERS: dict[str, Prepare] = {
    "openvino": runtimes.prepare_openvino,
    "mnn": runtimes.prepare_mnn,
    "torch": runtimes.prepare_torch,
    "inductor": runtimes.prepare_inductor,
}


def run_model(name: str, options: argparse.Namespace, peak_gflops: float = 0.0) -> list[Result]:
    """Compile, compare and time one model with every peer.

    `peak_gflops` is the measured multiply-add peak; 0: kernels are not looked into.
    """
    model, feed = load(name), inputs(name)
    ranked, exact = _known(name)
    expected: list[np.ndarray] | None = None
    sessions: dict[str, Session] = {}
    results: list[Result] = []
    for peer in sorted(options.peers, key=lambda p: p != "ort"):
        print(f"  {peer}", file=sys.stderr, flush=True)
        started = time.perf_counter()
        try:
            session, found = _first_run(peer, model, feed, options.threads)
        except Exception as error:  # a peer that fails is a result, not the end of the run
            results.append(Result(name, peer, None, problem=_last_line(error)))
            continue
        seconds = time.perf_counter() - started
        expected = found if peer == "ort" else expected
        gap = difference(found, expected, ranked) if expected is not None else 0.0
        row = Result(name, peer, None, gap, seconds, session.flops, error=_error(found, exact))
        if not gap <= (RIVAL_DIFFERENCE if peer in OTHERS else MAX_DIFFERENCE):
            problem = f"outputs deviate from ONNX Runtime's by {gap:.2g}"
            results.append(replace(row, problem=problem))
            continue
        sessions[peer] = session
        results.append(row)
    timings = rounds.measure(sessions, options.rounds, options.seconds)
    results = [replace(row, timing=timings.get(row.peer)) for row in results]
    return [
        _looked_into(row, sessions.get(row.peer), model, feed, options, peak_gflops)
        for row in results
    ]


def _known(name: str) -> tuple[bool, tuple[np.ndarray, ...]]:
    """Whether the rows of the outputs are ranked, and the outputs in double precision."""
    if not name.startswith(ZOO_PREFIX):
        return False, ()
    short = name.removeprefix(ZOO_PREFIX)
    return ZOO[short].ranked, () if ZOO[short].ranked else store.reference(short)


def _first_run(
    peer: str, model: onnx.ModelProto, feed: dict[str, np.ndarray], threads: int
) -> tuple[Session, list[np.ndarray]]:
    session = {**PEERS, **OTHERS}[peer](model, feed, threads)
    session.run()
    return session, [np.array(array) for array in session.outputs()]


def _looked_into(
    row: Result,
    session: Session | None,
    model: onnx.ModelProto,
    feed: dict[str, np.ndarray],
    options: argparse.Namespace,
    peak_gflops: float,
) -> Result:
    """With the slowest kernel of ours, and the memory of ours and of ONNX Runtime's."""
    library = session.library if session is not None else None
    if row.peer == OURS and library is not None and peak_gflops:
        kernels = profile(library.module, feed, runs=3)
        row = replace(row, slowest=slowest(kernels, library.kernel_flops, peak_gflops))
    if session is None or not getattr(options, "memory", False) or row.peer not in (OURS, "ort"):
        return row
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ("model.so" if library is not None else "model.onnx")
        if library is not None:
            library.module.code.export_library(str(file))
        else:
            onnx.save(model, file)
        return replace(row, memory_mb=memory.measure(row.peer, file, feed, options.threads))


def difference(
    found: Sequence[np.ndarray], expected: Sequence[np.ndarray], ranked: bool = False
) -> float:
    """Largest deviation over the largest expected value; NaN or infinity where shapes differ.

    `ranked`: of the rows, the tenth that deviates most is left out.
    """
    if [a.shape for a in found] != [b.shape for b in expected]:
        return float("inf")
    gaps: list[float] = []
    for a, b in zip(found, expected):
        gap = np.abs(a.astype(np.float64) - b)
        if ranked:
            rows = gap.reshape(gap.shape[0], -1).max(1)
            gap = np.sort(rows)[-1 - int(len(rows) * SWAPPED_ROWS)]
        gaps.append(float(np.max(gap) / max(float(np.abs(b).max()), 1e-30)))
    return float(np.max(gaps))


def _error(found: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float | None:
    """Root mean square of the error over that of the exact outputs; the worst output counts."""
    if not exact or [a.shape for a in found] != [b.shape for b in exact]:
        return None
    return max(
        float(np.sqrt(np.mean(np.square(a - b)) / np.mean(np.square(b))))
        for a, b in zip(found, exact)
    )


def _last_line(error: Exception) -> str:
    """Kind and last line of an error: TVM puts a C++ trace before the message."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1][:200]}"
