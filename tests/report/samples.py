"""Graphs and plans for the tests of the report, made by hand so that their counts are known."""

from __future__ import annotations

from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.planners.plan import Block, EdgeDecision, Plan, Reason
from tvm_dnnfusion.report.summary import GraphSummary, OpSummary, TensorSummary

ONE = MappingType.ONE_TO_ONE
MANY = MappingType.MANY_TO_MANY
VIEW = MappingType.REORGANIZE


def op(
    name: str,
    kind: str,
    inputs: tuple[str, ...],
    mapping: MappingType | None = ONE,
    origins: tuple[str, ...] = (),
    flops: int = 0,
    outputs: tuple[str, ...] = (),
) -> OpSummary:
    """An op whose output is named after it, unless `outputs` are given."""
    outs = outputs or (f"{name}:0",)
    barrier = "DATA_DEPENDENT_SHAPE" if mapping is None else None
    return OpSummary(name, kind, origins, (), inputs, outs, mapping, barrier, flops, 0, 0, 0)


def graph(ops: list[OpSummary], outputs: tuple[str, ...], elements: int = 256) -> GraphSummary:
    """A graph of float32 tensors of `elements` elements; its inputs are what nobody makes."""
    made = {t for o in ops for t in o.outputs}
    names = dict.fromkeys([t for o in ops for t in (*o.inputs, *o.outputs)])
    tensors = {t: TensorSummary(t, (1, elements), "float32", 4 * elements) for t in names}
    return GraphSummary(tuple(ops), tensors, tuple(t for t in names if t not in made), outputs)


def diamond() -> GraphSummary:
    """conv -> relu -> {a, b} -> add -> reshape -> out; 5 ops of 1024 bytes and one view."""
    ops = [
        op("conv", "nn.conv2d", ("x",), MANY, ("layer1/Conv",), 1000),
        op("relu", "nn.relu", ("conv:0",), ONE, ("layer1/Relu",), 10),
        op("a", "exp", ("relu:0",), ONE, ("branch/Exp",), 10),
        op("b", "sqrt", ("relu:0",), ONE, ("branch/Sqrt",), 10),
        op("add", "add", ("a:0", "b:0"), ONE, ("join/Add",), 10),
        op("flat", "reshape", ("add:0",), VIEW, ("join/Flatten",)),
        op("dense", "matmul", ("flat:0",), MANY, ("head/Gemm",), 500),
    ]
    return graph(ops, ("dense:0",))


def diamond_plan() -> Plan:
    """conv+relu | a | b | add | flat (a view) | dense, with a reason for each edge."""
    blocks = (
        Block("b000_conv2d_relu", ("conv", "relu"), MANY, "relu"),
        Block("b001_exp", ("a",), ONE),
        Block("b002_sqrt", ("b",), ONE),
        Block("b003_add", ("add",), ONE),
        Block("b004_reshape", ("flat",), VIEW),
        Block("b005_matmul", ("dense",), MANY),
    )
    no = (("fused_us", 31.25), ("apart_us", 25.0))
    decisions = (
        EdgeDecision("conv", "relu", True, Reason.FUSED_GREEN),
        EdgeDecision("relu", "a", False, Reason.NO_PROFIT, no, "measured"),
        EdgeDecision("relu", "b", False, Reason.NO_PROFIT, no, "measured"),
        EdgeDecision("a", "add", False, Reason.TAKEN),
        EdgeDecision("b", "add", False, Reason.TAKEN),
        EdgeDecision("add", "flat", False, Reason.ESCAPES),
        EdgeDecision("flat", "dense", False, Reason.RED),
    )
    return Plan("dnnfusion", "f" * 64, blocks, decisions, "test")


def network(blocks: int = 60) -> tuple[GraphSummary, Plan]:
    """A residual net with branches and a skip over its whole length: `blocks` blocks."""
    ops: list[OpSummary] = []
    plan: list[Block] = []
    decisions: list[EdgeDecision] = []
    home: dict[str, str] = {}

    def put(
        index: int, kinds: tuple[str, ...], inputs: tuple[str, ...], kind: MappingType | None
    ) -> str:
        block = f"b{index:03d}_{'_'.join(k.split('.')[-1] for k in kinds)}"
        last = inputs
        for j, k in enumerate(kinds):
            layer = f"stage{index // 12}/unit{index}/{k.split('.')[-1]}_{j}"
            ops.append(op(f"op{index}_{j}", k, last, kind if j == 0 else ONE, (layer,), 10**8))
            home[ops[-1].name] = block
            last = ops[-1].outputs
        plan.append(Block(block, tuple(o.name for o in ops[-len(kinds) :]), kind))
        return last[0]

    stem = tip = put(0, ("nn.conv2d", "add", "nn.relu"), ("image",), MANY)
    index = 1
    while index + 5 <= blocks - 2:
        left = put(index, ("nn.conv2d", "add", "nn.relu"), (tip,), MANY)
        left = put(index + 1, ("nn.conv2d", "add"), (left,), MANY)
        right = put(index + 2, ("permute_dims",), (tip,), MappingType.SHUFFLE)
        right = put(index + 3, ("reshape",), (right,), VIEW)
        tip = put(index + 4, ("add", "nn.relu"), (left, right), MappingType.ONE_TO_MANY)
        index += 5
    while index < blocks - 2:
        tip = put(index, ("sigmoid", "multiply"), (tip,), ONE)
        index += 1
    tip = put(blocks - 2, ("concat",), (tip, stem), ONE)
    tip = put(blocks - 1, ("nonzero",), (tip,), None)
    summary = graph(ops, (tip,), 64 * 56 * 56)
    reasons = (Reason.RED, Reason.NO_PROFIT, Reason.TAKEN, Reason.NOT_CONVEX)
    for i, (a, b) in enumerate(summary.edges):
        if home[a] == home[b]:
            decisions.append(EdgeDecision(a, b, True, Reason.FUSED_GREEN))
        else:
            figures = (("fused_us", 120.5 + i), ("apart_us", 98.0)) if i % 4 == 1 else ()
            decisions.append(EdgeDecision(a, b, False, reasons[i % 4], figures))
    return summary, Plan("dnnfusion", "0" * 64, tuple(plan), tuple(decisions), "test")
