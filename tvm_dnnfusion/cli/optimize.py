"""`dnnfusion optimize`: from a model to a verified library, its plan and its report."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_dnnfusion import __version__
from tvm_dnnfusion.cli import options
from tvm_dnnfusion.cli.build import Build, Shapes, module_of, summary_of
from tvm_dnnfusion.cli.dump import code_files, parse_formats
from tvm_dnnfusion.cli.output import Output
from tvm_dnnfusion.cli.progress import Phases
from tvm_dnnfusion.cli.quiet import without_chatter
from tvm_dnnfusion.cli.subject import Inputs, filling
from tvm_dnnfusion.cli.verification import Request, require, verification_table, verify_all
from tvm_dnnfusion.report import bundle
from tvm_dnnfusion.report.data import ReportData
from tvm_dnnfusion.report.format import bytes_text, names_text
from tvm_dnnfusion.report.table import TableData, stats_table, table

if TYPE_CHECKING:
    from tvm_dnnfusion.api import Compiled
    from tvm_dnnfusion.runtime.bench import KernelTime
    from tvm_dnnfusion.runtime.module import Module
    from tvm_dnnfusion.runtime.verify import Verification


@click.command("optimize")
@options.model
@click.option(
    "--output",
    "-o",
    "output_folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for library, plan, statistics and report. Default: MODEL's name with "
    "-fused, in this folder.",
)
@options.building
@filling
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="Compare with the unfused module and ONNX Runtime before anything is written.",
)
@click.option("--rtol", type=click.FloatRange(min=0), help="Relative tolerance.")
@click.option(
    "--atol",
    type=click.FloatRange(min=0),
    help="Absolute tolerance for values of order one; scaled by the length of sums.",
)
@click.option(
    "--profile/--no-profile",
    default=True,
    show_default=True,
    help="Measure the kernels for the report.",
)
@click.option(
    "--dump-code",
    metavar="FORMATS",
    callback=parse_formats,
    help="Also write the kernels' code: tir, ll, asm, separated by commas.",
)
@options.common
def command(
    model: str,
    output_folder: Path | None,
    input_shapes: Shapes | None,
    build: Build,
    inputs_file: Path | None,
    fill_mode: str,
    seed: int,
    verify: bool,
    rtol: float | None,
    atol: float | None,
    profile: bool,
    dump_code: tuple[str, ...],
    as_json: bool,
) -> None:
    """Rewrite, fuse, build and verify MODEL.

    MODEL is an ONNX file, a program saved with torch.export.save (.pt2), or a Relay module (JSON).
    Writes library.so, artefact.json, plan.json, stats.json and report.html, all or none; none when
    an output differs.
    """
    output = Output(as_json)
    given = Inputs(inputs_file, fill_mode, seed)
    folder = output_folder or Path(f"{Path(model).stem}-fused")
    check_place(folder)
    here = _runs_here(build, verify, profile)
    results: tuple[Verification, ...] = ()
    kernels: tuple[KernelTime, ...] = ()
    with Phases(output.notes) as phases:
        compiled = build.compile(model, input_shapes, phases)
        module = module_of(compiled, build.threads)
        inputs: dict[str, Any] = {}
        if here and (verify or profile):
            inputs = given.make(module.signature)
        if verify:
            phases("verify")
            request = Request(model, inputs, (), *build.limits(rtol, atol), build.threads)
            results = _verify(compiled, module, request, build, output)
            require(results)
        if profile and here:
            phases("profile")
            kernels = _profile(module, inputs, build.threads)
        phases("write")
        code = code_files(compiled, dump_code)
        files = _write(folder, model, compiled, module, build, results, kernels, phases, code)
    output.emit(
        {
            "model": model,
            "output": str(folder),
            "files": files,
            "stats": compiled.stats.to_dict(),
            "memory": compiled.memory.to_dict(),
            "lowering": dict(compiled.fused.lowered.reasons),
            "rewriting": compiled.rewrite_report.to_dict() if compiled.rewrite_report else None,
            "verification": bundle.verification_data(results),
            "kernels": bundle.kernel_data(kernels),
            "seconds": {name: round(s, 3) for name, s in phases.seconds.items()},
        },
        *_parts(compiled, results, kernels),
        f"Written to {folder}: {', '.join(files)}",
    )


def check_place(folder: Path) -> None:
    """Raise ArtefactError now, and not after a minute's work, where the folder cannot be written.

    Goes through the same steps as writing does, and stops before the folder appears.
    """
    from tvm_dnnfusion.runtime.artefact import RECORD
    from tvm_dnnfusion.runtime.files import whole_folder

    class Enough(Exception):
        pass

    with suppress(Enough), whole_folder(folder, RECORD):
        raise Enough


def _runs_here(build: Build, verify: bool, profile: bool) -> bool:
    """Whether code for the target runs on this machine; verifying needs that."""
    from tvm_dnnfusion.devices import cpu
    from tvm_dnnfusion.runtime.processor import foreign, places_of, processor_of

    triple = foreign(build.target)
    if not triple:
        if verify or profile:
            places_of(processor_of(build.target))
        return True
    if verify:
        raise click.UsageError(
            f"code for {triple} does not run on this machine ({cpu.cpu_info().arch}), so it cannot "
            f"be verified here; pass --no-verify (`dnnfusion verify --device` verifies it there)"
        )
    return False


def _verify(
    compiled: Compiled, module: Module, request: Request, build: Build, output: Output
) -> tuple[Verification, ...]:
    from tvm_dnnfusion.runtime import reduction_length, run

    length = reduction_length(compiled.source_graph)
    outputs = run(module, request.inputs, request.threads).outputs
    return verify_all(outputs, compiled.original, build.target, length, request, output)


def _profile(module: Module, inputs: dict[str, Any], threads: int | None) -> tuple[KernelTime, ...]:
    from tvm_dnnfusion.devices.threads import call_with
    from tvm_dnnfusion.runtime.bench import profile

    return call_with(threads, lambda report: profile(module, inputs))


def _write(
    folder: Path,
    model: str,
    compiled: Compiled,
    module: Module,
    build: Build,
    results: tuple[Verification, ...],
    kernels: tuple[KernelTime, ...],
    phases: Phases,
    code: dict[str, bytes],
) -> list[str]:
    """Write everything, whole or not at all; return the names of the files."""
    from tvm_dnnfusion.runtime import Artefact, save
    from tvm_dnnfusion.runtime.artefact import LIBRARY, RECORD

    statistics = {
        "model": model,
        "stats": compiled.stats.to_dict(),
        "memory": compiled.memory.to_dict(),
        "lowering": dict(compiled.fused.lowered.reasons),
        "rewriting": compiled.rewrite_report.to_dict() if compiled.rewrite_report else None,
        "verification": bundle.verification_data(results),
        "kernels": bundle.kernel_data(kernels),
        "seconds": {name: round(s, 3) for name, s in phases.seconds.items()},
    }
    further = bundle.files(report_data(model, compiled, results, kernels), statistics) | code
    record = Artefact(
        model=Path(model).name,
        signature=module.signature,
        target=dict(build.target),
        device=compiled.device.name,
        threads=build.threads,
        kernels=dict(module.kernels),
    )
    with without_chatter():
        save(compiled.executable, record, folder, further=further)
    return [LIBRARY, RECORD, *further]


def report_data(
    model: str,
    compiled: Compiled,
    results: tuple[Verification, ...],
    kernels: tuple[KernelTime, ...],
) -> ReportData:
    """What the HTML report shows of one optimisation."""
    from tvm_dnnfusion._versions import installed

    target = " ".join(f"{k}={v}" for k, v in sorted(compiled.device.target))
    facts = (
        ("Planner", compiled.plan.planner),
        ("Device", compiled.device.name),
        ("Target", target),
        ("tvm-dnnfusion", __version__),
        ("Apache TVM", installed("apache-tvm") or "from source"),
    )
    return ReportData(
        title=Path(model).name,
        plan=compiled.plan,
        graph=summary_of(compiled),
        stats=compiled.stats,
        facts=facts,
        rules=bundle.rule_lines(compiled.rewrite_report),
        kernels=bundle.block_times(kernels, compiled.plan, compiled.fused.lowered.kernel_of),
        checks=bundle.check_lines(results),
    )


def _parts(
    compiled: Compiled, results: tuple[Verification, ...], kernels: tuple[KernelTime, ...]
) -> list[TableData | str]:
    """The result for people: the table, what was rewritten, what was verified, what takes long."""
    parts: list[TableData | str] = [stats_table(compiled.stats)]
    held = compiled.memory.to_dict()
    sizes = ", ".join(f"{name} {bytes_text(size)}" for name, size in held.items())
    parts.append(f"Memory while running: {sizes}")
    reasons = compiled.fused.lowered.reasons
    if reasons:
        words = [f"{block}: {why}" for block, why in reasons.items()]
        parts.append(f"Slower kernels than there are: {names_text(words, 4)}")
    report = compiled.rewrite_report
    if report is not None and any(report.counts.values()):
        fired = sorted(((n, c) for n, c in report.counts.items() if c), key=lambda i: (-i[1], i[0]))
        words = [f"{name} ({count})" for name, count in fired]
        parts.append(f"Rewriting: {names_text(words, 8)}")
    if results:
        parts.append(verification_table(results))
    if kernels:
        rows = bundle.kernel_rows(kernels, 5)
        columns = ("kernel", "calls", "time", "share", "source layers")
        parts.append(table("Slowest kernels", columns, rows, right=(1, 2, 3)))
    return parts
