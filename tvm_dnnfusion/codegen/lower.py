"""A planned graph becomes a module: one PrimFunc per block, and a Relax function that calls them.

Blocks are lowered by templates (`block.py`), or in the plain way (`plain.py`) where no template
covers them, or left as Relax ops where TVM has no TIR either. Each step down is recorded with its
reason. Kernels that came out equal are kept once, under the name of the first block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax

from tvm_dnnfusion.codegen.block import Kernel, lower_copy
from tvm_dnnfusion.codegen.form import TRACE, Form, Tuned, recorded
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.layouts import assign_layouts
from tvm_dnnfusion.codegen.movement import VIEWS
from tvm_dnnfusion.codegen.params import ATTR, DEFAULT, Choices, ParamsError
from tvm_dnnfusion.codegen.stages import NotLowerable, Packed
from tvm_dnnfusion.codegen.winograd_budget import WEIGHTS_GROWTH, Allowed, allowed
from tvm_dnnfusion.codegen.winograd_choice import MAX_TILE
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.frontend.relax import Imported
from tvm_dnnfusion.frontend.to_relax import FunctionWriter
from tvm_dnnfusion.planners.places import copied, is_joined
from tvm_dnnfusion.planners.plan import Block, Place, Plan


@dataclass(frozen=True)
class Lowered:
    """The module, and how each block came into it.

    `kinds` maps block names to the template ("conv", "rows" ...), "plain", "relax" (left as ops),
    "view" or "in place" (no kernel at all) or "barrier"; `reasons` says why a block has no
    template, or a slower one that takes less memory; `kernel_of` names the PrimFunc that serves a
    block. `places` are those of the plan that hold; `forms` say what kernels were made from, those
    of blocks that have one of their own.
    """

    module: tvm.IRModule
    kinds: Mapping[str, str]
    reasons: Mapping[str, str]
    kernel_of: Mapping[str, str]
    places: Mapping[str, Place] = field(default_factory=dict)
    forms: Mapping[str, Form] = field(default_factory=dict)


def lower(
    imported: Imported,
    graph: Graph,
    plan: Plan,
    device: DeviceSpec,
    winograd: int = MAX_TILE,
    winograd_memory: float = WEIGHTS_GROWTH,
    tuned: Tuned | None = None,
) -> Lowered:
    """Lower every block of a plan.

    Parameters
    ----------
    imported : the bridge of the function, for barriers, parameters and the result's structure.
    graph : the (rewritten) graph that the plan is of.
    winograd : the largest F(m, r) that convolutions may take; 0 forbids it.
    winograd_memory : how many times their memory all weights together may take for it.
    tuned : answers with the tuning record of a form; None: the templates' own choices.

    Raises ParamsError for a record that does not fit its block.
    """
    budget = allowed(graph, device, winograd, winograd_memory)
    lowering = _Lowering(graph, plan, device, budget, winograd, tuned)
    kernels = lowering.kernels()
    writer = FunctionWriter(imported, graph)
    emitter = _Emitter(writer, graph, frozenset(p.buffer for p in lowering.places.values()))
    for block in plan.blocks:
        if block.name not in kernels:
            for name in block.ops:
                writer.op(graph.by_name[name])
        for kernel in kernels.get(block.name, ()):
            emitter.kernel(kernel)
    module = writer.finish()
    forms = {name: form for name, form in lowering.forms.items() if name in kernels}
    return Lowered(
        module, lowering.kinds, lowering.reasons, emitter.kernel_of, lowering.places, forms
    )


def is_view(ops: tuple[Op, ...]) -> bool:
    """Whether a block only gives a tensor another shape, which takes no kernel."""
    return all(op.kind in VIEWS for op in ops)


OWN_ON_GPUS = frozenset({"scatter_nd"})
"""Ops that are left to `schedules/gpu/forms.py`: TVM's TIR of them has threads already."""

_NO_KERNEL = ("barrier", "view", "relax", "in place")


@dataclass
class _Lowering:
    """Lowers blocks until the layouts between them suit all."""

    graph: Graph
    plan: Plan
    device: DeviceSpec
    winograd: Allowed
    largest: int
    tuned: Tuned | None = None
    kinds: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    plain: dict[str, None] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)

    def kernels(self) -> dict[str, tuple[Kernel, ...]]:
        """Kernels by block name; blocks without an entry are emitted as Relax ops."""
        blocks = [(b, tuple(self.graph.by_name[n] for n in b.ops)) for b in self.plan.blocks]
        self.places = {p.tensor: p for p in self.plan.places}
        for block, ops in blocks:
            self._classify(block, ops)
        while True:
            self._join(blocks)
            planned = tuple(
                ops for block, ops in blocks if self.kinds.get(block.name) not in _NO_KERNEL
            )
            layouts = assign_layouts(
                planned, self.graph, self.device, frozenset(self.plain), self.places
            )
            done: dict[str, tuple[Kernel, ...]] = {}
            for block, ops in blocks:
                if self.kinds.get(block.name) == "in place":
                    done[block.name] = self._copies(block, ops[0], layouts)
                    continue
                if self.kinds.get(block.name) in _NO_KERNEL:
                    continue
                kernel = self._lower(block, ops, layouts)
                if kernel is None:
                    break  # it needs row-major neighbours: choose layouts anew
                done[block.name] = (kernel,)
            else:
                return done

    def _join(self, blocks: list[tuple[Block, tuple[Op, ...]]]) -> None:
        """Find the concats without a kernel, as far as the places still hold."""
        for block, ops in blocks:
            if len(ops) == 1 and is_joined(ops[0], self.graph, self.places):
                self.kinds[block.name] = "in place"
            elif self.kinds.get(block.name) == "in place":
                del self.kinds[block.name]

    def _copies(self, block: Block, op: Op, layouts: dict[str, Layout]) -> tuple[Kernel, ...]:
        """The kernels that copy those parts of a joined tensor which lie elsewhere."""
        return tuple(
            lower_copy(
                f"{block.name}_part{i}", place, self.graph, layouts, self.device, self.places
            )
            for i, place in enumerate(copied(op, self.graph, self.places))
        )

    def _classify(self, block: Block, ops: tuple[Op, ...]) -> None:
        if any(op.barrier for op in ops) or block.mapping is None:
            self.kinds[block.name] = "barrier"
        elif is_view(ops) and not any(t in self.places for t in ops[-1].outputs):
            self.kinds[block.name] = "view"
        elif any(0 in self.graph.tensors[t].dims for op in ops for t in (*op.inputs, *op.outputs)):
            self.kinds[block.name] = "relax"
            self.reasons[block.name] = "an empty tensor"
        else:
            return
        self._force_plain(ops)

    def _force_plain(self, ops: tuple[Op, ...]) -> bool:
        """Keep what the ops touch row-major and whole; whether a place was given up for it."""
        touched = dict.fromkeys(t for op in ops for t in (*op.inputs, *op.outputs))
        self.plain.update(touched)
        lost = {self.places[t].buffer for t in touched if t in self.places}
        self.places = {t: p for t, p in self.places.items() if p.buffer not in lost}
        return bool(lost)

    def _lower(
        self, block: Block, ops: tuple[Op, ...], layouts: dict[str, Layout]
    ) -> Kernel | None:
        if self.kinds.get(block.name) != "plain":
            try:
                limit = min(self._limit(op) for op in ops)
                kernel = self._kernel(Form(block.name, ops, layouts, dict(self.places), limit))
                self.kinds[block.name] = kernel.kind
                lost = [why for op in ops if (why := self.winograd.reasons.get(op.name))]
                if lost:
                    self.reasons[block.name] = lost[0]
                return kernel
            except NotLowerable as error:
                self.reasons[block.name] = str(error)
                self.kinds[block.name] = "plain"
        touched = [t for op in ops for t in (*op.inputs, *op.outputs)]
        disturbed = any(t in layouts for t in touched)
        if self._force_plain(ops) or disturbed:
            return None
        try:
            if self.device.kind == "gpu" and any(op.kind in OWN_ON_GPUS for op in ops):
                raise NotLowerable("kernels of its own on GPUs (schedules/gpu/forms.py)")
            return self._kernel(Form(block.name, ops, {}, {}, 0, plain=True))
        except (NotLowerable, tvm.error.InternalError, ValueError) as error:
            self.reasons[block.name] += f"; plain: {str(error).strip().splitlines()[-1][:200]}"
            self.kinds[block.name] = "relax"
            return None

    def _limit(self, op: Op) -> int:
        """The largest m of Winograd's that an op may take: that which it takes by itself, or any
        where the budget has room for that."""
        own = self.winograd.limits.get(op.name)
        if own is None:
            return MAX_TILE
        return self.largest if self.winograd.room and op.name not in self.winograd.reasons else own

    def _kernel(self, form: Form) -> Kernel:
        """The kernel of a form, with the parameters or the trace of its record."""
        text = self.tuned(form, self.graph) if self.tuned is not None else None
        params, trace = recorded(text) if text is not None else (DEFAULT, None)
        try:
            kernel = form.kernel(self.graph, self.device, Choices(params))
        except ParamsError as error:
            raise ParamsError(f"the tuning record of {form.name}: {error}") from error
        self.forms[form.name] = form
        if trace is not None:
            kernel = replace(kernel, func=kernel.func.with_attr(TRACE, trace))
        elif params and form.plain:
            kernel = replace(kernel, func=kernel.func.with_attr(ATTR, params.text()))
        return kernel


@dataclass
class _Emitter:
    """Calls kernels from the Relax function; equal kernels and equal weights are held once."""

    writer: FunctionWriter
    graph: Graph
    buffers: frozenset[str]
    started: dict[str, None] = field(default_factory=dict)
    seen: dict[int, list[tuple[Any, str]]] = field(default_factory=dict)
    packed: dict[tuple[Any, str], list[tuple[np.ndarray, Any]]] = field(default_factory=dict)
    kernel_of: dict[str, str] = field(default_factory=dict)

    def kernel(self, kernel: Kernel) -> None:
        """Emit the call of a kernel; what it writes into a buffer that is there, in place."""
        there = tuple(t for t in kernel.outputs if t in self.started)
        self.started.update(dict.fromkeys(t for t in kernel.outputs if t in self.buffers))
        kernel = _taking(kernel, there)
        name = self._function(kernel)
        self.kernel_of[kernel.name] = name
        types = [
            relax.TensorType(layout.shape(self.graph.tensors[t].dims), self.graph.tensors[t].dtype)
            for t, layout in zip(kernel.outputs, kernel.layouts)
        ]

        def call() -> Any:
            args = [self._argument(s) for s in kernel.inputs]
            gv = self.writer.globals[name]
            made = types if len(types) > 1 else types[0]
            if not there:
                return relax.call_tir(gv, relax.Tuple(args), made)
            given = [self.writer.value(t) for t in there]
            where = [there.index(t) if t in there else -1 for t in kernel.outputs]
            return relax.op.call_tir_inplace(gv, relax.Tuple([*given, *args]), where, made)

        self.writer.emit(kernel.outputs, call)

    def _argument(self, source: str | Packed) -> Any:
        if isinstance(source, str):
            return self.writer.value(source)
        known = self.packed.setdefault((source.data.shape, str(source.data.dtype)), [])
        for data, made in known:
            if _equal(data, source.data):
                return made
        made = relax.const(tvm.runtime.tensor(source.data), str(source.data.dtype))
        known.append((source.data, made))
        return made

    def _function(self, kernel: Kernel) -> str:
        """The name of the function that serves a kernel: an equal one that is there, or its own."""
        bare = kernel.func.without_attr("global_symbol").without_attr("dnnfusion.origins")
        key = tvm_ffi.structural_hash(bare)
        added = self.writer.added
        for other, name in self.seen.get(key, []):
            if tvm_ffi.structural_equal(other, bare):
                old = added[name].attrs["dnnfusion.origins"]
                both = [*old, *kernel.func.attrs["dnnfusion.origins"]]
                added[name] = added[name].with_attr("dnnfusion.origins", both)
                return name
        added[kernel.name] = kernel.func
        self.seen.setdefault(key, []).append((bare, kernel.name))
        return kernel.name


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays of one shape hold the same bits; most that differ do so at once."""
    first, second = (x.reshape(-1).view("uint8") for x in (a, b))
    return np.array_equal(first[:64], second[:64]) and np.array_equal(first, second)


def _taking(kernel: Kernel, there: tuple[str, ...]) -> Kernel:
    """The kernel with the outputs that exist already as its first parameters."""
    if not there:
        return kernel
    func: Any = kernel.func
    params = list(func.params)
    inputs, outs = params[: -len(kernel.outputs)], params[-len(kernel.outputs) :]
    first = [outs[kernel.outputs.index(t)] for t in there]
    rest = [v for t, v in zip(kernel.outputs, outs) if t not in there]
    taking = tvm.tirx.PrimFunc([*first, *inputs, *rest], func.body, func.ret_type, func.attrs)
    return replace(kernel, func=taking)
