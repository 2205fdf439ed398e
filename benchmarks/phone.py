"""The phone bench over many models: OurB, OurB+ and DNNF, as in the paper's table of latencies.

    python -m benchmarks.phone --rpc-tracker HOST:PORT --rpc-key KEY --target adreno-650
    python -m benchmarks.phone --device virtual --target cortex-a76 --models se_block,attention

Each model's report is a file of its own, written after each column; the tables are made of all that
lie in the folder. A device that is lost is waited for, and the model under way goes on with the
samples that are missing; the same command later does the same. Exit codes are `dnnfusion`'s: 1
where a result was wrong, 2 for wrong use, 3 where the device stayed away or a column has no time, 4
where it was interrupted.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.arguments import models, within
from benchmarks.models import model_names
from tvm_dnnfusion.cli import ranges

if TYPE_CHECKING:
    from tvm_dnnfusion.ondevice import Report, Settings

MODEL_SETS = {
    "light": model_names(built=False),
    "small": model_names(light=False),
    "zoo": model_names(light=False, built=False, zoo=True),
}
LOSSES = 5
"""Losses of a device that had answered, one after another without a new sample: then it is taken to
be the model's doing."""
WRONG, USAGE, AWAY, STOPPED = 1, 2, 3, 4

NUMBERS = {
    "samples": (ranges.SAMPLES, 50, "samples per column"),
    "warmup": (ranges.PAUSE_S, 1.0, "seconds before them"),
    "pause": (ranges.PAUSE_S, 0.0, "seconds between samples"),
    "cool-below": (ranges.CELSIUS, None, "degrees Celsius"),
    "threads": (ranges.THREADS, None, "default: the target's cores"),
    "max-time": (ranges.MAX_TIME_S, 60.0, "seconds of a column's samples"),
    "timeout": (ranges.LIMIT_S, 300.0, "seconds of one run"),
    "wait": (ranges.PAUSE_S, 600.0, "seconds for a device that does not answer"),
    "poll": (ranges.PAUSE_S, 10.0, "seconds between tries"),
}
"""Options that are numbers: the range, the default, what it is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, print the table, write it; see the module's docstring."""
    from tvm_dnnfusion.devices.registry import DeviceError
    from tvm_dnnfusion.devices.sessions import SessionError
    from tvm_dnnfusion.ondevice.bench import OtherResultsError

    options = _checked(parser(), arguments)
    reports: list[Report] = []
    for name in options.models:
        try:
            reports.append(_model(name, options))
        except (SessionError, DeviceError, OtherResultsError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            print(f"what is done is kept in {options.output}", file=sys.stderr)
            return int(getattr(error, "exit_code", USAGE))
        except KeyboardInterrupt:
            print(f"{name}: interrupted; what is done is kept in {options.output}, and the same "
                  "command goes on", file=sys.stderr)  # fmt: skip
            return STOPPED
        finally:
            _write(options.output)
    print(to_markdown(reports))
    return _verdict(reports)


def _checked(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends with a usage error for what cannot be used."""
    from tvm_dnnfusion.cli.build import Build
    from tvm_dnnfusion.cli.options import parse_target
    from tvm_dnnfusion.cli.place import address_of
    from tvm_dnnfusion.devices import registry
    from tvm_dnnfusion.ondevice.known import opened
    from tvm_dnnfusion.ondevice.place import check_half

    options = made.parse_args(arguments)
    try:
        address = address_of(options.device, options.rpc_tracker, options.rpc_key)
        if address is None:
            made.error("where is the device? give --device, or --rpc-tracker and --rpc-key")
        options.address = address
        target = parse_target(options.target)
        options.spec = registry.spec_for_target(target)
        check_half(options.spec, options.float16)
        build = Build(target, database=options.db, tuning_records=options.tuning_records)
        options.records, options.database = opened(build.records()), build.profile()
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        made.error(f"--output {options.output}: {error.strerror}")
    except (click.ClickException, RuntimeError, ValueError) as error:
        made.error(
            error.format_message() if isinstance(error, click.ClickException) else str(error)
        )
    return options


def _verdict(reports: Sequence[Report]) -> int:
    problems = [r.problem for report in reports for r in report.results if r.problem]
    if any(problem.startswith("wrong result") for problem in problems):
        return WRONG
    return AWAY if problems else 0


def _model(name: str, options: argparse.Namespace) -> Report:
    """One model's report, through losses of the device.

    Raises LostError or UnreachableError where it does not come back within `--wait`.
    """
    from tvm_dnnfusion.devices.sessions import LostError, UnreachableError

    file = options.output / f"{name.replace('/', '-')}.json"
    patience = _Patience(options.wait)
    while True:
        taken = _samples(file)
        try:
            return _once(name, options, file, patience.answered)
        except (LostError, UnreachableError) as error:
            left = patience.lost(_samples(file) > taken)
            if left is None:
                raise
            print(f"{name}: {error}; waiting for the device, {left:.0f} s at most", file=sys.stderr)
            time.sleep(min(options.poll, left))


class _Patience:
    """How long a device is waited for: `wait` seconds since it last answered, `LOSSES` losses."""

    def __init__(self, wait: float) -> None:
        self.wait = wait
        self.heard = False
        self.losses = 0
        self.since = math.inf

    def answered(self) -> None:
        """The device is there."""
        self.heard = True

    def lost(self, further: bool) -> float | None:
        """Seconds to wait for it at most, None for no more; `further`: it gave new samples."""
        now = time.monotonic()
        if self.heard:
            self.losses = 1 if further else self.losses + 1
            self.since = now
        self.heard, self.since = False, min(self.since, now)
        left = self.since + self.wait - now
        return None if left <= 0 or self.losses > LOSSES else left


def _samples(file: Path) -> int:
    """Samples in a report so far."""
    from tvm_dnnfusion.ondevice.records import read

    report = read(file)
    return sum(len(r.samples_us) for r in report.results) if report else 0


def _once(
    name: str, options: argparse.Namespace, file: Path, answered: Callable[[], None]
) -> Report:
    from benchmarks.models import inputs, load
    from tvm_dnnfusion.frontend import load as import_model
    from tvm_dnnfusion.ondevice import bench
    from tvm_dnnfusion.ondevice.records import read, to_json
    from tvm_dnnfusion.runtime.files import whole_file

    def keep(report: Report) -> None:
        with whole_file(file) as temporary:
            temporary.write_text(to_json(report), encoding="utf-8")

    def say(step: str) -> None:
        if step != "connect":  # what comes after it
            answered()
        note(step)

    def note(text: str) -> None:
        print(f"{name}: {text}", file=sys.stderr)

    return bench(import_model(load(name)), inputs(name), options.spec, options.address,
                 _settings(options), model=name, before=read(file), keep=keep, say=say,
                 note=note)  # fmt: skip


def _settings(options: argparse.Namespace) -> Settings:
    from tvm_dnnfusion.devices.sessions import CoolDown, Limits, TimingOptions
    from tvm_dnnfusion.ondevice import Settings

    cool = CoolDown(options.pause, options.cool_below)
    timing = TimingOptions(options.samples, warmup_s=options.warmup, cool=cool,
                           wall_s=options.max_time)  # fmt: skip
    return Settings(options.columns, timing, options.threads, options.cores, options.system or "",
                    Limits(call_s=options.timeout), options.float16, options.float16_sums,
                    options.profile, options.records, options.database)  # fmt: skip


def _write(folder: Path) -> None:
    """The tables of all models whose reports lie in the folder."""
    from tvm_dnnfusion.ondevice import page
    from tvm_dnnfusion.ondevice.records import read
    from tvm_dnnfusion.runtime.files import whole_file

    reports = [r for file in sorted(folder.glob("*.json")) if (r := read(file)) is not None]
    for name, text in (("phone.md", to_markdown(reports)), ("phone.html", page.html(reports))):
        with whole_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def to_markdown(reports: Sequence[Report]) -> str:
    """The paper's table: milliseconds per column, and how much faster DNNF is."""
    from tvm_dnnfusion.ondevice import VARIANTS, page

    lines = list(dict.fromkeys(page.facts(report) for report in reports))
    head = ["model", *(f"{name} (ms)" for name in VARIANTS), "DNNF against OurB+"]
    lines += ["", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for report in reports:
        found = [report.result(name) for name in VARIANTS]
        times = [r.median_us / 1e3 if r and r.median_us else None for r in found]
        cells = ["-" if t is None else f"{t:.2f}" for t in times]
        ratio = f"{times[1] / times[2]:.2f} x" if times[1] and times[2] else "-"
        lines.append(f"| {report.model} | {' | '.join(cells)} | {ratio} |")
    problems = [f"- {r.model}: {why}" for r in reports for why in page.problems(r)]
    return "\n".join([*lines, *([""] if problems else []), *problems]) + "\n"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.phone", description=__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--device", help="virtual, rpc://..., tracker://.../KEY")
    made.add_argument("--rpc-tracker", metavar="HOST:PORT", help="instead: a TVM RPC tracker")
    made.add_argument("--rpc-key", metavar="KEY", help="and the key of its devices")
    made.add_argument("--target", required=True,
                      help="a device of `dnnfusion devices list`, or a TVM target")  # fmt: skip
    made.add_argument("--system", choices=("android", "linux"), help="default: as the server is")
    made.add_argument("--models", type=models(MODEL_SETS), default=MODEL_SETS["zoo"],
                      help="comma-separated, or light, small, zoo (the default)")  # fmt: skip
    made.add_argument("--columns", type=_columns, default=("OurB", "OurB+", "DNNF"),
                      help="comma-separated: OurB, OurB+, DNNF")  # fmt: skip
    made.add_argument("--output", type=Path, default=Path("build/phone"), help="folder")
    made.add_argument("--cores", choices=("all", "big", "little"), default="all")
    for name, (kind, default, what) in NUMBERS.items():
        made.add_argument(f"--{name}", type=within(kind), default=default, help=what)
    made.add_argument("--no-profile", dest="profile", action="store_false",
                      help="do not time the kernels")  # fmt: skip
    made.add_argument("--float16", action="store_true", help="convolutions and products in it")
    made.add_argument("--float16-sums", choices=("float16", "float32"), default="float16")
    made.add_argument("--tuning-records", metavar="FILE",
                      help="or none; default: the cache folder's, if any")  # fmt: skip
    made.add_argument("--db", type=Path, metavar="FILE",
                      help="profile database; default: the cache folder's, if any")  # fmt: skip
    return made


def _columns(text: str) -> tuple[str, ...]:
    from tvm_dnnfusion.ondevice import VARIANTS

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not set(names) <= set(VARIANTS):
        raise argparse.ArgumentTypeError(f"the columns are {', '.join(VARIANTS)}")
    return names


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
