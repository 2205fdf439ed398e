"""The groups that TVM's FuseOps makes of a graph, in terms of the graph's own ops.

For the baseline planner "tvm". The graph becomes a Relax function (barriers left out: what they
make is a parameter, what they read is returned), is legalised and goes through FuseOps. Every
kernel has a name of its own by then, so that the calls inside a grouped function lead back to ops.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tvm
from tvm import relax

from tvm_dnnfusion.ecg.catalog import barrier_of
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.frontend.origins import map_bindings
from tvm_dnnfusion.frontend.relax import Imported
from tvm_dnnfusion.frontend.to_relax import to_relax


def fuseops_groups(graph: Graph) -> list[tuple[Op, ...]]:
    """A partition of the graph's ops: FuseOps' groups, and one group for each op beside them."""
    plain = _without_barriers(graph)
    module = _module(plain)
    names = _op_of_binding(module, plain)
    with tvm.target.Target({"kind": "llvm"}):
        legal = relax.transform.LegalizeOps()(module)
        marked, owner = _one_kernel_per_call(legal, names)
        fused = tvm.transform.Sequential(
            [relax.transform.AnnotateTIROpPattern(), relax.transform.FuseOps()]
        )(marked)
    group = {name: i for i, members in enumerate(_groups(fused, owner)) for name in members}
    out: dict[int | str, list[Op]] = {}
    for op in graph.ops:
        out.setdefault(group.get(op.name, op.name), []).append(op)
    return [tuple(ops) for ops in out.values()]


def _without_barriers(graph: Graph) -> Graph:
    """The graph's other ops, over what barriers make; what barriers read is an output too."""
    ops = tuple(op for op in graph.ops if barrier_of(op, graph) is None)
    made = {t for op in ops for t in op.outputs}
    read = dict.fromkeys(t for op in ops for t in op.inputs if t not in made)
    kept = {op.name for op in ops}
    outside = [t for t in made if any(c.name not in kept for c in graph.consumers[t])]
    outputs = dict.fromkeys((*(t for t in graph.outputs if t in made), *sorted(outside)))
    tensors = {t: graph.tensors[t] for t in (*read, *sorted(made))}
    data = {t: v for t, v in graph.constants.items() if t in read}
    inputs = tuple(t for t in read if t not in data)
    return replace(graph, tensors=tensors, ops=ops, inputs=inputs, outputs=tuple(outputs),
                   constants=data)  # fmt: skip


def _module(graph: Graph) -> tvm.IRModule:
    """The graph as a function of its inputs."""
    params = tuple(
        (relax.Var(f"p{i}", relax.TensorType(graph.tensors[t].dims, graph.tensors[t].dtype)), t)
        for i, t in enumerate(graph.inputs)
    )
    builder = relax.BlockBuilder()
    with builder.function("main", [var for var, _ in params]):
        builder.emit_func_output(relax.Tuple([var for var, _ in params]))
    result = tuple(range(len(graph.outputs)))
    return to_relax(Imported(builder.get(), "main", graph, {}, params, result, {}), graph)


def _bindings(func: Any) -> list[Any]:
    return [binding for block in func.body.blocks for binding in block.bindings]


def _op_of_binding(module: tvm.IRModule, graph: Graph) -> dict[str, str]:
    """Variable name -> op name: the calls of operators stand in the order of the graph's ops."""
    calls = [b for b in _bindings(module["main"])
             if isinstance(b.value, relax.Call) and isinstance(b.value.op, tvm.ir.Op)]  # fmt: skip
    if len(calls) != len(graph.ops):
        raise ValueError(f"{len(graph.ops)} ops became {len(calls)} calls")
    return {b.var.name: op.name for b, op in zip(calls, graph.ops)}


def _one_kernel_per_call(
    module: tvm.IRModule, names: dict[str, str]
) -> tuple[tvm.IRModule, dict[str, str]]:
    """The module with a copy of its kernel for every call, and kernel name -> op name.

    What legalisation put before an op's own binding belongs to that op.
    """
    builder = relax.BlockBuilder()
    owner: dict[str, str] = {}
    waiting: list[str] = []

    def recall(var: Any, value: Any) -> Any:
        if isinstance(value, relax.Call) and value.op == tvm.ir.Op.get("relax.call_tir"):
            # the attribute keeps the builder from sharing equal kernels
            copy = module[value.args[0]].with_attr("dnnfusion.call", str(var.name))
            gv = builder.add_func(copy, "kernel")
            waiting.append(gv.name_hint)
            value = relax.Call(value.op, [gv, *value.args[1:]], value.attrs, value.ty_args)
        if var.name in names:
            owner.update((kernel, names[var.name]) for kernel in waiting)
            waiting.clear()
        return value

    main = map_bindings(module["main"], recall)
    kernels = dict(builder.get().functions.items())
    return relax.transform.Normalize()(tvm.IRModule({"main": main, **kernels})), owner


def _groups(fused: tvm.IRModule, owner: dict[str, str]) -> list[tuple[str, ...]]:
    """Op names of every grouped function, each op in the group of its last kernel."""
    last = {op: kernel for kernel, op in owner.items()}
    out = []
    for gv in sorted(fused.get_global_vars(), key=lambda gv: gv.name_hint):
        func = fused[gv]
        if isinstance(func, relax.Function) and "Primitive" in (func.attrs or {}):
            called = [b.value.args[0].name_hint for b in _bindings(func)
                      if isinstance(b.value, relax.Call)
                      and b.value.op == tvm.ir.Op.get("relax.call_tir")]  # fmt: skip
            out.append(tuple(owner[k] for k in called if k in owner and last[owner[k]] == k))
    return out
