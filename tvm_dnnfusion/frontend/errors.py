"""What can be wrong with an input, as typed errors.

Each names the input, gives the reason and the way out. The command line prints the message and
leaves with `exit_code`.
"""

from __future__ import annotations


class InputError(Exception):
    """An input cannot be used. `source` names it, `way_out` says what to do about it."""

    exit_code = 2

    def __init__(self, source: str, reason: str, way_out: str) -> None:
        super().__init__(f"{source}: {reason}. {way_out}")
        self.source = source
        self.reason = reason
        self.way_out = way_out


class ModelNotFoundError(InputError):
    """There is no readable file at the path."""


class NotOnnxError(InputError):
    """The file is not an ONNX model."""


class TruncatedModelError(InputError):
    """The file starts as an ONNX model and ends too early."""


class InvalidModelError(InputError):
    """The model can be read, and breaks ONNX's own rules."""


class ExternalDataError(InputError):
    """The model keeps weights in other files, and one of them is missing or too short."""


class UnsupportedOpsetError(InputError):
    """The model is written for an operator set that cannot be imported."""


class UnsupportedOperatorError(InputError):
    """TVM has no importer for some operators.

    `operators` maps each operator's name to the names of the nodes that use it.
    """

    def __init__(self, source: str, operators: dict[str, tuple[str, ...]]) -> None:
        self.operators = operators
        found = "; ".join(f"{op} (node {_some(nodes)})" for op, nodes in operators.items())
        super().__init__(
            source,
            f"TVM cannot import these operators: {found}",
            "Replace them before exporting, or export with another opset in which the exporter "
            "writes them as basic operators",
        )


class DataShapeError(InputError):
    """The shape of a tensor depends on values, which the target cannot have."""


class NodeImportError(InputError):
    """TVM has an importer for the operator, and it failed on this node."""

    def __init__(self, source: str, node: str, op_type: str, cause: str, note: str = "") -> None:
        self.node = node
        self.op_type = op_type
        super().__init__(
            source,
            f"node {node} ({op_type}) cannot be imported: {cause}",
            note or "Export it with static shapes and constant parameters, or replace the node",
        )


class MissingShapeError(InputError):
    """An input of the model has a dimension without a number."""


class InputShapeError(InputError):
    """A shape that was given does not fit the model, or cannot be read."""


class InputNameError(InputError):
    """A shape was given for an input that the model does not have."""


class ParamsError(InputError):
    """Parameters were given for a model that takes none."""


class MissingPackageError(InputError):
    """The input needs a Python package that is not installed."""

    exit_code = 3


def _some(nodes: tuple[str, ...], most: int = 3) -> str:
    rest = len(nodes) - most
    return ", ".join(nodes[:most]) + (f" and {rest} more" if rest > 0 else "")
