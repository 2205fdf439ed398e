"""Latency of this library and its peers on the nine light models, or on others.

    python -m benchmarks.latency --threads 2 --output build/latency
    python -m benchmarks.latency --models squeezenet,resnet50 --peers dnnfusion,ort --rounds 30

Outputs are compared with ONNX Runtime's before anything is timed. Exit code 1 where a peer failed
or was wrong; files appear only when the run is complete.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.models import inputs, load, model_names

if TYPE_CHECKING:
    import onnx

    from benchmarks.peers import Session
    from benchmarks.tables import Result

MAX_DIFFERENCE = 1e-3
"""Largest deviation from ONNX Runtime, over the largest output, at which a time still counts.

Float32 sums of some thousand products differ by 1e-5 to 1e-4 with the order of addition."""

PEER_NAMES = ("dnnfusion", "fuseops", "zero", "ort")
PACKAGES = ("tvm-dnnfusion", "apache-tvm", "onnxruntime")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it; see the module's docstring."""
    options = _parser().parse_args(arguments)
    # Before TVM is loaded: its pool reads this once.
    os.environ["TVM_NUM_THREADS"] = str(options.threads)
    from benchmarks import machine, tables

    facts = asdict(machine.measure(options.threads))
    results: list[Result] = []
    for name in options.models:
        print(f"{name} ...", file=sys.stderr, flush=True)
        results.extend(run_model(name, options.peers, options))
        gc.collect()
    report = tables.Report(facts, _versions(), options.rounds, tuple(results))
    text = tables.to_markdown(report)
    print(text)
    if options.output is not None:
        tables.write(
            {
                options.output.with_suffix(".json"): tables.to_json(report),
                options.output.with_suffix(".md"): text,
            }
        )
    return 1 if any(r.problem for r in results) else 0


def run_model(name: str, peers: Sequence[str], options: argparse.Namespace) -> list[Result]:
    """Compile, compare and time one model with every peer."""
    from benchmarks import rounds
    from benchmarks.tables import Result

    model, feed = load(name), inputs(name)
    expected: list[np.ndarray] | None = None
    sessions: dict[str, Session] = {}
    results: list[Result] = []
    for peer in sorted(peers, key=lambda p: p != "ort"):
        started = time.perf_counter()
        try:
            session, found = _first_run(peer, model, feed, options.threads)
        except Exception as error:  # a peer that fails is a result, not the end of the run
            results.append(Result(name, peer, None, problem=_last_line(error)))
            continue
        seconds = time.perf_counter() - started
        expected = found if peer == "ort" else expected
        gap = difference(found, expected) if expected is not None else 0.0
        if not gap <= MAX_DIFFERENCE:
            problem = f"outputs deviate from ONNX Runtime's by {gap:.2g}"
            results.append(Result(name, peer, None, gap, seconds, session.flops, problem))
            continue
        sessions[peer] = session
        results.append(Result(name, peer, None, gap, seconds, session.flops))
    timings = rounds.measure(sessions, options.rounds, options.seconds)
    return [
        Result(r.model, r.peer, timings.get(r.peer), r.difference, r.compile_s, r.flops, r.problem)
        for r in results
    ]


def difference(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Largest deviation over the largest expected value; NaN or infinity where shapes differ."""
    if [a.shape for a in found] != [b.shape for b in expected]:
        return float("inf")
    return max(
        float(np.abs(a.astype(np.float64) - b).max() / max(float(np.abs(b).max()), 1e-30))
        for a, b in zip(found, expected)
    )


def _first_run(
    peer: str, model: onnx.ModelProto, feed: dict[str, np.ndarray], threads: int
) -> tuple[Session, list[np.ndarray]]:
    from benchmarks.peers import PEERS

    session = PEERS[peer](model, feed, threads)
    session.run()
    return session, session.outputs()


def _last_line(error: Exception) -> str:
    """Kind and last line of an error: TVM puts a C++ trace before the message."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1][:200]}"


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--models",
        type=_names(model_names()),
        default=model_names(built=False),
        help="comma-separated; default: the nine light ones",
    )
    parser.add_argument(
        "--peers", type=_names(PEER_NAMES), default=PEER_NAMES, help="comma-separated"
    )
    parser.add_argument("--threads", type=int, default=2, help="for every peer")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each peer")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="a slow peer gets fewer rounds to stay within"
    )
    parser.add_argument("--output", type=Path, help="path without suffix: .json and .md are made")
    return parser


def _names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of comma-separated names, for argparse."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(part for part in text.split(",") if part)
        wrong = [part for part in found if part not in known]
        if wrong or not found:
            raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(known)}")
        return found

    return parse


if __name__ == "__main__":
    sys.exit(main())
