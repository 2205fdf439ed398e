"""One block becomes one kernel.

Ops are taken in topological order; each is asked for its `Value`s over those of its operands. What
leaves the block becomes an `out` stage. The result is an unscheduled PrimFunc with few, well-named
stages (see `stages.py`); schedules take it from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from types import MappingProxyType
from typing import Any

import tvm
from tvm import s_tir, te, tirx

from tvm_dnnfusion.codegen import (
    attention,
    convolution,
    creation,
    matmul,
    movement,
    pointwise,
    pooling,
    reductions,
    roi,
    vecmath,
)
from tvm_dnnfusion.codegen.inplace import Slot, write_into
from tvm_dnnfusion.codegen.layout import PLAIN, Layout
from tvm_dnnfusion.codegen.params import ATTR, Choices
from tvm_dnnfusion.codegen.stages import NotLowerable, Packed, Stages
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute, load, store
from tvm_dnnfusion.codegen.winograd_choice import MAX_TILE
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.planners.places import home
from tvm_dnnfusion.planners.plan import Place

# Kinds that a template covers; blocks with others are lowered in the plain way.
KINDS = (
    frozenset(creation.KINDS)
    | pointwise.KINDS
    | movement.KINDS
    | frozenset(reductions.KINDS)
    | frozenset(convolution.KINDS)
    | frozenset(pooling.KINDS)
    | frozenset(matmul.KINDS)
    | frozenset(attention.KINDS)
    | frozenset(roi.KINDS)
)

# A constant of at most this many elements that are all equal becomes an immediate.
_SPLAT_LIMIT = 1 << 12


@dataclass(frozen=True)
class Kernel:
    """A lowered block.

    `func` takes `inputs` (tensor names of the graph, or constants packed for it) and writes
    `outputs`, each in the layout of the same place in `layouts`. `kind` names the template.
    A tensor that has a place in another one stands there under the name of the other.
    """

    name: str
    func: tvm.tirx.PrimFunc
    inputs: tuple[str | Packed, ...]
    outputs: tuple[str, ...]
    layouts: tuple[Layout, ...]
    kind: str
    ops: tuple[str, ...]


def escaping(ops: tuple[Op, ...], graph: Graph) -> tuple[str, ...]:
    """The tensors of a block that other ops read or the graph returns, in order."""
    inside = {op.name for op in ops}
    return tuple(
        t
        for op in ops
        for t in op.outputs
        if graph.is_output(t) or any(c.name not in inside for c in graph.consumers[t])
    )


def lower_block(
    name: str,
    ops: tuple[Op, ...],
    graph: Graph,
    layouts: Mapping[str, Layout],
    device: DeviceSpec,
    places: Mapping[str, Place] = MappingProxyType({}),
    winograd: int = MAX_TILE,
    choices: Choices | None = None,
) -> Kernel:
    """The kernel of a block.

    Parameters
    ----------
    ops : the block's ops in topological order, none of them a barrier.
    layouts : how tensors lie in memory, for those that are not row-major.
    places : where they lie, for those that are part of another one, in one layout with it.
    winograd : the largest F(m, r) that convolutions may take; 0 forbids it.
    choices : the template's parameters; its own choices where there are none.

    Raises
    ------
    NotLowerable when no template covers the block; the message says why. ParamsError for parameters
    that do not fit it.
    """
    missing = [op.kind for op in ops if op.kind not in KINDS]
    if missing:
        raise NotLowerable(f"no template for {', '.join(missing)}")
    choices = choices or Choices()
    # a GPU's pooling is a kernel of its own, which makes its border itself
    tail = _pool_tail(ops) if device.kind == "cpu" else None
    stages = Stages(device, tail=tail, winograd=winograd, choices=choices)
    lowering = _Lowering(ops, graph, layouts, stages, places)
    for op in ops:
        lowering.op(op)
    return lowering.kernel(name)


def lower_copy(
    name: str,
    place: Place,
    graph: Graph,
    layouts: Mapping[str, Layout],
    device: DeviceSpec,
    places: Mapping[str, Place],
) -> Kernel:
    """The kernel that copies a tensor to a place in another one."""
    lowering = _Lowering((), graph, layouts, Stages(device), places)
    return lowering.copy(name, place)


def _pool_tail(ops: tuple[Op, ...]) -> Op | None:
    """The pooling that reads the block's convolution."""
    convolved = False
    for op in ops:
        if op.kind in pooling.KINDS and convolved:
            return op
        convolved = convolved or (op.kind in convolution.KINDS)
    return None


class _Lowering:
    """Walks the ops of a block."""

    def __init__(
        self,
        ops: tuple[Op, ...],
        graph: Graph,
        layouts: Mapping[str, Layout],
        stages: Stages,
        places: Mapping[str, Place],
    ):
        self.ops, self.graph, self.layouts, self.stages = ops, graph, layouts, stages
        self.places = places
        self.arguments: dict[str, Any] = {}  # tensors in memory -> their argument
        self.values: dict[str, Value] = {}
        self.escaping = escaping(ops, graph)
        self.outputs: dict[str, tuple[Any, Layout]] = {}
        self.readers: dict[str, int] = {}
        for op in ops:
            for t in op.inputs:
                self.readers[t] = self.readers.get(t, 0) + 1
        self.moved: dict[str, Any] = {}  # output stages in the anchor's order -> where they write

    def value(self, tensor: str) -> Value:
        """The value of a tensor: made in the block, a constant, or an argument."""
        if tensor not in self.values:
            value = self._external(tensor)
            value.readers = self.readers.get(tensor, 1)
            self.values[tensor] = value
        return self.values[tensor]

    def _external(self, tensor: str) -> Value:
        record = self.graph.tensors[tensor]
        data = self.graph.constants.get(tensor)
        if data is not None and 0 < data.size <= _SPLAT_LIMIT and (data == data.flat[0]).all():
            number = _immediate(data.flat[0].item(), record.dtype)
            return Value(record.dims, record.dtype, lambda body, index: number, resident=True)
        layout = self.layouts.get(tensor, PLAIN)
        if data is not None:
            # loads of constants that a template packs never happen: the argument is made when read
            return self._lazy(tensor, record.dims, record.dtype)
        place = home(tensor, self.graph, self.places)
        if place.buffer not in self.arguments:
            shape = layout.shape(self.graph.tensors[place.buffer].dims)
            self.arguments[place.buffer] = self.stages.argument(place.buffer, shape, record.dtype)
        return load(self.arguments[place.buffer], record.dims, layout, place.start)

    def _lazy(self, tensor: str, shape: tuple[int, ...], dtype: str) -> Value:
        made: list[Any] = []

        def at(body: Body, index: Index) -> Any:
            if not made:
                made.append(self.stages.argument(tensor, shape, dtype))
            return made[0](*(body.simplify(i) for i in index))

        return Value(shape, dtype, at, resident=True)

    def op(self, op: Op) -> None:
        inputs = [self._light(self.value(t)) for t in op.inputs]
        shapes = [self.graph.tensors[t].dims for t in op.outputs]
        results = self._emit(op, inputs, shapes)
        for tensor, value, shape in zip(op.outputs, results, shapes):
            if value.shape != shape or value.dtype != self.graph.tensors[tensor].dtype:
                raise NotLowerable(f"{op.name} ({op.kind}) came out as {value.shape} {value.dtype}")
            value.readers += self.readers.get(tensor, 0)
            known = max(value.weight, pointwise.weight(op, inputs))
            value.weight = 1 if value.resident else known
            self.values[tensor] = value
            if tensor in self.escaping:
                self._store(tensor, value)

    def _light(self, value: Value) -> Value:
        """The value, stored first where its expression has grown out of hand."""
        shared = value.readers > 1
        if value.weight <= (pointwise.MAX_SHARED_WEIGHT if shared else pointwise.MAX_WEIGHT):
            return value
        held = self.stages.hold(value, layout=value.layout)
        for tensor in [t for t, v in self.values.items() if v is value]:
            self.values[tensor] = held
        return held

    def _emit(self, op: Op, inputs: list[Value], shapes: list[tuple[int, ...]]) -> list[Value]:
        dtype = self.graph.tensors[op.outputs[0]].dtype
        if op.kind == "split":
            return movement.split(op, inputs, shapes, self.graph)
        if op.kind in movement.SINGLE:
            out = movement.SINGLE[op.kind](op, inputs, shapes[0], self.graph)
        elif op.kind in creation.KINDS:
            out = creation.KINDS[op.kind](op, inputs, shapes[0], self.graph)
        elif op.kind in reductions.KINDS:
            out = reductions.KINDS[op.kind](op, inputs, shapes[0], self.graph, self.stages)
        elif op.kind in convolution.KINDS:
            out = convolution.KINDS[op.kind](op, inputs, self.graph, self.stages)
        elif op.kind in pooling.KINDS:
            out = pooling.pooling(op, inputs, self.graph, self.stages)
        elif op.kind in matmul.KINDS:
            out = matmul.matmul(op, inputs, self.graph, self.stages)
        elif op.kind in attention.KINDS:
            out = attention.attention(op, inputs, self.graph, self.stages)
        elif op.kind in roi.KINDS:
            out = roi.KINDS[op.kind](op, inputs, shapes[0], self.stages)
        else:
            out = pointwise.emit(op, inputs, shapes[0], dtype)
        if out is None:
            raise NotLowerable(f"{op.name}: {op.kind} with these attributes")
        return [out]

    def _store(self, tensor: str, value: Value) -> None:
        """An output stage; later ops of the block read it."""
        layout = self.layouts.get(tensor, PLAIN)
        if value.weight > pointwise.MAX_WEIGHT and value.layout not in (PLAIN, layout):
            value = self.stages.hold(value, layout=value.layout)  # long vectors need its own order
        name = self.stages.name("out")
        if self._follows_anchor(value, layout):
            self.outputs[tensor] = (self._store_moved(name, value, layout), layout)
            return
        stage = compute(
            name,
            layout.shape(value.shape),
            lambda body, place: body.read(value, tuple(layout.logical(tuple(place)))),
        )
        self.outputs[tensor] = (stage, layout)
        kept = load(stage, value.shape, layout)
        kept.readers, kept.push, kept.moved = value.readers, value.push, value.moved
        self.values[tensor] = kept

    def _follows_anchor(self, value: Value, layout: Layout) -> bool:
        """Whether the value has another order than the anchor, but its elements one by one."""
        domain = self.stages.domain
        if self.stages.planes:
            return value.push is not None
        if value.push is None or _volume(domain) != _volume(value.shape):
            return False
        return value.moved or (self.stages.kind == "conv" and layout.shape(value.shape) != domain)

    def _store_moved(self, name: str, value: Value, layout: Layout) -> Any:
        """An output stage in the order of the anchor, which writes to where the element belongs.

        So that GEMM + Reshape + Transpose stays one pass over register tiles: the write index is
        transformed when the function is there (`_move`).
        """
        push, domain = value.push, self.stages.domain
        assert push is not None
        self.moved[name] = lambda *place: layout.index(push(_body_over(place, domain), place))
        return compute(name, domain, lambda body, place: body.read(value, push(body, place)))

    def kernel(self, name: str) -> Kernel:
        """The PrimFunc over the arguments and outputs."""
        outs = [self.outputs[t][0] for t in self.escaping]
        args = [tensor for _, tensor in self.stages.arguments]
        func = _move(te.create_prim_func([*args, *outs]), self.moved, len(self.stages.domain))
        func = write_into(func, [self._slot(t) for t in self.escaping])
        attrs: dict[str, Any] = {
            "global_symbol": name,
            "tirx.noalias": True,
            "dnnfusion.kind": self.stages.kind,
            "dnnfusion.origins": list(dict.fromkeys(o for op in self.ops for o in op.origins)),
            **self.stages.attrs,
        }
        if self.stages.tile is not None:
            attrs["dnnfusion.tile"] = list(astuple(self.stages.tile))
        if self.stages.choices.params:
            attrs[ATTR] = self.stages.choices.params.text()
        for key, item in attrs.items():
            func = func.with_attr(key, item)
        return Kernel(
            name,
            func,
            tuple(s for s, _ in self.stages.arguments),
            tuple(home(t, self.graph, self.places).buffer for t in self.escaping),
            tuple(self.outputs[t][1] for t in self.escaping),
            self.stages.kind,
            tuple(op.name for op in self.ops),
        )

    def _slot(self, tensor: str) -> Slot | None:
        """The part of another tensor's memory that an output takes, if it does."""
        place = self.places.get(tensor)
        if place is None:
            return None
        layout = self.outputs[tensor][1]
        shape = layout.shape(self.graph.tensors[place.buffer].dims)
        return Slot(place.buffer, shape, layout.index(place.start))

    def copy(self, name: str, place: Place) -> Kernel:
        """The kernel that copies a tensor from where it lies to a place."""
        tensor = place.tensor
        source = self.value(tensor)
        layout = self.layouts.get(place.buffer, PLAIN)
        self.outputs[tensor] = store(self.stages.name("out"), source, layout), layout
        self.escaping = (tensor,)
        self.places = {tensor: place}
        return self.kernel(name)


def _immediate(value: Any, dtype: str) -> Any:
    """A constant in the code; 0.0 hidden, since 0 * x is not 0 where x is infinite."""
    number = tirx.const(value, dtype)
    return vecmath.hidden(number) if value == 0 else number


def _volume(shape: tuple[int, ...]) -> int:
    out = 1
    for n in shape:
        out *= n
    return out


def _body_over(place: Index, domain: tuple[int, ...]) -> Body:
    return Body(dict(zip(place, domain)))


def _move(func: Any, moved: Mapping[str, Any], rank: int) -> Any:
    """The function with the outputs of these stages laid out by their maps."""
    if not moved:
        return func
    sch = s_tir.Schedule(func)
    for name, where in moved.items():
        index_map = tirx.IndexMap.from_func(_exprs(where), ndim=rank)
        sch.transform_layout(name, ("write", 0), index_map, assume_injective_transform=True)
    return sch.mod["main"]


def _exprs(where: Callable[..., Index]) -> Callable[..., list[Any]]:
    """An index map with numbers as TIR constants, as IndexMap takes them."""

    def mapped(*place: Any) -> list[Any]:
        return [tirx.const(i, "int32") if isinstance(i, int) else i for i in where(*place)]

    return mapped
