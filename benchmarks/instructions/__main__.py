"""Instructions that models execute on ARM: ours, FuseOps' plan, TVM zero, ONNX Runtime.

    python -m benchmarks.instructions squeezenet shufflenet
    python -m benchmarks.instructions --peers dnnfusion zero --output results/instructions

Counts are exact and the same on every machine: no board is needed, and no idle one. They are not
times: a core executes two to four instructions per cycle, fewer where it waits for memory. What
kernels call in the C library (`expf` of TVM zero) is not counted; ours call nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from benchmarks import models, tables
from benchmarks.instructions import onnx_runtime, records
from benchmarks.instructions.builds import build
from benchmarks.instructions.ideal import Need
from benchmarks.instructions.records import Result, Row
from benchmarks.subject import MAX_DIFFERENCE, difference
from tvm_dnnfusion.devices.sessions import Limits, Session
from tvm_dnnfusion.devices.virtual import process
from tvm_dnnfusion.runtime.reference import run_onnx

HALF_DIFFERENCE = 0.05
"""Largest deviation of float16's outputs over the largest value: beyond it they are no use."""

LIMITS = Limits(upload_s=1800.0, call_s=3600.0)
"""Emulation of code without schedules takes minutes, and so does sending VGG's half gigabyte."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where a model failed."""
    options = _parser().parse_args(arguments)
    names = options.models or models.model_names()
    phone = process.up(process.Wish(f"instructions-{os.getpid()}", counts=True))
    done = _earlier(options.output) if options.resume else {}
    try:
        with Session(f"rpc://{phone.host}:{phone.port}", limits=LIMITS, threads=1) as session:
            for name in names:
                for peer in options.peers:
                    if (name, peer) not in done:
                        done[name, peer] = _result(session, name, peer, options.mcpu)
                        _say(done[name, peer])
                        _write(options, [done[key] for key in sorted(done)])
    finally:
        process.down(phone.name)
    return 1 if any(r.problem for r in done.values()) else 0


def _result(session: Session, name: str, peer: str, mcpu: str) -> Result:
    model, feed = models.load(name), models.inputs(name)
    try:
        if peer == "ort":
            return onnx_runtime.count(name, model, feed)
        return count(session, name, model, feed, peer, mcpu)
    except Exception as error:  # a model that fails is a row, not the end of the table
        text = str(error).strip() or type(error).__name__
        return Result(name, peer, problem=text.splitlines()[-1][:120])


def count(
    session: Session,
    name: str,
    model: onnx.ModelProto,
    feed: dict[str, np.ndarray],
    peer: str,
    mcpu: str,
) -> Result:
    """A peer's model on the phone, kernel by kernel."""
    with tempfile.TemporaryDirectory(prefix="instructions-") as work:
        made = build(model, peer, mcpu, Path(work))
        program = session.load(made.library)
        found = program.run(list(feed.values()))
        calls = program.counts(list(feed.values()))
        program.close()
    gap = difference(found, list(run_onnx(model, feed).values()))
    if gap > (HALF_DIFFERENCE if peer == "half" else MAX_DIFFERENCE):
        return Result(name, peer, problem=f"deviates from ONNX Runtime by {gap:.2g}")
    rows: dict[str, Row] = {}
    for kernel, counts in calls:
        need = made.needs.get(kernel, Need("", 0))
        known = rows.get(kernel, Row(kernel, need.kind, 0, need.macs, 0, 0, 0, need.ideal))
        rows[kernel] = Row(
            kernel, need.kind, known.calls + 1, need.macs, known.all + counts["all"],
            known.simd + counts["vector"] + counts["vector_load_store"],
            known.multiply_add + counts["multiply_add"], need.ideal,
        )  # fmt: skip
    return records.summed(name, peer, rows.values(), gap)


def _say(result: Result) -> None:
    text = result.problem or f"{result.all / 1e6:.1f} M instructions"
    print(f"{result.model} {result.peer}: {text}", flush=True)


def _write(options: argparse.Namespace, results: list[Result]) -> None:
    if options.output is None:
        return
    data = json.dumps(records.to_json(options.mcpu, results), indent=1) + "\n"
    tables.write(
        {
            options.output.with_suffix(".json"): data,
            options.output.with_suffix(".md"): records.to_markdown(options.mcpu, results),
        }
    )


def _earlier(output: Path | None) -> dict[tuple[str, str], Result]:
    if output is None or not output.with_suffix(".json").is_file():
        return {}
    found = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))["results"]
    made = (Result(**{**r, "rows": tuple(Row(**row) for row in r["rows"])}) for r in found)
    return {(r.model, r.peer): r for r in made if not r.problem}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("models", nargs="*", help="default: all test models")
    parser.add_argument("--peers", nargs="+", choices=list(records.PEERS),
                        default=["dnnfusion", "fuseops", "zero", "ort"])  # fmt: skip
    parser.add_argument("--mcpu", default="cortex-a76", help="CPU that code is made for")
    parser.add_argument("--resume", action="store_true", help="keep what the output holds already")
    parser.add_argument("--output", type=Path, help="path without suffix: .json and .md are made")
    return parser


if __name__ == "__main__":
    sys.exit(main())
