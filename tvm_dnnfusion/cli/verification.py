"""Comparing a compiled model with its references, and finding the first block that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_dnnfusion.cli.exits import VerificationFailed
from tvm_dnnfusion.report.bundle import check_text
from tvm_dnnfusion.report.table import TableData, table

if TYPE_CHECKING:
    from tvm_dnnfusion.api import Compiled
    from tvm_dnnfusion.cli.output import Output
    from tvm_dnnfusion.runtime.bisect import Bisection
    from tvm_dnnfusion.runtime.verify import Verification

UNFUSED, ONNXRUNTIME = "unfused", "onnxruntime"
REFERENCES = (UNFUSED, ONNXRUNTIME)


@dataclass(frozen=True, slots=True)
class Request:
    """What to compare with and how; `against` empty: all references that are at hand."""

    model: str
    inputs: Mapping[str, Any]
    against: tuple[str, ...] = ()
    rtol: float | None = None
    atol: float | None = None
    threads: int | None = None


def verify_all(
    outputs: Mapping[str, Any],
    original: Any,
    target: Mapping[str, object],
    reduction: int,
    request: Request,
    output: Output,
) -> tuple[Verification, ...]:
    """Compare outputs with those of each reference.

    `original` is the module as imported, `target` what the unfused reference is compiled for, which
    for a GPU's is this machine's CPU (without fusion TVM has no schedules for a GPU),
    `reduction` the longest sum in the model. References that were asked for by name must work;
    ONNX Runtime is otherwise left out, with a warning, where it is absent or refuses the model.
    """
    from tvm_dnnfusion.runtime import compare_all
    from tvm_dnnfusion.runtime.reference import ONNX_RUNTIME, run_unfused
    from tvm_dnnfusion.runtime.reference import UNFUSED as UNFUSED_NAME

    names = request.against or REFERENCES
    references: dict[str, Mapping[str, Any]] = {}
    if UNFUSED in names:
        references[UNFUSED_NAME] = run_unfused(
            original, _on_cpu(target), request.inputs, threads=request.threads
        )
    if ONNXRUNTIME in names:
        found = _onnx_runtime(request, output)
        if found is not None:
            references[ONNX_RUNTIME] = found
    return tuple(
        compare_all(
            expected,
            outputs,
            against=name,
            reduction=reduction,
            rtol=request.rtol,
            atol=request.atol,
        )
        for name, expected in references.items()
    )


def _on_cpu(target: Mapping[str, object]) -> Mapping[str, object]:
    """A target of a CPU as it is, this machine's in place of a GPU's."""
    from tvm_dnnfusion.devices import registry
    from tvm_dnnfusion.runtime.processor import CPU, processor_of

    return target if processor_of(target) == CPU else registry.target_dict(registry.host())


def _onnx_runtime(request: Request, output: Output) -> Mapping[str, Any] | None:
    """Outputs of ONNX Runtime; None where it may be left out and cannot be had."""
    from tvm_dnnfusion.relay import looks_like_relay
    from tvm_dnnfusion.runtime import run_onnx
    from tvm_dnnfusion.runtime.errors import ModuleError

    asked = ONNXRUNTIME in request.against
    if Path(request.model).suffix == ".pt2" or looks_like_relay(request.model):
        if asked:
            raise click.UsageError("ONNX Runtime runs ONNX files only")
        return None
    if not asked and util.find_spec("onnxruntime") is None:
        output.warn(
            "ONNX Runtime is not installed: compared with the unfused module only "
            "(pip install onnxruntime)"
        )
        return None
    try:
        return run_onnx(request.model, request.inputs, request.threads)
    except ModuleError as error:
        if asked:
            raise
        reason = " ".join(str(error).split())
        output.warn(f"{reason}: compared with the unfused module only")
        return None


def verification_table(verifications: Iterable[Verification]) -> TableData:
    """One row per reference and output."""
    rows = [
        (v.against, c.name, "passed" if c.ok else "FAILED", check_text(c))
        for v in verifications
        for c in v.outputs
    ]
    return table("Verification", ("against", "output", "", "difference"), rows)


def require(verifications: tuple[Verification, ...]) -> None:
    """Raise VerificationFailed, naming the first output that differs, unless all agree."""
    if not verifications:
        raise VerificationFailed("verification failed: there was nothing to compare with")
    for v in verifications:
        for check in v.outputs:
            if not check.ok:
                raise VerificationFailed(
                    f"verification failed: output {check.name} differs from {v.against}: "
                    f"{check_text(check)}. `dnnfusion verify --bisect` finds the first wrong block"
                )
        if not v.ok:
            raise VerificationFailed(f"verification failed: no output to compare with {v.against}")


def bisect_compiled(compiled: Compiled, request: Request) -> Bisection:
    """Find the first block of the compiled plan whose results differ from single ops'."""
    from tvm_dnnfusion.codegen.lower import lower
    from tvm_dnnfusion.frontend.relax import from_relax
    from tvm_dnnfusion.frontend.to_relax import to_relax
    from tvm_dnnfusion.pipeline import schedule_module, target_fields
    from tvm_dnnfusion.runtime import bisect, build, run, with_exposed

    graph = with_exposed(compiled.graph, compiled.plan)
    places = tuple(range(len(graph.outputs)))
    kept = {k: v for k, v in from_relax(compiled.original).attrs.items() if k != "output_names"}
    imported = replace(from_relax(compiled.original), result=places, attrs=kept)
    target = target_fields(compiled.target)

    def tensors(mod: Any, target: Mapping[str, object]) -> dict[str, Any]:
        outputs = run(build(mod, target), request.inputs, request.threads).outputs
        return dict(zip(graph.outputs, outputs.values(), strict=True))

    def fused() -> dict[str, Any]:
        limits = (compiled.fused.winograd, compiled.fused.winograd_memory)
        lowered = lower(imported, graph, compiled.plan, compiled.device, *limits)
        return tensors(schedule_module(lowered.module, compiled.device), target)

    return bisect(
        compiled.graph,
        compiled.plan,
        fused,
        lambda: tensors(to_relax(imported, graph), _on_cpu(target)),
        rtol=request.rtol,
        atol=request.atol,
    )
