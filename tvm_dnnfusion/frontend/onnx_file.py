"""Reading an ONNX file, with an error that says what is wrong with it.

First step of the import. A failed read is explained from the bytes: protobuf's own message
("Error parsing message") does not tell a truncated model from a file of another kind.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_model,
    uses_external_data,
)

from tvm_dnnfusion.frontend.errors import (
    ExternalDataError,
    ModelNotFoundError,
    NotOnnxError,
    TruncatedModelError,
)

_OTHER_FORMATS = (
    (0, b"version https://git-lfs", "a Git LFS pointer", "Fetch the file itself: git lfs pull"),
    (0, b"PK\x03\x04", "a zip archive, as PyTorch saves", "Export it with torch.onnx.export"),
    (0, b"\x89HDF", "an HDF5 file, as Keras saves", "Convert it with tf2onnx"),
    (4, b"TFL3", "a TensorFlow Lite model", "Convert it with tf2onnx"),
)
_LAST_FIELD = 32
"""Field numbers of ModelProto end at 26 (onnx 1.23); a larger one marks another kind of file."""

_GRAPH_FIELD = 7
_IR_VERSION_TAG = 0x08
"""Field 1 as a varint: writers put the fields in order, so that every model starts with it."""


def read_model(path: str | Path) -> onnx.ModelProto:
    """Read a model with its external data.

    Raises
    ------
    ModelNotFoundError, NotOnnxError, TruncatedModelError, ExternalDataError
    """
    file = Path(path)
    data = _read_bytes(file)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as err:
        raise _explain(file, data) from err
    if not model.HasField("graph") or not model.ir_version:
        raise _explain(file, data)
    _load_external(file, model)
    return model


def _read_bytes(file: Path) -> bytes:
    if not file.exists():
        raise ModelNotFoundError(str(file), "there is no such file", "Check the path")
    if file.is_dir():
        inside = sorted(p.name for p in file.glob("*.onnx"))
        way_out = f"Name the file in it: {', '.join(inside)}" if inside else "Name an .onnx file"
        raise ModelNotFoundError(str(file), "it is a folder, not a file", way_out)
    try:
        return file.read_bytes()
    except OSError as err:
        reason = f"the file cannot be read ({err.strerror})"
        raise ModelNotFoundError(str(file), reason, "Check its permissions") from err


def _explain(file: Path, data: bytes) -> NotOnnxError | TruncatedModelError:
    """Why these bytes are no model."""
    export = "Export the model to ONNX, or download the file again"
    if not data:
        return NotOnnxError(str(file), "not an ONNX model: the file is empty", export)
    for offset, magic, what, way_out in _OTHER_FORMATS:
        if data[offset : offset + len(magic)] == magic:
            return NotOnnxError(str(file), f"not an ONNX model: this is {what}", way_out)
    needed = _bytes_needed(data)
    if needed is not None and needed > len(data):
        return TruncatedModelError(
            str(file),
            f"the ONNX model is cut off: {len(data)} bytes of at least {needed}",
            "Copy or download the file again",
        )
    return NotOnnxError(str(file), "not an ONNX model: its bytes cannot be decoded as one", export)


def _bytes_needed(data: bytes) -> int | None:
    """Bytes that the top-level fields announce; None where they cannot be a ModelProto's."""
    position, first, has_graph = 0, True, False
    while position < len(data):
        tag, position = _varint(data, position)
        field, wire = tag >> 3, tag & 7
        if not 1 <= field <= _LAST_FIELD or wire not in (0, 1, 2, 5):
            return None
        if first and tag != _IR_VERSION_TAG:
            return None
        first, has_graph = False, has_graph or field == _GRAPH_FIELD
        if wire == 2:
            size, position = _varint(data, position)
            position += size
        elif wire == 0:
            _, position = _varint(data, position)
        else:
            position += 8 if wire == 1 else 4
    return position if has_graph else position + 1  # a cut between two fields: more must follow


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at a position and the position after it (past the end if it is cut off)."""
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    return value, position + 1


def _load_external(file: Path, model: onnx.ModelProto) -> None:
    """Load weights that are kept in other files, checking first that they are all there."""
    for tensor in _tensors(model.graph):
        if not uses_external_data(tensor):
            continue
        info = ExternalDataInfo(tensor)
        beside = file.parent / info.location
        needed = (info.offset or 0) + (info.length or 0)
        if beside.is_file() and beside.stat().st_size >= needed:
            continue
        state = (
            f"has {beside.stat().st_size} bytes of {needed}" if beside.is_file() else "is missing"
        )
        raise ExternalDataError(
            str(file),
            f"the weights of {tensor.name} are in {info.location}, which {state}",
            f"Put the whole file into {file.parent.resolve()}",
        )
    load_external_data_for_model(model, str(file.parent))


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Initializers and tensor attributes of a graph and of the graphs inside its nodes."""
    out = list(graph.initializer)
    for node in graph.node:
        for attr in node.attribute:
            out += [attr.t] if attr.HasField("t") else []
            out += attr.tensors
            for inner in [attr.g] if attr.HasField("g") else attr.graphs:
                out += _tensors(inner)
    return out
