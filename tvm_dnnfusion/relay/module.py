"""A whole Relay module to a Relax module: functions, parameters, shapes, clean-up.

    load_json(text or path, params) -> IRModule with the function main

Third step of the import. The function gets the attribute "input_names", Relay's names in order;
given parameters become constants.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_dnnfusion.frontend.errors import InputNameError, InputShapeError, MissingShapeError
from tvm_dnnfusion.frontend.onnx import clean_up
from tvm_dnnfusion.frontend.shapes import FLAG, Shapes, format_input_shapes
from tvm_dnnfusion.relay.convert import Converter
from tvm_dnnfusion.relay.emit import MAX_ELEMENTS, Emitter, identifier
from tvm_dnnfusion.relay.entry import constant
from tvm_dnnfusion.relay.errors import (
    SAVE_AGAIN,
    DamagedRelayError,
    OversizedRelayError,
    RelayError,
    RelayParamsError,
)
from tvm_dnnfusion.relay.params import Params, load_params
from tvm_dnnfusion.relay.reader import Document, read_document
from tvm_dnnfusion.relay.scope import Frame, first_line, variable_name
from tvm_dnnfusion.relay.values import TensorType, Type, string_at, type_of


def load_json(
    text_or_path: str | Path | bytes,
    params: Params | None = None,
    *,
    shapes: Shapes | None = None,
    allow_symbolic: bool = False,
) -> tvm.IRModule:
    """A Relax module of a Relay module that tvm.ir.save_json wrote (TVM 0.7 to 0.18).

    Parameters
    ----------
    text_or_path : the JSON text, or the path of a file with it.
    params : values of parameters, which become constants: what save_param_dict returned, the path
        of a file with it, or a mapping from names to arrays.
    shapes : input name -> shape in elements, for inputs with open extents.
    allow_symbolic : let extents that stay open be symbolic; they limit what can be fused.

    Raises
    ------
    InputError
        One of its subclasses; RelayUnsupportedError names all calls without a Relax form.
    """
    doc = read_document(text_or_path)
    return load_document(doc, params, shapes=shapes, allow_symbolic=allow_symbolic)[0]


def load_document(
    doc: Document,
    params: Params | None = None,
    *,
    shapes: Shapes | None = None,
    allow_symbolic: bool = False,
) -> tuple[tvm.IRModule, Converter]:
    """`load_json` of a parsed file, with the converter, which knows what it cost."""
    functions, main = _functions(doc)
    emitter = Emitter()
    converter = Converter(doc, functions, emitter)
    given = load_params(params) if params is not None else {}
    inputs = _Inputs(doc, given, dict(shapes or {}), allow_symbolic)
    frame = inputs.bind(main)
    value = converter.convert(doc.index(main, "body"), frame)
    attrs = {"global_symbol": "main", "input_names": inputs.names}
    func = emitter.function(inputs.params, value, attrs)
    try:
        mod = relax.transform.Normalize()(tvm.IRModule({"main": func}))
        return clean_up(relax.transform.ConvertToDataflow(1)(mod)), converter
    except Exception as error:  # folding constants compiles and runs what they go through
        reason = f"TVM refuses the converted module: {first_line(error)}"
        raise RelayError(doc.source, reason, SAVE_AGAIN) from error


def _functions(doc: Document) -> tuple[dict[int, int], int]:
    """(GlobalVar -> function, main) as node indices."""
    root = doc.node(doc.root)
    if root.kind == "relay.Function":
        return {}, doc.root
    if root.kind != "IRModule":
        found = root.kind or "nothing"
        raise doc.damaged(f"its root is a {found:.60}, not an IRModule or a relay.Function")
    table = doc.node(doc.index(doc.root, "functions"))
    if table.kind != "Map" or len(table.data) % 2:
        raise doc.damaged("its functions are no map")
    pairs = dict(zip(table.data[::2], table.data[1::2], strict=True))
    named = {string_at(doc, var, "name_hint"): func for var, func in pairs.items()}
    relay = {n: f for n, f in named.items() if doc.node(f).kind == "relay.Function"}
    main = relay.get("main") if "main" in relay or len(relay) != 1 else next(iter(relay.values()))
    if main is None:
        raise doc.damaged(f"it has no Relay function main, only {sorted(named) or 'none'}")
    kept = {var: func for var, func in pairs.items() if func in relay.values()}
    return kept, main


@dataclass(frozen=True)
class _Input:
    """A parameter of main: its node, its Relay name, its type."""

    node: int
    name: str
    kind: Type


class _Inputs:
    """Parameters of main: given ones as constants, the others as inputs."""

    def __init__(
        self, doc: Document, given: Mapping[str, np.ndarray], shapes: dict[str, Any], symbolic: bool
    ) -> None:
        self.doc, self.given, self.shapes, self.symbolic = doc, given, shapes, symbolic
        self.params: list[relax.Var] = []
        self.names: list[str] = []
        self._taken: set[str] = set()
        self._open: dict[str, tuple[int | str, ...]] = {}

    def bind(self, main: int) -> Frame:
        """The scope of main."""
        found = [_Input(i, variable_name(self.doc, i), self._type(i)) for i in self._nodes(main)]
        self._check_names(found)
        frame = Frame(None, "main")
        for item in found:
            if item.name in self.given:
                frame.known[item.node] = self._constant(item)
            else:
                frame.known[item.node] = self._variable(item.name, item.kind)
        if self._open and not self.symbolic:
            raise self._missing_shapes()
        return frame

    def _nodes(self, main: int) -> tuple[int, ...]:
        nodes = self.doc.items(main, "params")
        for index in nodes:
            if self.doc.node(index).kind != "relay.Var":
                raise self.doc.damaged(f"a parameter of main is a {self.doc.node(index).kind:.60}")
        if len(set(nodes)) != len(nodes):
            raise self.doc.damaged("a variable is two parameters of main")
        return nodes

    def _type(self, index: int) -> Type:
        kind = type_of(self.doc, self.doc.index(index, "type_annotation"))
        return kind or type_of(self.doc, self.doc.index(index, "_checked_type_"))

    def _check_names(self, found: list[_Input]) -> None:
        names = [item.name for item in found]
        unknown = [name for name in self.shapes if name not in names]
        if unknown:
            raise InputNameError(
                self.doc.source,
                f"there is no input {unknown[0]!r}; its inputs are {', '.join(names) or 'none'}",
                f"Give {FLAG} for one of them",
            )
        strangers = [name for name in self.given if name not in names]
        if strangers and len(strangers) == len(self.given):
            raise RelayParamsError(
                self.doc.source,
                f"none of the {len(strangers)} parameters ({strangers[0]}, ...) is one of the "
                f"module's ({', '.join(names[:4]) or 'none'}, ...)",
                "Give the parameters that were saved with this module",
            )
        if strangers:
            what = f"{self.doc.source}: the module has no parameters {', '.join(strangers[:4])}"
            warnings.warn(what, stacklevel=5)

    def _constant(self, item: _Input) -> relax.Expr:
        value, kind = self.given[item.name], item.kind
        if isinstance(kind, TensorType):
            shape, dtype = tuple(value.shape), str(value.dtype)
            fits = len(shape) == len(kind.shape) and dtype == (kind.dtype or dtype)
            if not fits or any(d not in (None, s) for s, d in zip(shape, kind.shape, strict=True)):
                raise RelayParamsError(
                    self.doc.source,
                    f"parameter {item.name} is {dtype}{list(shape)}, and the module takes "
                    f"{kind.dtype}{['?' if d is None else d for d in kind.shape]}",
                    "Give the parameters that were saved with this module",
                )
        return constant(value)

    def _variable(self, name: str, kind: Type) -> Any:
        if isinstance(kind, tuple):
            return tuple(self._variable(f"{name}.{i}", part) for i, part in enumerate(kind))
        if not isinstance(kind, TensorType) or not kind.dtype:
            reason = f"the input {name} has no tensor type"
            raise DamagedRelayError(
                self.doc.source, reason, "Run relay.transform.InferType() before saving"
            )
        size = math.prod(d or 1 for d in kind.shape)
        if size > MAX_ELEMENTS:
            reason = f"the input {name} has {size} elements, of at most {MAX_ELEMENTS}"
            raise OversizedRelayError(self.doc.source, reason, SAVE_AGAIN)
        var = relax.Var(
            identifier(name, self._taken), relax.TensorType(self._dims(name, kind), kind.dtype)
        )
        self.params.append(var)
        self.names.append(name if name not in self.names else var.name)
        return var

    def _dims(self, name: str, kind: TensorType) -> list[Any]:
        given = self.shapes.get(name)
        if given is not None:
            dims = [int(d) for d in given]
            pairs = zip(dims, kind.shape, strict=False)
            if len(dims) != len(kind.shape) or any(d not in (None, g) for g, d in pairs):
                raise InputShapeError(
                    self.doc.source,
                    f"the shape {dims} given for input {name} does not fit the model's "
                    f"{['?' if d is None else d for d in kind.shape]}",
                    "Give numbers only for the open extents",
                )
            return dims
        if None in kind.shape:
            self._open[name] = tuple("?" if d is None else d for d in kind.shape)
        return [
            tvm.tirx.Var(f"{identifier(name, set())}_{axis}", "int64") if d is None else d
            for axis, d in enumerate(kind.shape)
        ]

    def _missing_shapes(self) -> MissingShapeError:
        what = format_input_shapes(self._open)
        flag = format_input_shapes(
            {n: [1 if d == "?" else d for d in dims] for n, dims in self._open.items()}
        )
        reason = f"no number for some dimensions of its inputs: {what}"
        return MissingShapeError(self.doc.source, reason, f'Give them: {FLAG} "{flag}"')
