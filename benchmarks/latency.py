"""Latency of this library and its peers on the nine light models, the zoo, or single models.

    python -m benchmarks.latency --threads 2 --output build/latency
    python -m benchmarks.latency --models zoo --peers paper --output build/zoo --resume
    python -m benchmarks.latency --models squeezenet,zoo/unet --peers dnnfusion,ort --rounds 30

Each model runs in a process of its own, where there are several, so that its memory is freed.
Outputs are compared with ONNX Runtime's before anything is timed. Exit code 1 where a peer failed
or was wrong. Files are whole at any time: a table of what is done is written after each model.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.arguments import count, duration, output
from benchmarks.models import model_names

if TYPE_CHECKING:
    from benchmarks.tables import Report

PEER_NAMES = (
    "dnnfusion",
    "fuseops",
    "rewritten",
    "unfused",
    "zero",
    "ort",
    "openvino",
    "mnn",
    "torch",
    "inductor",
)
SETS: Mapping[str, tuple[str, ...]] = {
    "default": ("dnnfusion", "fuseops", "zero", "ort"),
    "rivals": ("dnnfusion", "ort", "openvino", "mnn"),
    "paper": ("dnnfusion", "fuseops", "rewritten", "unfused", "ort", "openvino", "mnn"),
    "all": PEER_NAMES,
}
MODEL_SETS: Mapping[str, tuple[str, ...]] = {
    "light": model_names(built=False),
    "zoo": model_names(light=False, built=False, zoo=True),
}
PACKAGES = ("tvm-dnnfusion", "apache-tvm", "onnxruntime", "openvino", "MNN", "torch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it; see the module's docstring."""
    options = parser().parse_args(arguments)
    # Before TVM is loaded: its pool reads this once.
    os.environ["TVM_NUM_THREADS"] = str(options.threads)
    from benchmarks import markdown

    alone = len(options.models) == 1 and not options.resume
    report, lost = (_one_process(options), ()) if alone else _processes(options)
    print(markdown.to_markdown(report))
    if options.output is not None:
        _write(report, options.output)
    return 1 if lost or any(r.problem for r in report.results) else 0


def _one_process(options: argparse.Namespace) -> Report:
    from benchmarks import machine, tables
    from benchmarks.subject import run_model

    facts = asdict(machine.measure(options.threads))
    peak = float(str(facts["peak_gflops"]))
    results = [row for name in options.models for row in run_model(name, options, peak)]
    return tables.Report(facts, _versions(), options.rounds, tuple(results))


def _processes(options: argparse.Namespace) -> tuple[Report, Sequence[str]]:
    """One child per model; with `resume`, only those that the output file does not have.

    Returns the report, and the models whose process died.
    """
    from benchmarks import tables

    reports: list[Report] = []
    file = options.output.with_suffix(".json") if options.output is not None else None
    if options.resume and file is not None and file.is_file():
        reports.append(tables.from_json(file.read_text(encoding="utf-8")))
    done = {
        name
        for report in reports
        for name in report.models
        if all(report.find(name, peer) for peer in options.peers)
    }
    lost: list[str] = []
    for name in options.models:
        if name in done:
            print(f"{name}: done before", file=sys.stderr, flush=True)
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        found = _child(name, options)
        if found is None:
            lost.append(name)
        else:
            reports.append(found)
            if options.output is not None:
                _write(tables.merge(reports), options.output)
    if not reports:
        raise SystemExit("no model could be measured")
    return tables.merge(reports), lost


def _child(name: str, options: argparse.Namespace) -> Report | None:
    """The report of one model from a process of its own; None, and a word, where that died."""
    from benchmarks import tables

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "one"
        command = [sys.executable, "-m", "benchmarks.latency", "--models", name]
        command += ["--peers", ",".join(options.peers), "--threads", str(options.threads)]
        command += ["--rounds", str(options.rounds), "--seconds", str(options.seconds)]
        command += ["--output", str(output), *(["--memory"] if options.memory else [])]
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        made = output.with_suffix(".json")
        if not made.is_file():
            print(f"{name}: its process ended with code {code}", file=sys.stderr, flush=True)
            return None
        return tables.from_json(made.read_text(encoding="utf-8"))


def _write(report: Report, output: Path) -> None:
    from benchmarks import markdown, tables

    tables.write(
        {
            output.with_suffix(".json"): tables.to_json(report),
            output.with_suffix(".md"): markdown.to_markdown(report),
        }
    )


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument(
        "--models",
        type=_names(model_names(zoo=True), MODEL_SETS),
        default=MODEL_SETS["light"],
        help="comma-separated, or a set: light (the default), zoo",
    )
    made.add_argument(
        "--peers",
        type=_names(PEER_NAMES, SETS),
        default=SETS["default"],
        help=f"comma-separated, or a set: {', '.join(SETS)}",
    )
    made.add_argument("--threads", type=count, default=2, help="for every peer")
    made.add_argument("--rounds", type=count, default=15, help="turns of each peer")
    made.add_argument(
        "--seconds",
        type=duration,
        default=20.0,
        help="a slow peer gets fewer rounds to fit",
    )
    made.add_argument("--memory", action="store_true", help="measure memory too, in processes")
    made.add_argument("--output", type=output, help="path without suffix: .json and .md are made")
    made.add_argument("--resume", action="store_true", help="leave out what the output has")
    return made


def _names(
    known: Sequence[str], sets: Mapping[str, tuple[str, ...]]
) -> Callable[[str], tuple[str, ...]]:
    """A parser of comma-separated names and sets of them, for argparse."""

    def parse(text: str) -> tuple[str, ...]:
        parts = [part for part in text.split(",") if part]
        wrong = [part for part in parts if part not in known and part not in sets]
        if wrong or not parts:
            choices = ", ".join([*sets, *known])
            raise argparse.ArgumentTypeError(f"{text!r}: choose from {choices}")
        return tuple(dict.fromkeys(n for part in parts for n in sets.get(part, (part,))))

    return parse


if __name__ == "__main__":
    sys.exit(main())
