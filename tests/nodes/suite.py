"""onnx's node test-suite through TVM alone and through DNNFusionPass.

    python -m tests.nodes.suite record              run TVM alone, write tvm_passes.txt
    python -m tests.nodes.suite check               run what it lists through DNNFusionPass
    python -m tests.nodes.suite run PIPELINE [-k]   run any cases through one pipeline
    python -m tests.nodes.suite check --on opencl   on this machine's first OpenCL device

`check` fails on every case that TVM alone passes and the pass does not, and prints both counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import onnx

from tests.nodes.cases import MACHINES, PIPELINES, Outcome, Result, collect
from tests.nodes.workers import run_all

PASSES = Path(__file__).with_name("tvm_passes.txt")


REFUSED_ON_GPUS = (
    "test_compress_", "test_nonzero_", "test_unique_", "test_squeeze", "test_nonmaxsuppression_",
)  # fmt: skip
"""Cases that find shapes in values; of those of Squeeze, with axes given at run time."""


def listed(file: Path = PASSES) -> tuple[str, tuple[str, ...]]:
    """The onnx version that the list was made with, and the names of the cases in it."""
    lines = file.read_text().splitlines()
    version = next(line.split()[-1] for line in lines if line.startswith("# onnx "))
    return version, tuple(line for line in lines if line and not line.startswith("#"))


def run(
    cases: dict[str, Any], names: list[str], pipeline: str, jobs: int, machine: str = "cpu"
) -> dict[str, Result]:
    """Run the cases and report on stderr how far it is."""
    start, out = time.monotonic(), {}
    for name, result in run_all(cases, names, pipeline, jobs, machine):
        out[name] = result
        if len(out) % 100 == 0:
            print(f"{len(out)}/{len(names)} {time.monotonic() - start:.0f} s", file=sys.stderr)
    return {name: out[name] for name in names}


def record(jobs: int) -> int:
    """Write the names of the cases that TVM alone passes."""
    cases = collect()
    results = run(cases, list(cases), "tvm", jobs)
    passed = sorted(name for name, r in results.items() if r.outcome is Outcome.PASS)
    head = (
        f"# Cases of onnx's node test-suite that TVM alone imports, compiles and passes: "
        f"{len(passed)} of {len(cases)}.\n"
        f"# Made by: python -m tests.nodes.suite record\n# onnx {onnx.__version__}\n"
    )
    PASSES.write_text(head + "\n".join(passed) + "\n")
    print(summary(results))
    return 0


def check(pipeline: str, jobs: int, machine: str = "cpu", pattern: str = "", every: int = 1) -> int:
    """Run the listed cases; 1 if one of them does not pass any more.

    On OpenCL those in float16 are left out (PoCL on x86 has no cl_khr_fp16), and those are expected
    to be refused whose shapes depend on values.
    """
    version, names = listed()
    cases = collect()
    missing = [name for name in names if name not in cases]
    chosen = [name for name in names if name in cases and pattern in name][::every]
    half = [n for n in chosen if machine == "opencl" and in_half(cases[n].model)]
    results = run(cases, [n for n in chosen if n not in half], pipeline, jobs, machine)
    bad = {name: r for name, r in results.items() if not expected(name, r, machine)}
    passed = sum(r.outcome is Outcome.PASS for r in results.values())
    refused = sum("depends on values" in r.text for r in results.values())
    print(f"TVM alone passes {len(chosen)} cases, {pipeline} passes {passed} of them")
    if machine != "cpu":
        print(f"  on {machine}: {refused} are refused, {len(half)} left out")
    for name, result in bad.items():
        print(f"  {name}: {result.outcome.value}: {result.text}")
    if missing:
        print(f"  onnx {onnx.__version__} lacks {len(missing)} that {version} has: {missing[:5]}")
    return 1 if bad or (missing and version == onnx.__version__) else 0


def expected(name: str, result: Result, machine: str) -> bool:
    """Whether a case ended as it should: passed, or on a GPU refused for the shapes it makes."""
    refused = result.outcome is Outcome.UNSUPPORTED and "depends on values" in result.text
    if machine == "opencl" and refused:
        return name.startswith(REFUSED_ON_GPUS)
    return result.outcome is Outcome.PASS


def in_half(model: onnx.ModelProto) -> bool:
    """Whether a model has tensors of float16, as inputs, outputs, constants or by a cast."""
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    types = {v.type.tensor_type.elem_type for v in values} | {
        t.data_type for t in graph.initializer
    }
    casts = {a.i for node in graph.node for a in node.attribute if a.name in ("to", "stash_type")}
    return onnx.TensorProto.FLOAT16 in types | casts


def summary(results: dict[str, Result]) -> str:
    """Count of each outcome in one line."""
    counts = Counter(result.outcome for result in results.values())
    return ", ".join(f"{counts[o]} {o.value}" for o in Outcome if counts[o])


def _run_some(pipeline: str, pattern: str, jobs: int, machine: str) -> int:
    cases = collect()
    names = [name for name in cases if pattern in name]
    results = run(cases, names, pipeline, jobs, machine)
    for name, result in results.items():
        print(f"{name}: {result.outcome.value} {result.text}")
    print(summary(results))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["record", "check", "run"])
    parser.add_argument("pipeline", nargs="?", choices=list(PIPELINES), default="dnnfusion")
    parser.add_argument("-k", default="", help="only cases whose name holds this")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--on", choices=MACHINES, default="cpu", help="where the cases are run")
    parser.add_argument("--every", type=int, default=1, help="one of so many listed cases")
    args = parser.parse_args(argv)
    if args.what == "record":
        return record(args.jobs)
    if args.what == "check":
        return check(args.pipeline, args.jobs, args.on, args.k, args.every)
    return _run_some(args.pipeline, args.k, args.jobs, args.on)


if __name__ == "__main__":
    sys.exit(main())
