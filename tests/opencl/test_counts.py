"""The meter of executed bytes and instructions: what it reads from Oclgrind, and one real run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.opencl.__main__ import Row, main, measure, to_markdown
from benchmarks.opencl.cases import CASES
from benchmarks.opencl.counts import CountError, count, parse, runtime

RACING = """
import numpy as np, tvm
from tvm.script import from_source
from tvm_dnnfusion import opencl
opencl.load()
kernel = from_source('''
# from tvm.script import tirx as T
@T.prim_func
def kernel(a: T.Buffer((8,), "float32")):
    for x in T.thread_binding(8, thread="threadIdx.x"):
        a[{index}] = T.cast({value}, "float32")
''')
mod = tvm.IRModule({{"kernel": kernel.with_attr("global_symbol", "kernel")}})
made = tvm.compile(mod, tvm.target.Target({{"kind": "opencl"}}, "llvm"))
out = tvm.runtime.tensor(np.zeros(8, "float32"), tvm.opencl(0))
made["kernel"](out)
out.numpy()
"""

PRINTED = """
Instructions executed for kernel 'a_kernel':
         1,024 - load global (4096 bytes)
           512 - call _Z7barrierj()
           256 - store local (1024 bytes)
           100 - call _Z6vload4mPU3AS1Kf()
            50 - call _Z7vstore8Dv8_DhmPU3AS3Dh()
             3 - call _Z6vload4mPKf()

Instructions executed for kernel 'b_kernel':
            10 - store global (160 bytes)
             4 - load constant (16 bytes)
             2 - call llvm.fmuladd.f32()

"""


def test_counts_of_all_kernels_are_added() -> None:
    found = parse(PRINTED)
    assert (found.kernels, found.instructions, found.barriers) == (2, 1961, 512)
    assert found.global_bytes == 4096 + 16 + 160 + 100 * 16
    assert found.local_bytes == 1024 + 50 * 16
    assert found.loaded["private"] == 3 * 16
    assert found.races is None, "nobody looked"


def test_a_run_without_kernels_is_no_count() -> None:
    with pytest.raises(CountError, match="no kernel ran"):
        parse("nothing")


def test_the_table_gives_ratios_and_problems() -> None:
    rows = [
        Row("c", "ours-mali", 1, 4000, parse(PRINTED)),
        Row("c", "dlight-mali", 1, 4000, None, "no result within 900 s"),
    ]
    table = to_markdown(rows)
    assert "| c | mali | 4.0 | 5.9 | - | - | 2.0 |" in table
    assert "- c, dlight-mali: no result within 900 s" in table


@pytest.fixture
def oclgrind(device: object) -> None:
    """Oclgrind, and the library that runs kernels on it; skips where one of them is absent."""
    try:
        runtime()
    except CountError as error:
        pytest.skip(str(error))


def test_races_are_found_and_fail_the_run(oclgrind: None, tmp_path: Path, monkeypatch) -> None:
    """Every work-item writes to the one element, its number or the same value."""
    for index, value in (("x", "x"), ("0", "x"), ("0", "1")):
        found = count(["-c", RACING.format(index=index, value=value)], races=True)
        assert found.kernels == 1 and bool(found.races) == (index == "0"), (index, value)
    racing = Row("softmax", "ours-mali", 0, 0, found)
    monkeypatch.setattr("benchmarks.opencl.__main__.measure", lambda *_: racing)
    words = ["--races", "--only", "softmax", "--output", str(tmp_path / "r")]
    assert main(words) == 1
    assert f"| {found.races} |" in (tmp_path / "r.md").read_text()


def test_a_case_is_counted_under_oclgrind(oclgrind: None) -> None:
    case = next(c for c in CASES if c.name == "elementwise")
    row = measure(case, "ours-mali", races=True)
    assert row.counts is not None, row.problem
    assert row.counts.global_bytes == row.least_bytes and row.counts.races == 0
