"""The cases of onnx's node test-suite, and how one of them is run.

A case is a model of one node (or of a function's nodes: "..._expanded") with inputs and expected
outputs. onnx seeds its random generator before each, so every process gets the same data.

The suite feeds everything at run time, also axes, shapes, bounds and biases, where real models have
constants. So each case with such operands is there a second time, as "...@const": all inputs of
rank 0 and 1 but the first are initializers in it.
"""

from __future__ import annotations

import enum
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

Pipeline = Callable[[onnx.ModelProto], Any]
"""ONNX model -> IRModule that `tvm.compile` takes."""


class Outcome(enum.Enum):
    """How a case ended. Only PASS and FAIL produced an output."""

    PASS = "pass"
    UNSUPPORTED = "unsupported"
    COMPILE = "does not compile"
    RUN = "does not run"
    FAIL = "wrong output"
    CRASH = "crash"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Result:
    """Outcome of a case; `text` says what went wrong, in one line."""

    outcome: Outcome
    text: str = ""


def collect() -> dict[str, Any]:
    """Name -> case, for all of onnx's node cases; about five seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = [_plain(case) for case in collect_testcases(None)]
    frozen = [f for f in map(_frozen, cases) if f is not None]
    return {case.name: case for case in [*cases, *frozen]}


def _plain(case: Any) -> Any:
    """The case with numpy arrays for the TensorProtos among its data."""
    case.data_sets = [(_arrays(given), _arrays(wanted)) for given, wanted in case.data_sets]
    return case


def _frozen(case: Any) -> Any | None:
    """The case with its small operands as initializers; None if it has none."""
    if len(case.data_sets) != 1 or len(case.data_sets[0][0]) != len(case.model.graph.input):
        return None
    given, wanted = case.data_sets[0]
    named = list(zip([value.name for value in case.model.graph.input], given, strict=True))
    bound = {
        name: value
        for name, value in named[1:]
        if isinstance(value, np.ndarray | np.generic) and value.ndim < 2 and value.dtype != object
    }
    if not bound:
        return None
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    kept = [value for value in model.graph.input if value.name not in bound]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in bound.items()
    )
    fed = [value for name, value in named if name not in bound]
    return replace(case, name=f"{case.name}@const", model=model, data_sets=[(fed, wanted)])


def _arrays(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return [_arrays(item) for item in value] if isinstance(value, list | tuple) else value


def tvm_alone(model: onnx.ModelProto) -> Any:
    """TVM's own importer, with its defaults and nothing of this library."""
    from tvm.relax.frontend.onnx import from_onnx

    return from_onnx(model)


def imported(model: onnx.ModelProto) -> Any:
    """This library's importer alone."""
    from tvm_dnnfusion.frontend.onnx import load_onnx

    return load_onnx(model, allow_symbolic=True)


def dnnfusion(model: onnx.ModelProto) -> Any:
    """This library's importer and DNNFusionPass, for the current target."""
    import tvm

    from tvm_dnnfusion.passes import DNNFusionPass

    return tvm.transform.Sequential([DNNFusionPass()])(imported(model))


PIPELINES: dict[str, Pipeline] = {"tvm": tvm_alone, "import": imported, "dnnfusion": dnnfusion}


MACHINES = ("cpu", "opencl")
"""Where the cases are run: this processor, or its first OpenCL device with the tiles of a Mali."""


def target(machine: str = "cpu") -> Any:
    """LLVM for the processor at hand, so that vectorised code is what is tested; or OpenCL."""
    import tvm

    if machine == "opencl":
        return tvm.target.Target({"kind": "opencl", "device": "mali"}, host={"kind": "llvm"})
    return tvm.target.Target({"kind": "llvm", "mcpu": tvm.target.codegen.llvm_get_system_cpu()})


def run_case(case: Any, pipeline: Pipeline, machine: str = "cpu") -> Result:
    """Import, compile, run on every data set and compare."""
    import tvm
    from tvm import relax

    goal = target(machine)
    devices = [tvm.opencl(0), tvm.cpu()] if machine == "opencl" else [tvm.cpu()]
    try:
        with goal:
            mod = pipeline(case.model)
    except Exception as err:
        return Result(Outcome.UNSUPPORTED, _line(err))
    try:
        vm = relax.VirtualMachine(tvm.compile(mod, goal), devices)
    except Exception as err:
        return Result(Outcome.COMPILE, _line(err))
    for given, expected in case.data_sets:
        try:
            found = vm["main"](*[_to_tvm(value, devices[0]) for value in given])
            outputs = _from_tvm(found)
        except Exception as err:
            return Result(Outcome.RUN, _line(err))
        if len(case.model.graph.output) == 1:
            outputs = [outputs]
        try:
            compare(expected, outputs, case.rtol, case.atol)
        except AssertionError as err:
            return Result(Outcome.FAIL, _line(err))
    return Result(Outcome.PASS)


def compare(expected: Any, found: Any, rtol: float, atol: float) -> None:
    """Equal structure, shapes and types; floats within onnx's tolerance, all else exactly.

    Raises AssertionError with the first difference.
    """
    if isinstance(expected, list | tuple):
        assert isinstance(found, list | tuple), f"one value for {len(expected)}"
        assert len(found) == len(expected), f"{len(found)} values for {len(expected)}"
        for want, got in zip(expected, found, strict=True):
            compare(want, got, rtol, atol)
        return
    want, got = np.asarray(expected), np.asarray(found)
    assert got.shape == want.shape, f"shape {got.shape} for {want.shape}"
    assert got.dtype == want.dtype, f"{got.dtype} for {want.dtype}"
    if want.dtype.kind in "biu" or want.dtype == object:
        np.testing.assert_array_equal(got, want)
        return
    if want.dtype.kind not in "fc":  # bfloat16 and the 8-bit floats: numpy knows no tolerance
        rtol, want, got = max(rtol, 2**-6), want.astype("float32"), got.astype("float32")
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def _to_tvm(value: Any, device: Any) -> Any:
    import tvm

    if isinstance(value, list | tuple):
        return [_to_tvm(item, device) for item in value]
    return tvm.runtime.tensor(np.ascontiguousarray(value).reshape(np.shape(value)), device)


def _from_tvm(value: Any) -> Any:
    if hasattr(value, "numpy"):
        return value.numpy()
    return [_from_tvm(item) for item in value]


def _line(err: Exception) -> str:
    text = " ".join(str(err).split())
    return f"{type(err).__name__}: {text[:240]}"
