"""The plain way: a block through TVM's own legalisation and FuseTIR.

For blocks that no template covers. The ops of the block become one Primitive function, so it is
still one kernel; its stages are full buffers until a schedule inlines them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tvm
import tvm_ffi
from tvm import relax
from tvm.s_tir import SBlock
from tvm.s_tir import analysis as stir

from tvm_dnnfusion.codegen.block import Kernel, escaping
from tvm_dnnfusion.codegen.layout import PLAIN
from tvm_dnnfusion.codegen.stages import NotLowerable
from tvm_dnnfusion.codegen.wide import FOLDS, SHORT, WIDE
from tvm_dnnfusion.ecg.graph import Graph, Op, Ref, attrs, map_refs
from tvm_dnnfusion.frontend.to_relax import graph_to_relax


def block_graph(ops: tuple[Op, ...], graph: Graph) -> Graph:
    """The block as a graph of its own: what it reads are inputs, what leaves it are outputs."""
    made = {t for op in ops for t in op.outputs}
    read = tuple(dict.fromkeys(t for op in ops for t in op.inputs if t not in made))
    tensors = {t: graph.tensors[t] for op in ops for t in (*op.inputs, *op.outputs)}
    return Graph(tensors, ops, read, escaping(ops, graph))


def widened(graph: Graph) -> Graph:
    """The graph with what folds float16 computed in float32, as the templates do (`wide.py`).

    y = op(x): float16   ->   y = astype(op(astype(x, "float32")), "float16")
    """
    if not any(_folds_short(op, graph) for op in graph.ops):
        return graph
    tensors, ops = dict(graph.tensors), []

    def cast(name: str, source: str, target: str, dtype: str) -> None:
        ops.append(Op(name, "astype", (Ref(source),), (target,), attrs(dtype=dtype)))

    for op in graph.ops:
        if not _folds_short(op, graph):
            ops.append(op)
            continue
        names = [t for t in (*op.inputs, *op.outputs) if graph.tensors[t].dtype in SHORT]
        twins = {t: f"{op.name}.{t}.{WIDE}" for t in dict.fromkeys(names)}
        tensors.update({w: replace(graph.tensors[t], name=w, dtype=WIDE) for t, w in twins.items()})
        for t in dict.fromkeys(op.inputs):
            if t in twins:
                cast(f"{twins[t]}.in", t, twins[t], WIDE)
        args = tuple(map_refs(a, twins) for a in op.args)
        outputs = tuple(twins.get(t, t) for t in op.outputs)
        ops.append(replace(op, args=args, outputs=outputs))
        for t in op.outputs:
            if t in twins:
                cast(f"{twins[t]}.out", twins[t], t, graph.tensors[t].dtype)
    return replace(graph, tensors=tensors, ops=tuple(ops))


def _folds_short(op: Op, graph: Graph) -> bool:
    return op.kind in FOLDS and graph.tensors[op.outputs[0]].dtype in SHORT


def lower_plain(name: str, ops: tuple[Op, ...], graph: Graph) -> Kernel:
    """The kernel of a block by way of TVM's legalisation.

    Raises NotLowerable when TVM has no TIR for one of the ops.
    """
    sub = block_graph(ops, graph)
    legal = relax.transform.LegalizeOps()(graph_to_relax(widened(sub)))
    bindings = [b for block in legal["main"].body.blocks for b in block.bindings]
    for b in bindings:
        if isinstance(b.value, relax.Call) and b.value.op != tvm.ir.Op.get("relax.call_tir"):
            raise NotLowerable(f"TVM has no TIR for {b.value.op}")
    func = _fuse(name, legal)
    func = func.with_attr("global_symbol", name).with_attr("tirx.noalias", True)
    func = func.with_attr("dnnfusion.kind", "plain")
    func = func.with_attr(
        "dnnfusion.origins", list(dict.fromkeys(o for op in ops for o in op.origins))
    )
    return Kernel(
        name,
        func,
        sub.inputs,
        sub.outputs,
        (PLAIN,) * len(sub.outputs),
        "plain",
        tuple(op.name for op in ops),
    )


def _fuse(name: str, legal: tvm.IRModule) -> Any:
    """All call_tir of main as one PrimFunc."""
    main = legal["main"]
    inner = relax.utils.copy_with_new_vars(main)
    inner = relax.Function(inner.params, inner.body, inner.ret_ty, inner.is_pure)
    inner = inner.with_attr("Primitive", True)
    module = tvm.IRModule({gv: f for gv, f in legal.functions.items() if gv.name_hint != "main"})
    gv = tvm.ir.GlobalVar(name)
    relax.expr._update_type(gv, relax.FuncType([p.ty for p in inner.params], inner.ret_ty))
    module[gv] = inner
    params = [relax.Var(p.name, p.ty) for p in main.params]
    builder = relax.BlockBuilder(module)
    with builder.function("main", params):
        with builder.dataflow():
            out = builder.emit_output(relax.Call(gv, params))
        builder.emit_func_output(out)
    fused = relax.transform.FuseTIR()(builder.get())
    found = [f for g, f in fused.functions.items() if g.name_hint == name]
    if not found or not isinstance(found[0], tvm.tirx.PrimFunc):
        raise NotLowerable("FuseTIR kept it as it was")
    return recomputed_regions(found[0])


def recomputed_regions(func: Any) -> Any:
    """The function with the read and write regions of its blocks derived from their bodies.

    FuseTIR keeps only the first region of a buffer that a block reads twice (relu -> matmul(r, r)),
    and a schedule that trusts it computes too little.
    """
    buffers = list(func.params)
    tvm_ffi.structural_walk(func.body, [(SBlock, lambda b: buffers.extend(b.alloc_buffers))])

    def fix(block: Any) -> Any:
        if block.name_hint == "root":
            return block
        reads, writes = stir.get_sblock_read_write_region(block, {x: x for x in buffers})[:2]
        if block.init is not None:
            written = {w.source for w in writes}
            reads = [r for r in reads if r.source not in written]
        return SBlock(
            block.iter_vars,
            reads,
            writes,
            block.name_hint,
            block.body,
            block.init,
            block.alloc_buffers,
            block.match_buffers,
            block.annotations,
        )

    return func.with_body(tvm_ffi.structural_map(func.body, [(SBlock, fix)]))
