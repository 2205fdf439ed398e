"""`dnnfusion bench --device ...`: the same model in three plans, on a device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_dnnfusion.cli import ranges
from tvm_dnnfusion.cli.build import Build, Shapes, load_model
from tvm_dnnfusion.cli.exits import Exit
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.cli.place import Place
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.cli.subject import Inputs

if TYPE_CHECKING:
    from tvm_dnnfusion.ondevice import Report, Settings
    from tvm_dnnfusion.runtime import BenchOptions

RESULT, PAGE = "bench.json", "bench.html"
_NAMES = ("columns", "system", "pause", "cool_below", "folder")


@dataclass(frozen=True, slots=True)
class Extra:
    """The options of a bench on a device beyond where that is."""

    columns: tuple[str, ...]
    system: str
    pause: float
    cool_below: float | None
    folder: Path | None


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a bench on a device, as one argument `extra`."""
    flags = (
        click.option("--columns", default="OurB,OurB+,DNNF", show_default=True,
                     help="On a device, of the paper's: no fusion, FuseOps' plan, DNNFusion."),
        click.option("--system", type=click.Choice(["android", "linux"]), default=None,
                     help="The device's system. Default: by what its server is."),
        click.option("--pause", type=ranges.PAUSE_S, default=0.0, show_default=True,
                     metavar="SECONDS", help="On a device: rest between samples."),
        click.option("--cool-below", type=ranges.CELSIUS, default=None, metavar="CELSIUS",
                     help="On a device: first wait until it is cooler (2 minutes at most)."),
        click.option("-o", "--output", "folder", type=click.Path(path_type=Path), default=None,
                     help="On a device: folder for bench.json and bench.html; the same command "
                     "goes on with what an earlier one left there."),
    )  # fmt: skip

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in _NAMES}
        given["columns"] = tuple(dict.fromkeys(c.strip() for c in given["columns"].split(",")))
        given["system"] = given["system"] or ""
        if kwargs["place"] is None and (given["folder"] or given["system"]):
            raise click.UsageError("--output and --system are for a device: give --device")
        return command(*args, extra=Extra(**given), **kwargs)

    out: Any = wrapped
    for flag in reversed(flags):
        out = flag(out)
    return out  # type: ignore[no-any-return]


def run(
    model: str,
    shapes: Shapes | None,
    build: Build,
    place: Place,
    extra: Extra,
    inputs: Inputs,
    timing: BenchOptions,
    top: int,
    output: Output,
) -> Exit:
    """Measure and show.

    Returns VERIFICATION_FAILED where a column's results were wrong, ENVIRONMENT where one had no
    result. Lost devices and interrupts raise, with everything that was done on disk.
    """
    from tvm_dnnfusion.devices import registry
    from tvm_dnnfusion.ondevice import bench
    from tvm_dnnfusion.ondevice.place import check_half
    from tvm_dnnfusion.ondevice.records import read
    from tvm_dnnfusion.runtime.signature import signature_of

    if replace(build, tuning_records=None).planned:
        raise click.UsageError(
            "on a device a model is measured in the plans of --columns; options on how to plan do "
            "not apply"
        )
    settings = _settings(build, place, extra, timing)
    spec = registry.spec_for_target(build.target)
    check_half(spec, build.float16)
    file = None if extra.folder is None else extra.folder / RESULT
    before = None if file is None else read(file)
    with Phases(output.notes) as phases, _saying_what_is_kept(file):
        phases("import")
        module = load_model(model, shapes, build.params)
        build.check_sums(module, model)
        given = inputs.make(signature_of(module))
        report = bench(module, given, spec, place.address, settings, model=Path(model).stem,
                       before=before, keep=lambda r: _keep(r, file), say=phases,
                       note=output.note)  # fmt: skip
    _show(report, top, output)
    return _verdict(report)


class Interrupted(Exception):
    """The user's interrupt, with what is kept."""

    exit_code = Exit.INTERRUPTED


@contextmanager
def _saying_what_is_kept(file: Path | None) -> Generator[None]:
    """Tell what an end before the end leaves, and how to go on."""
    from tvm_dnnfusion.devices.sessions import LostError
    from tvm_dnnfusion.devices.sessions.errors import is_interrupt

    try:
        yield
    except LostError as error:
        raise LostError(f"{error}. {_kept(file)}") from error
    except (Exception, KeyboardInterrupt) as error:
        if not is_interrupt(error):
            raise
        raise Interrupted(f"interrupted: {_kept(file)}") from None


def _kept(file: Path | None) -> str:
    from tvm_dnnfusion.ondevice.records import read

    if file is None:
        return "nothing is kept; with -o FOLDER columns and samples are, and the command goes on"
    found = read(file)
    if found is None or not found.results:
        return f"there was nothing to keep in {file.parent} yet"
    parts = [f"{r.variant} ({len(r.samples_us)} samples)" for r in found.results]
    return f"{file} keeps {', '.join(parts)}; the same command goes on from there"


def _settings(build: Build, place: Place, extra: Extra, timing: BenchOptions) -> Settings:
    from tvm_dnnfusion.devices.sessions import CoolDown, Limits, TimingOptions
    from tvm_dnnfusion.ondevice import VARIANTS, Settings
    from tvm_dnnfusion.ondevice.known import opened

    unknown = [name for name in extra.columns if name not in VARIANTS]
    if unknown:
        raise click.BadParameter(
            f"{', '.join(unknown)}: the columns are {', '.join(VARIANTS)}", param_hint="--columns"
        )
    cool = CoolDown(pause_s=extra.pause, below_celsius=extra.cool_below)
    return Settings(
        variants=extra.columns,
        timing=TimingOptions(
            samples=timing.runs, warmup_s=timing.warmup_s, cool=cool, wall_s=timing.wall_s
        ),
        threads=build.threads,
        cluster=place.cluster,
        system=extra.system,
        limits=Limits(call_s=place.timeout_s),
        float16=build.float16,
        float16_sums=build.float16_sums or "float16",
        profile=timing.profile,
        records=opened(build.records()),
        database=build.profile(),
    )


def _keep(report: Report, file: Path | None) -> None:
    """Write both files, each whole."""
    if file is None:
        return
    from tvm_dnnfusion.ondevice import page
    from tvm_dnnfusion.ondevice.records import to_json
    from tvm_dnnfusion.runtime.files import whole_file

    file.parent.mkdir(parents=True, exist_ok=True)
    for path, text in ((file, to_json(report)), (file.with_name(PAGE), page.html([report]))):
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _show(report: Report, top: int, output: Output) -> None:
    from tvm_dnnfusion.ondevice import page

    last = next((r for r in reversed(report.results) if r.profile), None)
    parts = [page.facts(report), page.latency(report), *page.problems(report)]
    output.emit(asdict(report), *parts, *([page.kernels(last, top)] if last else []))


def _verdict(report: Report) -> Exit:
    problems = [result.problem for result in report.results if result.problem]
    if any(problem.startswith("wrong result") for problem in problems):
        return Exit.VERIFICATION_FAILED
    return Exit.ENVIRONMENT if problems else Exit.OK
