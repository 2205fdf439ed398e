"""What tuning brings: a model untuned, tuned, and under TVM's `static_shape_tuning`.

    python -m benchmarks.tuning --models zoo/mobilenet_v2 --trials 500 --output build/tuning
    python -m benchmarks.tuning --models all --trials 500 --seconds 600
    python -m benchmarks.tuning --models all --time-only

Three steps per model, each in a process of its own and each resumed where it was interrupted:
`ours` tunes the blocks (records in OUTPUT/MODEL/tuning.sqlite), `tvm` runs MetaSchedule on TVM's
fused functions (its JSON database in OUTPUT/MODEL/metaschedule), `time` builds all three and times
them in interleaved rounds, outputs compared with the untuned one's first: ours must be equal, TVM's
are marked where they are not. The table is written to
OUTPUT.md and OUTPUT.json after each model. `--time-only` takes the records as they are; `--seconds`
ends a tuning step after so long, to be continued by the next call.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MODELS = ("zoo/resnet50", "zoo/mobilenet_v2", "zoo/bert_base", "zoo/unet")
"""The models of the table."""
STEPS = ("ours", "tvm", "time")
INTERRUPTED = 4
TOLERANCE = 1e-3
"""Largest difference of an output from the untuned one's, relative to its largest element."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps, write the table; 1 where a step failed."""
    options = parser().parse_args(arguments)
    os.environ.setdefault("TVM_NUM_THREADS", str(options.threads))
    if options.step is not None:
        from benchmarks.tuning import steps

        return int(steps.STEPS[options.step](options.models[0], options))
    models = MODELS if options.models == ["all"] else options.models
    failed = 0
    for model in models:
        for step in ("time",) if options.time_only else STEPS:
            failed += _child(model, step, options) not in (0, INTERRUPTED)
        _write(options.output)
    return 1 if failed else 0


def _child(model: str, step: str, options: argparse.Namespace) -> int:
    command = [
        sys.executable, "-m", "benchmarks.tuning", "--models", model, "--step", step,
        "--trials", str(options.trials), "--threads", str(options.threads),
        "--output", str(options.output), "--rounds", str(options.rounds),
        "--search", options.search, "--population", str(options.population),
    ]  # fmt: skip
    try:
        limit = options.seconds if step != "time" else None
        return subprocess.run(command, check=False, timeout=limit).returncode
    except subprocess.TimeoutExpired:  # what was committed is kept
        print(f"{model} {step}: stopped after {options.seconds:g} s", file=sys.stderr)
        return INTERRUPTED


def folder_of(model: str, output: Path) -> Path:
    """Where a model's records and figures are."""
    return output / model.replace("/", "-")


def _write(output: Path) -> None:
    """The table of all models that have figures."""
    files = {m: folder_of(m, output) / "time.json" for m in _known(output)}
    found = {m: json.loads(f.read_text()) for m, f in files.items()}
    if not found:
        return
    from benchmarks.tables import write

    text = table(found)
    data = json.dumps(found, indent=2) + "\n"
    write({output.with_suffix(".json"): data, output.with_suffix(".md"): text})
    print(text, flush=True)


def _known(output: Path) -> list[str]:
    """Models with figures, those of the issue's table first, in its order."""
    names = [f.parent.name.replace("-", "/", 1) for f in sorted(output.glob("*/time.json"))]
    return sorted(names, key=lambda m: (m not in MODELS, MODELS.index(m) if m in MODELS else 0))


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as Markdown, milliseconds; "-" for what was not run."""
    lines = [
        "| model | untuned ms | tuned ms | gain | trials | TVM tuned ms | trials | TVM / untuned |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for model, row in found.items():
        own, tuned, theirs = (_median(row, n) for n in ("untuned", "tuned", "tvm"))
        gain = f"{own / tuned:.3f}" if own and tuned else "-"
        ahead = f"{theirs / own:.2f}" if own and theirs else "-"
        lines.append(
            f"| {model} | {_ms(own)} | {_ms(tuned)} | {gain} | {row.get('trials', 0)} | "
            f"{_ms(theirs)}{_mark(row)} | {row.get('tvm_trials', 0)} | {ahead} |"
        )
    wrong = [f"{m} {row['errors']['tvm']:.1e}" for m, row in found.items() if _mark(row)]
    if wrong:
        lines += ["", "\\* TVM's outputs are wrong, as a share of the largest: " + ", ".join(wrong)]
    return "\n".join(lines) + "\n"


def _mark(row: Mapping[str, Any]) -> str:
    """A star where TVM's outputs are not those of the model."""
    return "\\*" if row.get("errors", {}).get("tvm", 0.0) > TOLERANCE else ""


def _median(row: Mapping[str, Any], name: str) -> float | None:
    return float(row[name]["median_ms"]) if name in row else None


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="benchmarks.tuning", description=__doc__)
    made.add_argument("--models", type=lambda t: t.split(","), default=["all"])
    made.add_argument("--trials", type=int, default=500, help="candidates per model, on each side")
    made.add_argument("--search", default="genetic", help="ours: genetic, bayesian, metaschedule")
    made.add_argument("--population", type=int, default=512, help="of TVM's evolutionary search")
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--rounds", type=int, default=15)
    made.add_argument("--seconds", type=float, help="stop each tuning step after so long")
    made.add_argument("--output", type=Path, default=Path("build/tuning"))
    made.add_argument("--time-only", action="store_true")
    made.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    return made


if __name__ == "__main__":
    sys.exit(main())
