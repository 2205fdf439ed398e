"""Genuine Relay modules that TVM 0.14 wrote, with inputs and the outputs that it computed.

`cases.zip` holds NAME.json (tvm.ir.save_json), NAME.params (save_param_dict) where the module takes
its weights as parameters, and NAME.npz: in.PARAMETER, out.0, out.1, ... A folder of the same layout
beside the checkout adds to these, where there is one.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_dnnfusion.relay import load_json

ARCHIVE = Path(__file__).parent / "cases.zip"
BESIDE = Path(__file__).resolve().parents[3] / "shared" / "relay" / "cases"
RTOL, ATOL = 1e-4, 1e-5


@dataclass(frozen=True)
class Case:
    """One module as saved."""

    name: str
    text: str
    params: bytes | None
    arrays: dict[str, np.ndarray]

    @property
    def outputs(self) -> list[np.ndarray]:
        """What TVM 0.14 computed."""
        return [self.arrays[f"out.{i}"] for i in range(len(self.arrays)) if self._has(i)]

    def _has(self, index: int) -> bool:
        return f"out.{index}" in self.arrays

    def load(self) -> tvm.IRModule:
        """The Relax module."""
        return load_json(self.text, self.params)

    def run(self, mod: tvm.IRModule) -> list[np.ndarray]:
        """Outputs of a module for the case's inputs, by the names that the import kept."""
        machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target("llvm")), tvm.cpu())
        names = [str(name) for name in mod["main"].attrs["input_names"]]
        found = machine["main"](*[tvm.runtime.tensor(self.arrays[f"in.{n}"]) for n in names])
        return flat(found)

    def save(self, folder: Path, name: str = "") -> Path:
        """Write the module, and its parameters beside it; the path of the former."""
        path = folder / (name or f"{self.name}.json")
        path.write_text(self.text, encoding="utf-8")
        if self.params is not None:
            path.with_suffix(".params").write_bytes(self.params)
        return path


def flat(value: Any) -> list[np.ndarray]:
    """Results of a call in order."""
    if hasattr(value, "numpy"):
        return [value.numpy()]
    return [array for item in value for array in flat(item)]


def close(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    """Raise AssertionError unless number, type, shape and values agree."""
    assert [(a.shape, a.dtype) for a in found] == [(a.shape, a.dtype) for a in wanted]
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=RTOL, atol=ATOL)


def _archived() -> list[str]:
    with zipfile.ZipFile(ARCHIVE) as archive:
        return sorted(n.removesuffix(".json") for n in archive.namelist() if n.endswith(".json"))


ARCHIVED = _archived()
OUTSIDE = sorted({p.stem for p in BESIDE.glob("*.json")} - set(ARCHIVED))


def case(name: str) -> Case:
    """A case of the archive, or of the folder beside the checkout."""
    read = _read_archive if name in ARCHIVED else _read_folder
    text, arrays = read(f"{name}.json"), read(f"{name}.npz")
    assert text is not None and arrays is not None
    with np.load(io.BytesIO(arrays)) as data:
        return Case(name, text.decode("utf-8"), read(f"{name}.params"), dict(data))


def _read_archive(name: str) -> bytes | None:
    with zipfile.ZipFile(ARCHIVE) as archive:
        return archive.read(name) if name in archive.namelist() else None


def _read_folder(name: str) -> bytes | None:
    path = BESIDE / name
    return path.read_bytes() if path.is_file() else None
