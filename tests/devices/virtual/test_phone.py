"""The virtual phone itself: started, stopped, survived, counted on."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from tests.phone import needs_counts, require_phone
from tests.runtime.models import fused, results
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.devices.sessions import CallError, LibraryError, Program, Session
from tvm_dnnfusion.devices.sessions.errors import UnreachableError
from tvm_dnnfusion.devices.virtual import process
from tvm_dnnfusion.devices.virtual.errors import VirtualError
from tvm_dnnfusion.runtime.errors import EnvironmentLackError
from tvm_dnnfusion.runtime.link import find_linker


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tvm

    path = tmp_path_factory.mktemp("arm") / "net.so"
    target = registry.target_dict(registry.get("cortex-a53"))
    tvm.compile(fused(), target=tvm.target.Target(target)).export_library(
        str(path), fcompile=find_linker("aarch64-linux-gnu")
    )
    return path


@pytest.fixture
def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 1, shape).astype("float32") for shape in ((4, 8), (8, 16))]


@pytest.fixture
def program(arm_session: Session, library: Path) -> Program:
    return arm_session.load(library)


def test_it_is_an_arm_machine(arm_session: Session) -> None:
    assert arm_session.info.machine == "aarch64" and arm_session.info.ours


def test_its_threads_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of this machine do not limit it."""
    require_phone()
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    name = f"threads-{os.getpid()}"
    started = process.up(process.Wish(name))
    try:
        with Session(f"rpc://{started.host}:{started.port}") as opened:
            assert opened.configure(1) == 1
            assert opened.configure(2) == min(2, opened.info.processors or 2)
    finally:
        process.down(name)


def test_its_address_is_virtual(
    phone: process.Phone, program: Program, library: Path, arrays: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    expected = program.run(arrays)
    program.session.close()  # it serves one at a time
    monkeypatch.setattr(process, "running", lambda: phone)
    with Session("virtual") as opened:
        for got, want in zip(opened.load(library).run(arrays), expected, strict=True):
            np.testing.assert_array_equal(got, want)


def test_it_has_no_gpu_and_says_so(arm_session: Session, library: Path) -> None:
    with pytest.raises(LibraryError, match="has no opencl that TVM's runtime there can use"):
        arm_session.load(library, processor="opencl")


def test_a_model_computes_there_what_it_computes_here(
    program: Program, arrays: list[np.ndarray]
) -> None:
    expected = list(results({"in.x": arrays[0], "in/w": arrays[1]}).values())
    for got, want in zip(program.run(arrays), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@needs_counts
def test_instructions_are_counted_exactly(program: Program, arrays: list[np.ndarray]) -> None:
    first, second = program.counts(arrays), program.counts(arrays)
    assert first == second
    total = sum(counts["multiply_add"] for _, counts in first)
    assert total > 0
    for _, counts in first:
        parts = ("branch", "load_store", "vector_load_store", "vector", "other")
        assert sum(counts[part] for part in parts) == counts["all"]
        assert counts["multiply_add"] <= counts["vector"]


@needs_counts
def test_counts_do_not_depend_on_the_cpu_model(
    program: Program, arrays: list[np.ndarray], library: Path
) -> None:
    name = f"other-{os.getpid()}"
    other = process.up(process.Wish(name, cpu="cortex-a53", counts=True))
    try:
        with Session(f"rpc://{other.host}:{other.port}") as there:
            assert there.load(library).counts(arrays) == program.counts(arrays)
    finally:
        assert process.down(name)
    assert process.running(name) is None


def test_without_the_counter_the_way_to_it_is_named(
    tmp_path: Path, arrays: list[np.ndarray]
) -> None:
    with Session("local") as here:
        program = here.load(_native(tmp_path))
        with pytest.raises(CallError, match="devices virtual up --count"):
            program.counts(arrays)


def test_up_takes_a_phone_that_runs_and_refuses_another(phone: process.Phone) -> None:
    wish = process.Wish(phone.name)
    assert process.up(wish) == phone
    with pytest.raises(VirtualError, match=r"runs already.*CPU max.*down --name"):
        process.up(replace(wish, cpu="cortex-a53"))
    assert phone in process.all_running()
    assert process.log_tail(phone.name)


def test_a_process_with_the_number_of_an_old_phone_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNNFUSION_VIRTUAL", str(tmp_path))
    (tmp_path / "run").mkdir()
    mine = process.Phone("phone", "127.0.0.1", 1, os.getpid(), 1, "max", False)
    (tmp_path / "run" / "phone.json").write_text(json.dumps(asdict(mine)))
    assert process.running() is None
    assert process.down() is False
    with pytest.raises(UnreachableError, match=r"devices virtual up$"):
        Session("virtual").open()


def test_a_phone_of_another_name_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNFUSION_VIRTUAL", str(tmp_path))
    (tmp_path / "run").mkdir()
    born = process._born(os.getpid())
    rv9 = process.Phone("rv9", "127.0.0.1", 9291, os.getpid(), born, "max", False)
    (tmp_path / "run" / "rv9.json").write_text(json.dumps(asdict(rv9)))
    with pytest.raises(UnreachableError, match=r"rv9 \(--device rpc://127.0.0.1:9291\)"):
        Session("virtual").open()


def test_what_dead_phones_left_goes_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNNFUSION_VIRTUAL", str(tmp_path))
    run = tmp_path / "run"
    run.mkdir()
    live = process.Phone("live", "h", 1, os.getpid(), process._born(os.getpid()), "max", False)
    dead = replace(live, name="dead", born=1)
    names = [f"old-{i}" for i in range(process.KEPT_LOGS + 3)]
    files = {f"{phone.name}.json": json.dumps(asdict(phone)) for phone in (live, dead)}
    files |= {f"{name}.log": "ready" for name in ("live", *names)}
    for age, (name, text) in enumerate(reversed(files.items()), start=1):
        (run / name).write_text(text)
        written = time.time() - process.FRESH_S - age
        os.utime(run / name, (written, written))
    (run / "starting.log").write_text("")
    (run / "starting.json").write_text("{")
    process._tidy(run)
    kept = {f"{name}.log" for name in names[-process.KEPT_LOGS + 1 :]}
    assert {path.name for path in run.iterdir()} == kept | {
        "live.json", "live.log", "starting.log", "starting.json"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (process.Wish("../x"), "cannot be named"),
        (process.Wish(cpu="z80"), "cortex-a76"),
        (process.Wish(tracker="h:1"), "needs a key"),
    ],
)
def test_senseless_wishes(wish: process.Wish, words: str) -> None:
    with pytest.raises(VirtualError, match=words):
        process.up(wish)


def test_a_killed_session_ends_alone(
    phone: process.Phone, library: Path, arrays: list[np.ndarray]
) -> None:
    own = process.up(process.Wish(f"killed-{os.getpid()}"))  # the other one may have a session
    try:
        with Session(f"rpc://{own.host}:{own.port}") as opened:
            opened.load(library).run(arrays)
            os.kill(int(opened.info.session.rpartition("/")[2]), signal.SIGKILL)
        with Session(f"rpc://{own.host}:{own.port}") as again:
            assert len(again.load(library).run(arrays)) > 0
        assert process.running(own.name) == own
    finally:
        process.down(own.name)


def _native(folder: Path) -> Path:
    """The same model for this machine; skips where it has no linker."""
    import tvm

    try:
        linker = find_linker()
    except EnvironmentLackError as error:
        pytest.skip(str(error))
    path = folder / "here.so"
    target = registry.target_dict(registry.host())
    tvm.compile(fused(), target=tvm.target.Target(target)).export_library(
        str(path), fcompile=linker
    )
    return path
