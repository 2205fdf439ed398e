"""Code for another CPU than the phone's: the real illegal instruction, over real RPC."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import call, model  # noqa: F401  # fixtures
from tests.phone import require_phone
from tvm_dnnfusion.devices.sessions import CrashError, LibraryError, Session
from tvm_dnnfusion.devices.virtual import process
from tvm_dnnfusion.runtime.link import find_linker

LANES = 8


@pytest.fixture(scope="module")
def old() -> Iterator[Session]:
    """A session with a phone of Cortex-A53, which has no float16 arithmetic."""
    require_phone()
    name = f"old-{os.getpid()}"
    phone = process.up(process.Wish(name, cpu="cortex-a53"))
    try:
        with Session(f"rpc://{phone.host}:{phone.port}") as session:
            yield session
    finally:
        process.down(name)


def library(path: Path, *features: str) -> Path:
    """x * x + x of float16, with the vector unit; `features` as LLVM's mattr."""
    import tvm
    from tvm import te

    x = te.placeholder((64,), "float16", name="x")
    y = te.compute((64,), lambda i: x[i] * x[i] + x[i], name="y")
    sch = tvm.s_tir.Schedule(te.create_prim_func([x, y]).with_attr("global_symbol", "main"))
    (loop,) = sch.get_loops(sch.get_sblock("y"))
    sch.vectorize(sch.split(loop, [None, LANES])[1])
    target = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mattr": ["+neon", *features]}
    code = tvm.compile(sch.mod, target=tvm.target.Target(target))
    code.export_library(str(path), fcompile=find_linker("aarch64-linux-gnu"))
    return path


def test_an_instruction_that_the_cpu_lacks_is_named_and_costs_its_run_only(
    old: Session, tmp_path
) -> None:
    data = [np.full(64, 2.0, "float16"), np.zeros(64, "float16")]
    plain = old.load(library(tmp_path / "plain.so"), plain=True)
    fast = old.load(library(tmp_path / "fast.so", "+v8.2a", "+fullfp16"), plain=True)
    with pytest.raises(CrashError, match=r"illegal instruction: .* mend mcpu") as caught:
        fast.run(data)
    assert (caught.value.signal, caught.value.exit_code) == (4, 3)
    np.testing.assert_array_equal(plain.run(data)[1], np.full(64, 6.0, "float16"))


def test_the_bench_says_it_with_exit_code_3_and_writes_what_it_knows(
    old: Session, call: Callable, model: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    """float16 for a Cortex-A76, measured on the phone of Cortex-A53."""
    address = str(old.address)
    old.close()  # it serves one at a time
    answer = call("bench", model, "--device", address, "--target", "cortex-a76", "--float16",
                  "--columns", "DNNF", "--repeat", 3, "--threads", 1, "-o", tmp_path / "out",
                  "--json")  # fmt: skip
    assert answer.code == 3, answer.err
    (result,) = answer.json["results"]
    assert "illegal instruction: the library was compiled for another CPU" in result["problem"]
    assert result["samples_us"] == []
    shown = (tmp_path / "out" / "bench.html").read_text(encoding="utf-8")
    assert "mend mcpu and mattr" in shown and "float16" in shown


def test_a_library_of_this_machine_is_not_sent(old: Session, net) -> None:
    with pytest.raises(LibraryError, match=r"the device is aarch64: compile it for that target"):
        old.load(net.library)
