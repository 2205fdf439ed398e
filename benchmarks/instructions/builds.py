"""A model as a library for an ARM CPU: by this library, on FuseOps' plan, by TVM's own pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

import tvm_dnnfusion
from benchmarks.instructions.ideal import Need, needs
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.runtime.link import find_linker

TRIPLE = "aarch64-linux-gnu"


@dataclass(frozen=True, slots=True)
class Build:
    """A linked library, and what its kernels need (nothing known of TVM's own)."""

    library: Path
    needs: dict[str, Need]


def target(mcpu: str) -> dict[str, object]:
    """One core of a CPU: the counters take one thread."""
    return {**registry.target_dict(registry.get(mcpu)), "num-cores": 1}


def build(model: onnx.ModelProto, peer: str, mcpu: str, folder: Path) -> Build:
    """The model under a peer's name: "dnnfusion", "half", "fuseops" or "zero"."""
    path = folder / f"{peer}.so"
    if peer == "zero":
        _export(_zero(model, mcpu), path)
        return Build(path, {})
    planner = "tvm" if peer == "fuseops" else "dnnfusion"
    made = tvm_dnnfusion.compile(
        model, target=target(mcpu), planner=planner, float16=peer == "half"
    )
    _export(made.executable, path)
    return Build(path, needs(made))


def _zero(model: onnx.ModelProto, mcpu: str) -> Any:
    made_for = tvm.target.Target(target(mcpu))
    module = from_onnx(model)
    with made_for:
        module = relax.get_pipeline("zero")(module)
    return tvm.compile(module, target=made_for)


def _export(executable: Any, path: Path) -> None:
    executable.export_library(str(path), fcompile=find_linker(TRIPLE))
