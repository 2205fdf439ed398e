"""Whole models through `tvm.opencl(0)`, here and behind an RPC server, against ONNX Runtime.

    python -m benchmarks.opencl.models                           # all models, both families of GPUs
    python -m benchmarks.opencl.models --models squeezenet,attention --target mali-g76
    python -m benchmarks.opencl.models --device rpc://192.168.1.7:9090   # a board's own GPU

Each row is written when it is there; rows of an earlier run with the same --output are not run
again, but for those with a problem. Without --device a server is started on this machine. Exit
code 1 where a result is wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.arguments import models
from benchmarks.models import inputs, load, model_names
from benchmarks.opencl.__main__ import RESULTS
from tvm_dnnfusion.devices.sessions import Limits, Session, SessionError

TARGETS = ("mali-g76", "adreno-650")
LOCAL, SERVER = "local", "RPC"
LIMITS = Limits(call_s=1800.0)
"""PoCL compiles each kernel when it first runs: minutes for a model of a hundred, on a busy machine
more."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model with the tiles of one GPU at one place.

    `max_abs` is the largest error of any output, `rms_rel` the largest root mean square of the
    error over that of the expected values. `problem` is "" where all outputs are within the
    library's tolerance.
    """

    model: str
    target: str
    where: str
    device: str
    kernels: int
    max_abs: float
    rms_rel: float
    problem: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    known = stored(options.output)
    with _addresses(options.device) as addresses:
        for name in options.models:
            for target in options.target or TARGETS:
                todo = {
                    w: a for w, a in addresses.items()
                    if known.get((name, target, w)) is None or known[name, target, w].problem
                }  # fmt: skip
                for row in check(name, target, todo) if todo else ():
                    known[name, target, row.where] = row
                    print(_line(row), flush=True)
                    write(options.output, [known[k] for k in sorted(known, key=_place)])
    return int(any(row.problem for row in known.values()))


def check(name: str, target: str, addresses: Mapping[str, str]) -> Iterator[Row]:
    """Compile a model once, run it at every address, and compare.

    The host's code is this machine's: a device must have the same processor.
    """
    from tvm_dnnfusion.runtime.reference import run_onnx

    model, feed = load(name), inputs(name)
    expected = run_onnx(model, feed)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "model.so"
        kernels, terms = _compiled(model, target, library)
        for where, address in addresses.items():
            yield _run(Row(name, target, where, "", kernels, 0.0, 0.0), address, library,
                       list(feed.values()), expected, terms)  # fmt: skip


def _compiled(model: Any, target: str, library: Path) -> tuple[int, int]:
    """The library of a model for a GPU, started by this machine; its kernels and longest sum."""
    import tvm
    from tvm import tirx

    from tvm_dnnfusion import compile
    from tvm_dnnfusion.devices import registry
    from tvm_dnnfusion.runtime.tolerance import reduction_length

    spec = registry.on_host(registry.get(target))
    made_for = tvm.target.Target({**registry.target_dict(spec), "host": {"kind": "llvm"}})
    made = compile(model, made_for, device=spec)
    made.executable.export_library(str(library))
    functions = [f for f in made.module.functions.values() if isinstance(f, tirx.PrimFunc)]
    return len(functions), reduction_length(made.graph)


def _run(
    row: Row, address: str, library: Path, feed: list[Any], expected: Mapping[str, Any], terms: int
) -> Row:
    from tvm_dnnfusion.runtime.verify import compare_all

    common = {"model": row.model, "target": row.target, "where": row.where, "kernels": row.kernels}
    try:
        with Session(address, limits=LIMITS) as session:
            found = session.load(library, processor="opencl").run(feed)
            device = f"{session.info.system} {session.info.machine}".strip()
    except SessionError as error:
        return Row(**common, device="", max_abs=0.0, rms_rel=0.0, problem=str(error)[:300])
    outputs = dict(zip(expected, found, strict=True))
    checks = compare_all(expected, outputs, reduction=terms).outputs
    wrong = [f"{c.name}: {c.reason or f'{c.wrong} elements'}" for c in checks if not c.ok]
    return Row(
        **common,
        device=device,
        max_abs=max(c.max_abs for c in checks),
        rms_rel=max(c.rms_rel for c in checks),
        problem="; ".join(wrong)[:300],
    )


@contextmanager
def _addresses(device: str | None) -> Iterator[dict[str, str]]:
    """Where to run: the one that was named, or this machine with and without a server between."""
    if device is not None:
        yield {device: device}
        return
    with server() as address:
        yield {LOCAL: "local", SERVER: address}


@contextmanager
def server() -> Iterator[str]:
    """The package's RPC server as a process of its own; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tvm_dnnfusion.devices.server", "--host", "127.0.0.1",
         "--port", "9400", "--port-end", "9500"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield _listening(process)
    finally:
        process.terminate()
        process.wait()


def stored(output: Path) -> dict[tuple[str, str, str], Row]:
    """Rows of an earlier run."""
    path = output.with_suffix(".json")
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    rows = [Row(**r) for r in found]
    return {(r.model, r.target, r.where): r for r in rows}


def write(output: Path, rows: Sequence[Row]) -> None:
    """Rows as JSON and as a table, each file whole or not at all."""
    from tvm_dnnfusion.runtime.files import whole_file

    output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(r) for r in rows], indent=1) + "\n"
    for suffix, content in ((".json", text), (".md", to_markdown(rows))):
        with whole_file(output.with_suffix(suffix)) as scratch:
            scratch.write_text(content, encoding="utf-8")


def to_markdown(rows: Sequence[Row]) -> str:
    """The table of all rows."""
    out = [
        "# Models through OpenCL: outputs against ONNX Runtime",
        "",
        "`python -m benchmarks.opencl.models`. Error: the largest of any output, and the root mean "
        "square of it over that of the expected values. Kernels: functions of the module.",
        "",
        "| model | tiles of | where | kernels | largest error | relative error (rms) | equal |",
        "|---|---|---|---|---|---|---|",
    ]
    out += [
        f"| {r.model} | {r.target} | {r.where} | {r.kernels} | {r.max_abs:.1e} | {r.rms_rel:.1e} "
        f"| {r.problem or 'yes'} |"
        for r in rows
    ]
    return "\n".join(out) + "\n"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.opencl.models", description=__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--models", type=models(), default=model_names(), help="comma-separated")
    made.add_argument("--target", action="append", help=f"repeatable; default {TARGETS}")
    made.add_argument("--device", help="rpc://HOST:PORT, tracker://HOST:PORT/KEY")
    made.add_argument("--output", type=Path, default=RESULTS.with_name("opencl-models"),
                      help="without suffix")  # fmt: skip
    return made


def _listening(process: subprocess.Popen[str]) -> str:
    """The address that a server says it listens at. Raises RuntimeError where it ends instead."""
    said: list[str] = []
    for line in process.stdout or ():
        said.append(line)
        if line.startswith("ready "):
            return f"rpc://{line.split()[1]}"
    raise RuntimeError(f"the RPC server did not start: {''.join(said)[-500:]}")


def _place(key: tuple[str, str, str]) -> tuple[int, str, str]:
    names = model_names(zoo=True)
    return names.index(key[0]), key[1], key[2]


def _line(row: Row) -> str:
    return (
        f"{row.model} {row.target} {row.where}: "
        + (row.problem or f"equal, largest error {row.max_abs:.1e}, rms {row.rms_rel:.1e}")
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
