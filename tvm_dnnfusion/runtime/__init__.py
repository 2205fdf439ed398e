"""Running compiled models: saving and loading, runs, verification, bisection, benchmarks."""

from tvm_dnnfusion.runtime.artefact import Artefact, load, read_record, save
from tvm_dnnfusion.runtime.bench import BenchOptions, BenchReport, KernelTime, bench
from tvm_dnnfusion.runtime.bisect import (
    Bisection,
    bisect,
    exposed,
    exposed_results,
    with_exposed,
)
from tvm_dnnfusion.runtime.errors import (
    ArtefactError,
    EnvironmentLackError,
    InputsError,
    ModuleError,
)
from tvm_dnnfusion.runtime.inputs import (
    check_inputs,
    fit_inputs,
    load_inputs,
    random_inputs,
    read_arrays,
)
from tvm_dnnfusion.runtime.memory import Memory, memory_of
from tvm_dnnfusion.runtime.module import Module, RunResult, build, run
from tvm_dnnfusion.runtime.reference import run_onnx, run_unfused
from tvm_dnnfusion.runtime.signature import Port, Signature, signature_of
from tvm_dnnfusion.runtime.tolerance import Tolerance, reduction_length, tolerance_of
from tvm_dnnfusion.runtime.verify import OutputCheck, Verification, compare, compare_all, verify

__all__ = [
    "Artefact",
    "ArtefactError",
    "BenchOptions",
    "BenchReport",
    "Bisection",
    "EnvironmentLackError",
    "InputsError",
    "KernelTime",
    "Memory",
    "Module",
    "ModuleError",
    "OutputCheck",
    "Port",
    "RunResult",
    "Signature",
    "Tolerance",
    "Verification",
    "bench",
    "bisect",
    "build",
    "check_inputs",
    "compare",
    "compare_all",
    "exposed",
    "exposed_results",
    "fit_inputs",
    "load",
    "load_inputs",
    "memory_of",
    "random_inputs",
    "read_arrays",
    "read_record",
    "reduction_length",
    "run",
    "run_onnx",
    "run_unfused",
    "save",
    "signature_of",
    "tolerance_of",
    "verify",
    "with_exposed",
]
