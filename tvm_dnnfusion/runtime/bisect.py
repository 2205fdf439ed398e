"""The first block of a plan whose results are wrong.

Two ways to run a model give the tensors that leave its blocks: fused, and one op at a time. They
are compared in the plan's order, so the first difference is in a block whose inputs still agreed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.planners.plan import Block, Plan
from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.runtime.module import Module
from tvm_dnnfusion.runtime.tolerance import reduction_length, tolerance_of
from tvm_dnnfusion.runtime.verify import OutputCheck, compare

Tensors = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class BlockCheck:
    """The tensors of one block, compared."""

    block: Block
    tensors: tuple[OutputCheck, ...]

    @property
    def ok(self) -> bool:
        """Whether all of them agree."""
        return all(check.ok for check in self.tensors)


@dataclass(frozen=True, slots=True)
class Bisection:
    """What was compared, in the plan's order, up to the first wrong block.

    `wrong` is that block, None where there is none; `origins` the source layers in it; `missing`
    are tensors that a way to run did not give, and that could not be compared.
    """

    checked: tuple[BlockCheck, ...]
    wrong: BlockCheck | None
    origins: tuple[str, ...]
    missing: tuple[str, ...]


def exposed(graph: Graph, plan: Plan) -> tuple[tuple[Block, tuple[str, ...]], ...]:
    """Blocks in the plan's order, each with the tensors that leave it.

    Values that are not tensors (shapes, tuples) are left out.
    """
    block_of = {name: block.name for block in plan.blocks for name in block.ops}
    out: list[tuple[Block, tuple[str, ...]]] = []
    for block in plan.blocks:
        tensors = (t for name in block.ops for t in graph.by_name[name].outputs)
        leaving = tuple(t for t in tensors if _leaves(graph, t, block.name, block_of))
        out.append((block, leaving))
    return tuple(out)


def with_exposed(graph: Graph, plan: Plan) -> Graph:
    """The graph with every tensor that leaves a block as an output, after its own outputs.

    Lowered with the same plan it shows each block's results; lowered with a plan of single ops it
    shows what they should be.
    """
    extra = (t for _, tensors in exposed(graph, plan) for t in tensors)
    return graph.rebuild(graph.ops, outputs=tuple(dict.fromkeys((*graph.outputs, *extra))))


def exposed_results(module: Module, inputs: Mapping[str, Array], shown: Graph) -> Tensors:
    """Run a module made of a graph from `with_exposed`; results by that graph's tensor names."""
    return dict(zip(shown.outputs, module(inputs).values(), strict=True))


def bisect(
    graph: Graph,
    plan: Plan,
    run_fused: Callable[[], Tensors],
    run_unfused: Callable[[], Tensors],
    *,
    rtol: float | None = None,
    atol: float | None = None,
) -> Bisection:
    """Find the first block whose results differ.

    Parameters
    ----------
    graph : Graph
        The rewritten graph that `plan` is of.
    plan : Plan
        Its blocks are in execution order.
    run_fused, run_unfused : callable
        Give tensors by the names of `graph`, at least those of `exposed`.
    rtol, atol : float or None
        In place of the dtype's tolerances.
    """
    fused, expected = run_fused(), run_unfused()
    length = reduction_length(graph)
    checked: list[BlockCheck] = []
    missing: list[str] = []
    for block, tensors in exposed(graph, plan):
        there = [t for t in tensors if t in fused and t in expected]
        missing += [t for t in tensors if t not in there]
        checks = tuple(
            compare(
                t, expected[t], fused[t], tolerance_of(str(expected[t].dtype), rtol, atol), length
            )
            for t in there
        )
        checked.append(BlockCheck(block, checks))
        if not checked[-1].ok:
            return Bisection(tuple(checked), checked[-1], _origins(graph, block), tuple(missing))
    return Bisection(tuple(checked), None, (), tuple(missing))


def _leaves(graph: Graph, tensor: str, block: str, block_of: Mapping[str, str]) -> bool:
    """Whether a tensor is returned, or read by another block."""
    if not graph.tensors[tensor].dtype:
        return False
    readers = graph.consumers[tensor]
    return graph.is_output(tensor) or any(block_of.get(op.name) != block for op in readers)


def _origins(graph: Graph, block: Block) -> tuple[str, ...]:
    found = (origin for name in block.ops for origin in graph.by_name[name].origins)
    return tuple(dict.fromkeys(found))
