"""Tensors in TVM's binary format, as a Relay file and a parameter file hold them.

    u64 magic, u64 0, i32 device, i32 device id, i32 rank, u8 code, u8 bits, u16 lanes,
    i64 shape[rank], i64 bytes, data

Every size is compared with the bytes that are there before anything is allocated.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct

import ml_dtypes
import numpy as np

ARRAY_MAGIC = 0xDD5E40F096B4A13F
MAX_RANK = 32
"""numpy's own limit was 32 axes until version 2; TVM's models use up to 8."""

_HEAD = struct.Struct("<QQiiiBBH")
_KINDS = {0: "int", 1: "uint", 2: "float"}
_BOOL, _BFLOAT = 6, 4


class ArrayFormatError(ValueError):
    """Bytes that are no tensor; `short` where more of them would have been needed."""

    def __init__(self, reason: str, short: bool = False) -> None:
        super().__init__(reason)
        self.short = short


def decode_base64(text: object) -> np.ndarray:
    """The tensor in one entry of `b64ndarrays`. Raises ArrayFormatError."""
    if not isinstance(text, str):
        raise ArrayFormatError(f"a {type(text).__name__} stands for a tensor")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ArrayFormatError(f"not base64 ({error})") from error
    array, end = decode(data, 0)
    if end != len(data):
        raise ArrayFormatError(f"{len(data) - end} bytes follow the tensor")
    return array


def decode(data: bytes, at: int) -> tuple[np.ndarray, int]:
    """The tensor at an offset, and the offset after it. Raises ArrayFormatError."""
    if len(data) - at < _HEAD.size:
        raise ArrayFormatError("it is cut off in a tensor's head", short=True)
    magic, _, _, _, rank, code, bits, lanes = _HEAD.unpack_from(data, at)
    if magic != ARRAY_MAGIC:
        raise ArrayFormatError("a tensor does not begin with TVM's mark")
    if not 0 <= rank <= MAX_RANK:
        raise ArrayFormatError(f"a tensor of rank {rank}; the largest is {MAX_RANK}")
    dtype = _dtype(code, bits, lanes)
    at += _HEAD.size
    if len(data) - at < 8 * (rank + 1):
        raise ArrayFormatError("it is cut off in a tensor's shape", short=True)
    *shape, size = struct.unpack_from(f"<{rank + 1}q", data, at)
    at += 8 * (rank + 1)
    if any(extent < 0 for extent in shape):
        raise ArrayFormatError(f"a tensor with the extents {shape}")
    needed = math.prod(shape) * dtype.itemsize
    if size != needed:
        raise ArrayFormatError(f"a tensor {shape} of {dtype} takes {needed} bytes, not {size}")
    if size > len(data) - at:
        raise ArrayFormatError(
            f"a tensor of {size} bytes, of which {len(data) - at} are there", True
        )
    flat = np.frombuffer(data, dtype, count=math.prod(shape), offset=at)
    return flat.reshape(shape), at + size


def _dtype(code: int, bits: int, lanes: int) -> np.dtype:
    if lanes == 1 and (code == _BOOL or (code == 1 and bits == 1)):
        return np.dtype("bool")
    if lanes == 1 and (code, bits) == (_BFLOAT, 16):
        return np.dtype(ml_dtypes.bfloat16)
    known = code in _KINDS and bits in (8, 16, 32, 64) and (code != 2 or bits > 8)
    if not known or lanes != 1:
        raise ArrayFormatError(f"a tensor of type code {code}, {bits} bits, {lanes} lanes")
    return np.dtype(f"{_KINDS[code]}{bits}")
