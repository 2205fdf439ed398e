"""Signatures, inputs and runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runtime.models import TARGET, Model, Symbolic, named, results
from tvm_dnnfusion.runtime import (
    InputsError,
    Module,
    Port,
    Signature,
    build,
    check_inputs,
    load_inputs,
    random_inputs,
    run,
    signature_of,
)

SIGNATURE = signature_of(named())


@pytest.fixture(scope="module")
def module() -> Module:
    return build(named(), TARGET)


def test_names_come_from_the_frontend_or_the_parameters() -> None:
    assert (
        Signature(
            (Port("in.x", (4, 8), "float32"), Port("in/w", (8, 16), "float32")),
            (Port("y", (4, 16), "float32"), Port("s", (4,), "float32")),
        )
        == SIGNATURE
    )
    plain = signature_of(Model)
    assert [p.name for p in plain.inputs + plain.outputs] == ["x", "w", "output0", "output1"]


def test_symbolic_dimensions_keep_their_names() -> None:
    assert signature_of(Symbolic).inputs[0].shape == ("n", 8)


def test_a_run_gives_named_outputs_with_the_threads_asked_for(module: Module) -> None:
    inputs = random_inputs(SIGNATURE)
    found = run(module, inputs, threads=1)
    assert found.threads.count == 1
    assert list(found.outputs) == ["y", "s"]
    for name, want in results(inputs).items():
        np.testing.assert_allclose(found.outputs[name], want, rtol=1e-5, atol=1e-5)


def test_random_inputs_repeat_by_seed() -> None:
    first, again, other = (random_inputs(SIGNATURE, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert not np.array_equal(first["in.x"], other["in.x"])
    assert all(np.abs(a).max() <= 1.0 for a in first.values())


def test_random_integers_are_safe_indices_and_booleans_are_booleans() -> None:
    ports = (Port("i", (50,), "int64"), Port("b", (50,), "bool"), Port("h", (50,), "bfloat16"))
    made = random_inputs(Signature(ports, ()))
    assert set(made["i"].tolist()) == {0, 1}
    assert [str(a.dtype) for a in made.values()] == ["int64", "bool", "bfloat16"]


def test_symbolic_sizes_are_needed_by_name() -> None:
    signature = signature_of(Symbolic)
    assert random_inputs(signature, sizes={"n": 3})["y"].shape == (3, 8)
    with pytest.raises(InputsError, match="symbolic dimension 'n'"):
        random_inputs(signature)


def test_a_symbolic_model_runs_and_its_sizes_must_agree() -> None:
    module = build(Symbolic, TARGET)
    good = {"x": np.ones((3, 8), np.float32), "y": np.ones((3, 8), np.float32)}
    assert module(good)["output0"].tolist() == np.full((3, 8), 2.0).tolist()
    with pytest.raises(InputsError, match=r"input y: float32\[n, 8\] was given as \[2, 8\]"):
        module({**good, "y": np.ones((2, 8), np.float32)})


def good() -> dict[str, np.ndarray]:
    return {"in.x": np.zeros((4, 8), np.float32), "in/w": np.zeros((8, 16), np.float32)}


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"in.x": None}, [r"input in.x: float32\[4, 8\] is missing"]),
        ({"in_x": np.zeros(1)}, ["no input 'in_x'; did you mean 'in.x'"]),
        ({"image": np.zeros(1)}, ["no input 'image'; it has in.x, in/w"]),
        ({"in.x": np.zeros((4, 8))}, ["in.x needs float32, not float64"]),
        ({"in.x": np.zeros((4, 9), np.float32)}, [r"was given as \[4, 9\]"]),
        ({"in.x": np.zeros(8, np.float32)}, [r"was given as \[8\]"]),
        ({"in.x": None, "in/w": np.zeros(3)}, ["in.x", "float64", r"\[3\]"]),
    ],
)
def test_every_unfitting_input_is_named(
    module: Module, change: dict[str, object], messages: list[str]
) -> None:
    given = {k: v for k, v in {**good(), **change}.items() if v is not None}
    for message in messages:
        with pytest.raises(InputsError, match=message):
            run(module, given)  # type: ignore[arg-type]


def test_inputs_are_put_in_order_and_made_contiguous() -> None:
    given = dict(reversed(good().items()))
    given["in.x"] = np.zeros((8, 4), np.float32).T
    checked = check_inputs(given, SIGNATURE)
    assert list(checked) == ["in.x", "in/w"]
    assert checked["in.x"].flags.c_contiguous


def test_files_by_name_and_in_order(tmp_path: Path) -> None:
    made = random_inputs(SIGNATURE)
    np.savez(tmp_path / "named.npz", **made)
    np.savez(tmp_path / "plain.npz", *made.values())
    for name in ("named.npz", "plain.npz"):
        loaded = load_inputs(tmp_path / name, SIGNATURE)
        assert all(np.array_equal(loaded[n], made[n]) for n in made)


def test_a_single_array_feeds_a_model_with_one_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3, np.float32))
    one = Signature((Port("x", (3,), "float32"),), ())
    assert load_inputs(tmp_path / "x.npy", one)["x"].tolist() == [1, 1, 1]
    with pytest.raises(InputsError, match="1 unnamed arrays, but the model has 2 inputs"):
        load_inputs(tmp_path / "x.npy", SIGNATURE)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 broken", None])
def test_a_file_that_is_no_array_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "in.npz"
    if content is None:
        np.save(path.open("wb"), np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(content)
    with pytest.raises(InputsError, match=r"in\.npz is not"):
        load_inputs(path, SIGNATURE)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputsError, match="no such file"):
        load_inputs(tmp_path / "absent.npz", SIGNATURE)
