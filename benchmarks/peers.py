"""The peers of a comparison: each compiles a model and runs it with the same number of threads.

| peer      | what it is                                                                    |
|-----------|-------------------------------------------------------------------------------|
| dnnfusion | this library                                                                  |
| fuseops   | this library's rewriting and schedules on the groups that TVM's FuseOps makes |
| rewritten | this library's rewriting and schedules, every operator a kernel of its own    |
| unfused   | the same without rewriting                                                    |
| zero      | TVM's `zero` pipeline: FuseOps and FuseTIR, no schedules on CPU               |
| ort       | ONNX Runtime, all of its graph optimisations                                  |

Those that need not be installed are in `runtimes.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

import tvm_dnnfusion
from benchmarks.slowest import kernel_flops
from tvm_dnnfusion.devices import registry, threads
from tvm_dnnfusion.runtime.module import Module
from tvm_dnnfusion.runtime.signature import signature_of

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Library:
    """What this library compiled: a module to profile, and the FLOPs of each of its kernels."""

    module: Module
    kernel_flops: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Session:
    """A compiled model with its inputs bound: `run` is one inference, `outputs` its last results.

    `flops` are those of the graph that it runs, 0 where the peer does not tell; `library` is what
    this library made.
    """

    run: Callable[[], None]
    outputs: Callable[[], list[np.ndarray]]
    flops: int = 0
    library: Library | None = None

    def seconds(self) -> float:
        """Duration of one inference."""
        start = time.perf_counter()
        self.run()
        return time.perf_counter() - start


Prepare = Callable[[onnx.ModelProto, Arrays, int], Session]
"""(model, inputs by name, threads) -> Session"""


def prepare_ort(model: onnx.ModelProto, feed: Arrays, count: int) -> Session:
    """ONNX Runtime on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = count
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    last: list[np.ndarray] = []

    def run() -> None:
        last[:] = session.run(None, dict(feed))

    return Session(run, lambda: list(last))


def prepare_zero(model: onnx.ModelProto, feed: Arrays, count: int) -> Session:
    """TVM's own CPU pipeline with operator fusion."""
    target = tvm.target.Target(registry.target_dict(registry.host()))
    module = from_onnx(model)
    with target:
        module = relax.get_pipeline("zero")(module)
    return virtual_machine(tvm.compile(module, target=target), list(feed.values()), count)


def prepare_library(model: onnx.ModelProto, feed: Arrays, count: int, **choices: Any) -> Session:
    """This library; `choices` go to `tvm_dnnfusion.compile`."""
    compiled = tvm_dnnfusion.compile(model, threads=count, **choices)
    module = Module(compiled.executable, signature_of(compiled.original), threads=count)
    made = Library(module, kernel_flops(compiled))
    session = virtual_machine(compiled.executable, list(feed.values()), count)
    return replace(session, flops=sum(made.kernel_flops.values()), library=made)


def virtual_machine(
    executable: tvm.runtime.Executable, feed: list[np.ndarray], count: int
) -> Session:
    """A session on TVM's virtual machine; inputs are copied once, outputs only when asked for."""
    report = threads.configure(count)
    if report.count != count:
        raise RuntimeError(f"TVM runs {report.count} threads, not {count}: {report.why}")
    machine = relax.VirtualMachine(executable, tvm.cpu())
    machine.set_input("main", *(tvm.runtime.tensor(array) for array in feed))

    def run() -> None:
        machine.invoke_stateful("main")

    def outputs() -> list[np.ndarray]:
        found = machine.get_outputs("main")
        parts = [found] if hasattr(found, "numpy") else list(found)
        return [part.numpy() for part in parts]

    return Session(run, outputs)


PEERS: dict[str, Prepare] = {
    "ort": prepare_ort,
    "dnnfusion": prepare_library,
    "fuseops": partial(prepare_library, planner="tvm"),
    "rewritten": partial(prepare_library, planner="none"),
    "unfused": partial(prepare_library, planner="none", rewrite=False),
    "zero": prepare_zero,
}
"""ONNX Runtime comes first: the others' outputs are compared with its."""
