"""Shapes of a model's inputs: the `--input-shapes` flag, and fitting it to an ONNX model.

The flag reads as tvmc's did: "data:[1,3,224,224] mask:[1,128]".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import onnx

from tvm_dnnfusion.frontend.errors import InputNameError, InputShapeError, MissingShapeError

FLAG = "--input-shapes"
_ITEM = re.compile(r"\s*,?\s*(?P<name>[^\s\[\]]+?)\s*:\s*\[(?P<dims>[^\[\]]*)\]\s*")

Shapes = Mapping[str, Sequence[int]]


def parse_input_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """Read "x:[1,3,224,224] y:[1,10]" into {"x": (1, 3, 224, 224), "y": (1, 10)}.

    Names may hold any character but blanks and brackets; "x:[]" is a scalar.

    Raises
    ------
    InputShapeError
        The text cannot be read, a dimension is not a positive number, or a name comes twice.
    """
    out: dict[str, tuple[int, ...]] = {}
    position = 0
    while position < len(text):
        found = _ITEM.match(text, position)
        if found is None:
            raise _flag_error(text, f"cannot read {text[position:].strip()!r}")
        name = found["name"]
        if name in out:
            raise _flag_error(text, f"{name} is given twice")
        out[name] = tuple(_dim(text, name, part) for part in _parts(found["dims"]))
        position = found.end()
    if not out:
        raise _flag_error(text, "it is empty")
    return out


def format_input_shapes(shapes: Mapping[str, Iterable[object]]) -> str:
    """The flag's text for these shapes; a dimension may be a name or "?"."""
    return " ".join(f"{n}:[{','.join(str(d) for d in dims)}]" for n, dims in shapes.items())


def _parts(dims: str) -> list[str]:
    return [part.strip() for part in dims.split(",")] if dims.strip() else []


def _dim(text: str, name: str, part: str) -> int:
    if not part.isdecimal() or int(part) < 1:
        raise _flag_error(text, f"{part!r} in the shape of {name} is not a positive number")
    return int(part)


def _flag_error(text: str, reason: str) -> InputShapeError:
    return InputShapeError(
        f"{FLAG} {text!r}", reason, f'Write it as {FLAG} "name:[1,3,224,224] other:[1,10]"'
    )


def declared_inputs(graph: onnx.GraphProto) -> dict[str, tuple[int | str, ...] | None]:
    """Inputs that a caller feeds -> declared shape: numbers, names of symbolic dims, or "?".

    None stands for an unknown rank. Initializers are left out (old models list them as inputs).
    """
    fed = {i.name for i in graph.initializer} | {i.values.name for i in graph.sparse_initializer}
    return {i.name: _declared(i.type) for i in graph.input if i.name not in fed}


def _declared(kind: onnx.TypeProto) -> tuple[int | str, ...] | None:
    if not kind.tensor_type.HasField("shape"):
        return None
    return tuple(_declared_dim(d) for d in kind.tensor_type.shape.dim)


def _declared_dim(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else "?"
    return dim.dim_param or "?"


def resolve_shapes(
    graph: onnx.GraphProto, shapes: Shapes | None, source: str, allow_symbolic: bool = False
) -> dict[str, tuple[int | str, ...]]:
    """Shapes of all inputs: the declared ones, filled in from `shapes`.

    A symbolic dimension that is given for one input holds for the others that name it.

    Raises
    ------
    InputNameError, InputShapeError
        A given shape has no input, or contradicts the declared one.
    MissingShapeError
        A dimension stays without a number, and `allow_symbolic` is off.
    """
    declared = declared_inputs(graph)
    given = dict(shapes or {})
    for name in given:
        if name not in declared:
            raise InputNameError(
                source,
                f"there is no input {name!r}; its inputs are {', '.join(declared) or 'none'}",
                f"Give {FLAG} for one of them",
            )
    symbols: dict[str, int] = {}
    for name, shape in given.items():
        _match(source, name, declared[name], tuple(shape), symbols)
    out: dict[str, tuple[int | str, ...] | None] = {}
    for name, dims in declared.items():
        if name in given:
            out[name] = tuple(int(d) for d in given[name])
        else:
            out[name] = dims and tuple(symbols.get(d, d) if isinstance(d, str) else d for d in dims)
    if not allow_symbolic:
        _require_static(source, out)
    return {name: dims for name, dims in out.items() if dims is not None}


def _match(
    source: str,
    name: str,
    declared: tuple[int | str, ...] | None,
    shape: tuple[int, ...],
    symbols: dict[str, int],
) -> None:
    """Check a given shape against the declared one, and note what it says of symbolic dims."""
    if declared is None:
        return
    fits = len(declared) == len(shape)
    for want, got in zip(declared, shape, strict=False):
        if isinstance(want, int) or want in symbols:
            fits = fits and got == (want if isinstance(want, int) else symbols[want])
        elif want != "?":
            symbols[want] = got
    if not fits:
        raise InputShapeError(
            source,
            f"the shape {list(shape)} given for input {name} does not fit the model's "
            f"{_text(declared)}",
            "Give numbers only for the named dimensions (a name stands for one number "
            "everywhere), or export the model for the other shape",
        )


def _require_static(source: str, shapes: Mapping[str, tuple[int | str, ...] | None]) -> None:
    missing = {
        name: dims
        for name, dims in shapes.items()
        if dims is None or any(not isinstance(d, int) for d in dims)
    }
    if not missing:
        return
    what = ", ".join(f"{n} {_text(d)}" for n, d in missing.items())
    flag = format_input_shapes({n: _example(d) for n, d in missing.items()})
    raise MissingShapeError(
        source,
        f"no number for some dimensions of its inputs: {what}",
        f'Give them: {FLAG} "{flag}"',
    )


def _example(dims: tuple[int | str, ...] | None) -> tuple[object, ...]:
    """Known dims as they are, 1 for the others: a flag that can be pasted and then edited."""
    if dims is None:
        return ("...",)
    return tuple(d if isinstance(d, int) else 1 for d in dims)


def _text(dims: tuple[int | str, ...] | None) -> str:
    return "of unknown rank" if dims is None else "[" + ", ".join(str(d) for d in dims) + "]"
