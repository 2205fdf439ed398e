"""Bytes and instructions that each kernel executes: ours against TVM's dlight, for Mali and Adreno.

    python -m benchmarks.opencl                              # all, into benchmarks/results/opencl.*
    python -m benchmarks.opencl --only conv3x3 --variant ours-adreno --output build/opencl
    python -m benchmarks.opencl --races                      # ours, with a look for data races
    python -m benchmarks.opencl --list

Rows of an earlier run with the same --output stay where this one does not measure them.

Counts are exact and the same at every run: Oclgrind interprets every work-item. They are of what a
kernel asks for; caches, and how a GPU merges the accesses of a wave, are not in them. "least" is
what inputs, weights and outputs have together. The exit code is 1 where a kernel of ours cannot be
counted, has a race, or a wrong result.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from benchmarks.opencl.cases import CASES, Case
from benchmarks.opencl.counts import CountError, Counts, count

RESULTS = Path(__file__).resolve().parent.parent / "results" / "opencl"
DEVICES = {"mali": "mali-g76", "adreno": "adreno-640"}
OURS = tuple(f"ours-{family}" for family in DEVICES)
VARIANTS = tuple(f"{who}-{family}" for who in ("ours", "dlight") for family in DEVICES)


@dataclass(frozen=True, slots=True)
class Row:
    """One case under one variant; `counts` is None where `problem` says why."""

    case: str
    variant: str
    macs: int
    least_bytes: int
    counts: Counts | None
    problem: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.opencl", description=__doc__)
    names = [c.name for c in CASES]
    parser.add_argument("--only", action="append", choices=names, help="a case; repeatable")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="repeatable")
    parser.add_argument("--races", action="store_true",
                        help="also look for data races; default variants: ours")  # fmt: skip
    parser.add_argument("--output", type=Path, default=RESULTS, help="without suffix")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join(names))
        return 0
    rows = stored(given.output)
    variants = given.variant or (OURS if given.races else VARIANTS)
    for case in (c for c in CASES if c.name in (given.only or names)):
        for variant in variants:
            rows[case.name, variant] = measure(case, variant, given.races)
            print(_line(rows[case.name, variant]), flush=True)
            write(given.output, [rows[k] for k in sorted(rows, key=_place)])
    return int(any(r.counts is None or r.counts.races for r in rows.values() if r.variant in OURS))


def stored(output: Path) -> dict[tuple[str, str], Row]:
    """Rows of an earlier run, which this one replaces or leaves; none where there was none."""
    path = output.with_suffix(".json")
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    rows = [Row(**{**r, "counts": r["counts"] and Counts(**r["counts"])}) for r in found]
    return {(r.case, r.variant): r for r in rows}


def write(output: Path, rows: Sequence[Row]) -> None:
    """The table and its figures beside each other; each file whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(r) for r in rows], indent=1) + "\n"
    for suffix, content in ((".json", text), (".md", to_markdown(rows))):
        scratch = output.with_suffix(suffix + ".part")
        scratch.write_text(content, encoding="utf-8")
        scratch.replace(output.with_suffix(suffix))


def _place(key: tuple[str, str]) -> tuple[int, int]:
    return [c.name for c in CASES].index(key[0]), VARIANTS.index(key[1])


def measure(case: Case, variant: str, races: bool = False) -> Row:
    """Compile a case for a variant, run it once under Oclgrind, and compare its result."""
    expected = reference(case)
    least = case.bytes(expected.size)
    with tempfile.TemporaryDirectory() as folder:
        library, wanted = Path(folder) / "net.so", Path(folder) / "expected.npy"
        np.save(wanted, expected)
        try:
            executable(case, variant).export_library(str(library))
            script = ["-m", "benchmarks.opencl.execute", case.name, str(library), str(wanted)]
            return Row(case.name, variant, case.macs, least, count(script, races))
        except (CountError, RuntimeError, ValueError, TypeError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return Row(case.name, variant, case.macs, least, None, lines[-1][:200])


def reference(case: Case) -> Any:
    """The case on the CPU, by TVM without any fusion."""
    made = tvm.compile(case.module(), target="llvm")
    machine = relax.VirtualMachine(made, tvm.cpu())
    return machine["main"](*[tvm.runtime.tensor(a) for a in case.arrays()]).numpy()


def executable(case: Case, variant: str) -> Any:
    """The case for a GPU of a family, started by this machine."""
    from tvm_dnnfusion.devices import registry

    who, family = variant.split("-")
    if who == "dlight":
        host = tvm.target.Target({"kind": "llvm"})
        target = tvm.target.Target({"kind": "opencl", "device": family}, host=host)
        return tvm.compile(case.module(), target=target)
    from tvm_dnnfusion import compile

    spec = registry.on_host(registry.get(DEVICES[family]))
    target = {**registry.target_dict(spec), "host": {"kind": "llvm"}}
    return compile(case.module(), target=target).executable


def _line(row: Row) -> str:
    if row.counts is None:
        return f"{row.case} {row.variant}: {row.problem}"
    c = row.counts
    return (
        f"{row.case} {row.variant}: {c.kernels} kernels, {c.instructions} instructions, global "
        f"{c.global_bytes} (least {row.least_bytes}), local {c.local_bytes}, private "
        f"{c.loaded['private'] + c.stored['private']} bytes, {c.barriers} barriers"
        + ("" if c.races is None else f", {c.races} races")
    )


def to_markdown(rows: Sequence[Row]) -> str:
    """One line per case and family: ours, dlight's, and how many times less ours is."""
    out = [
        "# OpenCL kernels: executed bytes and instructions",
        "",
        "Counted by Oclgrind over all work-items of one run of a one-operator network "
        "(`python -m benchmarks.opencl`). KB of global memory read and written; thousands of LLVM "
        "instructions. Ratios are dlight's over ours: above 1, ours moves or executes less. "
        "Local memory is a part of global memory on Mali: there both together count. Races: what "
        "Oclgrind found in ours, writes of one value by several work-items included.",
        "",
        "| case | GPU | least KB | ours KB | dlight KB | ratio | ours kinstr | dlight kinstr | "
        "ratio | ours local KB | dlight local KB | ratio, both memories | kernels | races |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    by = {(r.case, r.variant): r for r in rows}
    for case in dict.fromkeys(r.case for r in rows):
        for family in DEVICES:
            ours, peer = (by.get((case, f"{who}-{family}")) for who in ("ours", "dlight"))
            if ours or peer:
                out.append(_markdown_row(case, family, ours, peer))
    problems = [f"- {r.case}, {r.variant}: {r.problem}" for r in rows if r.problem]
    return "\n".join([*out, "", *problems]).rstrip() + "\n"


def _markdown_row(case: str, family: str, ours: Row | None, peer: Row | None) -> str:
    a, b = (r.counts if r else None for r in (ours, peer))
    least = next(r.least_bytes for r in (ours, peer) if r is not None)
    cells = [
        case, family, _kilo(least),
        _kilo(a and a.global_bytes), _kilo(b and b.global_bytes),
        _ratio(a and a.global_bytes, b and b.global_bytes),
        _kilo(a and a.instructions), _kilo(b and b.instructions),
        _ratio(a and a.instructions, b and b.instructions),
        _kilo(a and a.local_bytes), _kilo(b and b.local_bytes),
        _ratio(a and a.global_bytes + a.local_bytes, b and b.global_bytes + b.local_bytes),
        f"{a.kernels if a else '-'} / {b.kernels if b else '-'}",
        "-" if a is None or a.races is None else str(a.races),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _kilo(value: int | None) -> str:
    return "-" if value is None else f"{value / 1000:,.1f}"


def _ratio(ours: int | None, peer: int | None) -> str:
    return f"{peer / ours:.1f}" if ours and peer else "-"


if __name__ == "__main__":
    sys.exit(main())
