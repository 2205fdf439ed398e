"""Inputs of a run: from a file, or random from a seed; checked against the model by name."""

from __future__ import annotations

import difflib
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tvm_dnnfusion.profile.arrays import Array, numpy_dtype, random_array
from tvm_dnnfusion.runtime.errors import InputsError
from tvm_dnnfusion.runtime.signature import Port, Signature

_NO_ARRAYS = "is not an .npz or .npy file of plain arrays (numpy.savez writes one)"


def load_inputs(path: Path | str, signature: Signature) -> dict[str, Array]:
    """Read inputs from an .npz file (by name) or an .npy file (of a model with one input).

    An .npz written without names ("arr_0", ...) is taken in order.

    Raises InputsError where the file cannot be read or does not fit the signature.
    """
    return fit_inputs(read_arrays(path), signature, path)


def read_arrays(path: Path | str) -> dict[str, Array]:
    """The arrays in an .npz or .npy file, by name. Raises InputsError where it cannot be read."""
    file = Path(path)
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            given = {"arr_0": loaded}
        else:
            with loaded:
                given = {name: loaded[name] for name in loaded.files}
    except FileNotFoundError as error:
        raise InputsError(f"no such file: {file}") from error
    except OSError as error:
        if error.strerror:
            raise InputsError(f"{file} cannot be read: {error.strerror}") from error
        raise InputsError(f"{file} {_NO_ARRAYS}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        # numpy's own words speak of pickles, which nobody asked for
        raise InputsError(f"{file} {_NO_ARRAYS}") from error
    if not all(isinstance(array, np.ndarray) for array in given.values()):
        raise InputsError(f"{file} {_NO_ARRAYS}")
    return given


def fit_inputs(
    given: Mapping[str, Array], signature: Signature, path: Path | str
) -> dict[str, Array]:
    """The arrays of a file as inputs of the model. Raises InputsError where they do not fit."""
    if all(re.fullmatch(r"arr_\d+", name) for name in given):
        given = _in_order(given, signature, Path(path))
    return check_inputs(given, signature)


def random_inputs(
    signature: Signature, seed: int = 0, sizes: Mapping[str, int] | None = None
) -> dict[str, Array]:
    """Random inputs, the same for the same seed; see `random_array` for their range.

    `sizes` gives the symbolic dimensions. Raises InputsError naming one that is not given.
    """
    rng = np.random.default_rng(seed)
    out: dict[str, Array] = {}
    for port in signature.inputs:
        if port.shape is None:
            raise InputsError(f"input {port.name} has no known shape; give it from a file")
        shape = [_size(d, port, sizes or {}) for d in port.shape]
        out[port.name] = random_array(shape, port.dtype, rng)
    return out


def check_inputs(given: Mapping[str, Array], signature: Signature) -> dict[str, Array]:
    """The inputs in the model's order.

    Raises InputsError that names every missing, unknown or unfitting input.
    """
    names = [port.name for port in signature.inputs]
    wrong = [_unknown(name, names) for name in given if name not in names]
    wrong += [f"input {port} is missing" for port in signature.inputs if port.name not in given]
    symbols: dict[str, int] = {}
    for port in signature.inputs:
        if port.name in given:
            wrong += _misfits(port, np.asarray(given[port.name]), symbols)
    if wrong:
        raise InputsError("; ".join(wrong))
    return {name: np.ascontiguousarray(given[name]) for name in names}


def _in_order(given: Mapping[str, Array], signature: Signature, file: Path) -> Mapping[str, Array]:
    """Arrays without names, for the inputs in order; inputs that are called so are left."""
    names = [port.name for port in signature.inputs]
    if set(names) == set(given):
        return given
    if len(given) != len(names):
        raise InputsError(
            f"{file} has {len(given)} unnamed arrays, but the model has {len(names)} inputs: "
            f"{', '.join(str(p) for p in signature.inputs)}"
        )
    ordered = sorted(given, key=lambda n: int(n[4:]))
    return {name: given[key] for name, key in zip(names, ordered, strict=True)}


def _unknown(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(names)}"
    return f"the model has no input {name!r}{hint}"


def _misfits(port: Port, array: Array, symbols: dict[str, int]) -> list[str]:
    """What does not fit of one input; symbolic dimensions take the first size that they meet."""
    wrong: list[str] = []
    if array.dtype != numpy_dtype(port.dtype):
        wrong.append(f"input {port.name} needs {port.dtype}, not {array.dtype}")
    if port.shape is None:
        return wrong
    fits = array.ndim == len(port.shape)
    for want, have in zip(port.shape, array.shape, strict=False):
        bound = symbols.setdefault(want, have) if isinstance(want, str) else want
        # An expression such as "n * 2" is left to TVM's own check at the call.
        plain = isinstance(want, int) or want.isidentifier()
        fits = fits and (bound == have or not plain)
    if not fits:
        wrong.append(f"input {port} was given as [{', '.join(str(d) for d in array.shape)}]")
    return wrong


def _size(dim: int | str, port: Port, sizes: Mapping[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    if dim not in sizes:
        raise InputsError(f"input {port} has the symbolic dimension {dim!r}; give its size")
    return sizes[dim]
