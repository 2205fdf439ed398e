"""Each kernel as a share of what the machine can do, and against ONNX Runtime on the same model.

    python -m benchmarks.kernels --threads 1
    python -m benchmarks.kernels --only conv3x3 --only attention --threads 2 --seconds 4
    python -m benchmarks.kernels --list

"of peak" is the direct algorithm's FLOPs over the time and the measured multiply-add peak
(Winograd may exceed it); "of bandwidth" the bytes of operands and results over the time and the
measured memory bandwidth (above 100 % where they stay in a cache). Both are of whole runs of the
one-operator model, conversions of layout at its ends included; "kernel's share" is that of its
longest kernel alone, of the limit that bounds it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.arguments import count, duration, output
from benchmarks.kernels.cases import Case, cases

ROUNDS = 30
COLUMNS = (
    "kernel",
    "ours us",
    "ORT us",
    "ratio",
    "GFLOP/s",
    "of peak",
    "ORT's",
    "GB/s",
    "of bandwidth",
    "kernel's share",
    "kernels",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel's result: medians in microseconds, of whole runs and of the longest kernel.

    `others` is the share of the processors that others took while ours was timed.
    """

    name: str
    bound: str
    flops: int
    bytes: int
    ours_us: float
    kernel_us: float
    kernels: int
    ort_us: float
    difference: float
    problem: str = ""
    others: float | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where a kernel failed or was wrong."""
    options = _parser().parse_args(arguments)
    known = cases()
    chosen = [c for c in known if not options.only or any(o in c.name for o in options.only)]
    if not chosen:
        print(f"no kernel of that name; there are {', '.join(c.name for c in known)}")
        return 2
    if options.list:
        print("\n".join(case.name for case in chosen))
        return 0
    # Before TVM is loaded: its pool reads this once.
    os.environ["TVM_NUM_THREADS"] = str(options.threads)
    from benchmarks import machine, tables

    facts = asdict(machine.measure(options.threads))
    print(_heading(facts), flush=True)
    rows = []
    for case in chosen:
        rows.append(_measured(case, options))
        print(_line(rows[-1], facts), flush=True)
    if options.output is not None:
        data = {"machine": facts, "kernels": [asdict(row) for row in rows]}
        text = "\n".join([_heading(facts), *(_line(row, facts) for row in rows)]) + "\n"
        tables.write(
            {
                options.output.with_suffix(".json"): json.dumps(data, indent=2) + "\n",
                options.output.with_suffix(".md"): text,
            }
        )
    return 1 if any(row.problem for row in rows) else 0


def _measured(case: Case, options: argparse.Namespace) -> Row:
    try:
        return measure(case, options.threads, options.seconds)
    except Exception as error:  # a kernel that fails is a row, not the end of the table
        problem = f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:120]}"
        nan = float("nan")
        return Row(case.name, case.bound, case.flops, case.bytes, nan, nan, 0, nan, nan, problem)


def measure(case: Case, threads: int, seconds: float) -> Row:
    """Compile, compare and time one kernel."""
    from benchmarks import rounds
    from benchmarks.models import feed_for
    from benchmarks.peers import prepare_library, prepare_ort
    from benchmarks.subject import MAX_DIFFERENCE, difference
    from tvm_dnnfusion.runtime.bench import BUILTIN, profile

    model = case.build()
    feed = feed_for(model)
    peer = prepare_ort(model, feed, threads)
    session = prepare_library(model, feed, threads)
    assert session.library is not None
    peer.run()
    session.run()
    gap = difference(session.outputs(), peer.outputs())
    problem = "" if gap <= MAX_DIFFERENCE else f"deviates from ONNX Runtime by {gap:.2g}"
    found = rounds.measure({"ours": session, "ort": peer}, ROUNDS, seconds / 2)
    kernels = [row for row in profile(session.library.module, feed, runs=20) if row.name != BUILTIN]
    return Row(
        case.name,
        case.bound,
        case.flops,
        case.bytes,
        ours_us=found["ours"].median_ms * 1e3,
        kernel_us=max((row.us for row in kernels), default=float("nan")),
        kernels=len(kernels),
        ort_us=found["ort"].median_ms * 1e3,
        difference=gap,
        problem=problem,
        others=found["ours"].others,
    )


def _heading(facts: dict[str, object]) -> str:
    title = (
        f"{facts['threads']} threads on {facts['cpu']}: {facts['peak_gflops']} GFLOP/s, "
        f"{facts['bandwidth_gbs']} GB/s"
    )
    return f"{title}\n\n| {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * (len(COLUMNS) - 1)}"


def _line(row: Row, facts: dict[str, object]) -> str:
    if row.problem:
        return f"| {row.name} | {row.problem} |" + " |" * (len(COLUMNS) - 2)
    peak, bandwidth = (float(str(facts[k])) * 1e3 for k in ("peak_gflops", "bandwidth_gbs"))
    share = row.flops / row.kernel_us / peak
    if row.bound == "memory":
        share = row.bytes / row.kernel_us / bandwidth
    cells = (
        row.name,
        f"{row.ours_us:.1f}",
        f"{row.ort_us:.1f}",
        f"{row.ort_us / row.ours_us:.2f}",
        f"{row.flops / row.ours_us / 1e3:.1f}",
        f"{row.flops / row.ours_us / peak:.0%}",
        f"{row.flops / row.ort_us / peak:.0%}",
        f"{row.bytes / row.ours_us / 1e3:.1f}",
        f"{row.bytes / row.ours_us / bandwidth:.0%}",
        f"{share:.0%}" if np.isfinite(share) else "",
        str(row.kernels),
    )
    return f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", action="append", help="part of a name; may be repeated")
    parser.add_argument("--threads", type=count, default=2, help="for both sides")
    parser.add_argument("--seconds", type=duration, default=3.0, help="of timing per kernel")
    parser.add_argument("--list", action="store_true", help="names only")
    parser.add_argument("--output", type=output, help="path without suffix: .json and .md are made")
    return parser


if __name__ == "__main__":
    sys.exit(main())
