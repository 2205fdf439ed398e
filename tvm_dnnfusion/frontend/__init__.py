"""Models in: whatever a user holds becomes a Relax module with the names of its layers.

First room of the pipeline. `load` takes what the command line and `compile` take.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_dnnfusion.frontend.errors import (
    InputError,
    MissingPackageError,
    NotOnnxError,
    ParamsError,
)
from tvm_dnnfusion.frontend.shapes import Shapes, parse_input_shapes

if TYPE_CHECKING:
    import tvm

__all__ = ["InputError", "load", "parse_input_shapes"]

_TORCH_SUFFIX = ".pt2"
_PIP_TORCH = "pip install torch"


def load(
    model: Any,
    shapes: Shapes | None = None,
    *,
    params: Any = None,
    allow_symbolic: bool = False,
) -> tvm.IRModule:
    """A Relax module of a model.

    Parameters
    ----------
    model : path of an ONNX file, of a program saved with torch.export.save (".pt2") or of a Relay
        module saved with tvm.ir.save_json (known by its content, not by its name), an ONNX
        ModelProto, a torch ExportedProgram, or an IRModule, which is returned as it is.
    shapes : input name -> shape in elements, for symbolic dimensions of an ONNX or Relay model.
    params : values of a Relay module's parameters: a file that save_param_dict wrote, its bytes, or
        a mapping from names to arrays.
    allow_symbolic : let dimensions without a number stay symbolic.

    Raises
    ------
    InputError
        One of its subclasses, with the reason and the way out.
    TypeError
        The model is none of these.
    """
    import onnx
    import tvm

    if isinstance(model, str | Path):
        relay = import_module("tvm_dnnfusion.relay")  # a later room: only for such a file
        if relay.looks_like_relay(model):
            return relay.load_json(
                Path(model), params, shapes=shapes, allow_symbolic=allow_symbolic
            )
    if params is not None:
        what = str(model) if isinstance(model, str | Path) else "the model"
        reason = "parameters are given, and it is not a Relay module"
        raise ParamsError(what, reason, "Leave the parameters out: only Relay keeps them apart")
    if isinstance(model, tvm.IRModule):
        return model
    if isinstance(model, str | Path) and Path(model).suffix == _TORCH_SUFFIX:
        return _load_exported_file(Path(model))
    if isinstance(model, str | Path | onnx.ModelProto):
        from tvm_dnnfusion.frontend.onnx import load_onnx

        return load_onnx(model, shapes, allow_symbolic=allow_symbolic)
    if type(model).__module__.startswith("torch.export"):
        return _from_exported(model)
    raise TypeError(
        f"a model is a path, an onnx.ModelProto, an IRModule or a torch ExportedProgram, "
        f"not a {type(model).__module__}.{type(model).__qualname__}"
    )


def _load_exported_file(path: Path) -> tvm.IRModule:
    from tvm_dnnfusion.frontend.errors import ModelNotFoundError

    if not path.is_file():
        raise ModelNotFoundError(str(path), "there is no such file", "Check the path")
    try:
        import torch
    except ImportError as err:
        reason = "a program saved by torch.export needs PyTorch, which is not installed"
        raise MissingPackageError(str(path), reason, _PIP_TORCH) from err
    try:
        program = torch.export.load(str(path))
    except Exception as err:
        reason = f"not a program saved by torch.export.save ({type(err).__name__}: {err})"
        way_out = "Save it with torch.export.save, or export it to ONNX"
        raise NotOnnxError(str(path), reason, way_out) from err
    return _from_exported(program)


def _from_exported(program: Any) -> tvm.IRModule:
    """A torch ExportedProgram; its parameters become constants."""
    from tvm.relax.frontend.torch import from_exported_program

    from tvm_dnnfusion.frontend.onnx import clean_up

    return clean_up(from_exported_program(program, unwrap_unit_return_tuple=True))
