"""The meter of executed bytes and instructions: what it reads from Oclgrind, and one real run."""

from __future__ import annotations

import pytest

from benchmarks.opencl.__main__ import Row, measure, to_markdown
from benchmarks.opencl.cases import CASES
from benchmarks.opencl.counts import CountError, parse, runtime

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


def test_a_case_is_counted_under_oclgrind(device: object) -> None:
    try:
        runtime()
    except CountError as error:
        pytest.skip(str(error))
    case = next(c for c in CASES if c.name == "elementwise")
    row = measure(case, "ours-mali", races=True)
    assert row.counts is not None, row.problem
    assert row.counts.global_bytes == row.least_bytes and row.counts.races == 0
