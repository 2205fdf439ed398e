"""Parameters that relay.save_param_dict or tvm.runtime.save_param_dict wrote.

u64 magic, u64 0, u64 n, n times (u64 length, name), u64 n, n tensors (see arrays.py)
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

import numpy as np

from tvm_dnnfusion.relay.arrays import ArrayFormatError, decode
from tvm_dnnfusion.relay.errors import (
    COPY_AGAIN,
    DamagedRelayError,
    NotRelayError,
    RelayParamsError,
    TruncatedRelayError,
)

PARAMS_MAGIC = 0xF7E58D4F05049CB7
_U64 = struct.Struct("<Q")
_SMALLEST_ENTRY = 8
"""Bytes of a name's length: no file can hold more names than its size divided by this."""

Params = Union[bytes, bytearray, memoryview, str, Path, Mapping[str, Any]]


def load_params(data: Params, source: str = "parameters") -> dict[str, np.ndarray]:
    """Parameters by name.

    Parameters
    ----------
    data : what save_param_dict returned, the path of a file with it, or a mapping from names to
        arrays (numpy's or TVM's).

    Raises
    ------
    NotRelayError, TruncatedRelayError, DamagedRelayError, RelayParamsError
    """
    if isinstance(data, Mapping):
        return {str(name): _array(name, value) for name, value in data.items()}
    if isinstance(data, str | Path):
        return _decode(_read(Path(data)), str(data))
    return _decode(bytes(data), source)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = f"the file cannot be read ({error.strerror})"
        raise RelayParamsError(str(path), reason, "Check the path") from error


def _array(name: object, value: Any) -> np.ndarray:
    array = value.numpy() if hasattr(value, "numpy") else np.asarray(value)
    if array.dtype == object:
        reason = f"{name} is no tensor but a {type(value).__name__}"
        raise RelayParamsError("parameters", reason, "Give numpy arrays or TVM tensors")
    # TVM reads the truth values of its own older files as a one-bit integer
    return array.astype("bool") if str(array.dtype) == "uint1" else array


def _decode(data: bytes, source: str) -> dict[str, np.ndarray]:
    if len(data) < 24 or _U64.unpack_from(data)[0] != PARAMS_MAGIC:
        reason = "not a parameter file: it does not begin with TVM's mark"
        raise NotRelayError(source, reason, "Write it with tvm.runtime.save_param_dict(params)")
    try:
        names, at = _names(data)
        (count,) = _unpack(data, at)
        if count != len(names):
            raise ArrayFormatError(f"{len(names)} names for {count} tensors")
        at += 8
        out: dict[str, np.ndarray] = {}
        for name in names:
            out[name], at = decode(data, at)
        if at != len(data):
            raise ArrayFormatError(f"{len(data) - at} bytes follow the last tensor")
    except ArrayFormatError as error:
        kind = TruncatedRelayError if error.short else DamagedRelayError
        raise kind(source, f"the parameter file is damaged: {error}", COPY_AGAIN) from error
    return out


def _names(data: bytes) -> tuple[list[str], int]:
    (count,) = _unpack(data, 16)
    if count > len(data) // _SMALLEST_ENTRY:
        raise ArrayFormatError(f"{count} names in {len(data)} bytes", short=True)
    names: list[str] = []
    at = 24
    for _ in range(count):
        (length,) = _unpack(data, at)
        at += 8
        if length > len(data) - at:
            raise ArrayFormatError(f"a name of {length} bytes", short=True)
        names.append(data[at : at + length].decode("utf-8", "replace"))
        at += length
    if len(set(names)) != len(names):
        raise ArrayFormatError("a name comes twice")
    return names, at


def _unpack(data: bytes, at: int) -> tuple[int]:
    if len(data) - at < 8:
        raise ArrayFormatError("it is cut off", short=True)
    return _U64.unpack_from(data, at)
