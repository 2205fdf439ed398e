"""A model compiled and linked for a device, in one of the bench's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_dnnfusion.api import compile as compile_model
from tvm_dnnfusion.devices.registry import target_dict
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.ondevice.records import Variant
from tvm_dnnfusion.profile.database import ProfileDB
from tvm_dnnfusion.profile.trials import TuningDB
from tvm_dnnfusion.report.bundle import kernel_origins
from tvm_dnnfusion.report.summary import summarise
from tvm_dnnfusion.runtime.link import find_linker
from tvm_dnnfusion.runtime.tolerance import reduction_length


@dataclass(frozen=True, slots=True)
class Built:
    """A library on disk. `origins` are the source layers of each kernel, `reduction` the longest
    sum in the model, by which results may differ, `dtype` the type it is computed in."""

    variant: Variant
    library: Path
    origins: Mapping[str, tuple[str, ...]]
    kernels: int
    reduction: int
    dtype: str = "float32"


def build(
    module: Any, variant: Variant, spec: DeviceSpec, folder: Path, float16: bool = False,
    float16_sums: str = "float16", records: TuningDB | None = None,
    database: ProfileDB | None = None,
) -> Built:  # fmt: skip
    """Compile a Relax module for the device and link it into the folder.

    The tuning records are for the kernels of every column: columns differ by fusion alone. The
    profile database is asked by DNNFusion's planner only.

    Raises what `api.compile` does, and EnvironmentLackError without a linker.
    """
    import tvm

    target = target_dict(spec)
    made = compile_model(
        module, tvm.target.Target(target), planner=variant.planner, rewrite=variant.rewrite,
        device=spec, float16=float16, float16_sums=float16_sums, tuning_records=records,
        profile=database if variant.planner == "dnnfusion" else None,
    )  # fmt: skip
    host = target.get("host", target)
    triple = str(host.get("mtriple", "")) if isinstance(host, Mapping) else ""
    library = folder / f"{variant.name.replace('+', 'plus').lower()}.so"
    made.executable.export_library(str(library), fcompile=find_linker(triple))
    graph = summarise(extend(made.graph), made.source_graph)
    return Built(
        variant, library, kernel_origins(graph, made.plan), len(made.plan.blocks),
        max(reduction_length(made.graph), reduction_length(made.source_graph)),
        "float16" if float16 else "float32",
    )  # fmt: skip
