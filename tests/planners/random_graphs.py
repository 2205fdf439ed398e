"""Random DAGs over all mapping types, for hypothesis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph

_UNARY = ("nn.relu", "exp", "sigmoid", "negative")
_BINARY = ("add", "multiply", "maximum", "subtract")
_STEPS = ("unary", "binary", "binary", "small", "row", "softmax", "matmul", "reshape", "transpose",
          "concat", "split", "tile", "cumsum", "conv", "pool", "cast")  # fmt: skip


@st.composite
def random_graph(draw: st.DrawFn, max_ops: int = 24, barriers: bool = True) -> Graph:
    """A graph over [1, 4, 8, 8] tensors; every result that nothing reads is returned."""
    b = GraphBuilder()
    full = [b.input("x", (1, 4, 8, 8)), b.input("y", (1, 4, 8, 8))]
    for _ in range(draw(st.integers(2, max_ops))):
        operand, other = draw(st.sampled_from(full)), draw(st.sampled_from(full))
        _step(b, draw(st.sampled_from(_STEPS)), operand, other, draw(st.integers(0, 3)), full)
        if len(b.ops) >= max_ops:
            break
    read = {t for op in b.ops for t in op.inputs}
    made = [t for op in b.ops for t in op.outputs]
    extra = draw(st.sets(st.sampled_from(made), max_size=2))
    b.output(*(t for t in made if t not in read or t in extra))
    graph = b.build()
    if barriers and draw(st.booleans()):
        chosen = draw(st.integers(0, len(graph.ops) - 1))
        ops = tuple(replace(op, barrier="OPAQUE_CALL") if i == chosen else op
                    for i, op in enumerate(graph.ops))  # fmt: skip
        graph = replace(graph, ops=ops)
    return graph


def _step(b: GraphBuilder, what: str, x: str, y: str, pick: int, full: list[str]) -> None:
    def weight(*shape: int) -> str:
        return b.constant("w", np.ones(shape, "float32"))

    if what == "unary":
        full.append(b.op(_UNARY[pick], x))
    elif what == "binary":
        full.append(b.op(_BINARY[pick], x, y))
    elif what == "small":
        gate = b.op("sigmoid", b.op("mean", y, axis=(2, 3), keepdims=True))
        full.append(b.op("multiply", x, gate))
    elif what == "row":
        full.append(b.op("subtract", x, b.op("max", y, axis=-1, keepdims=True)))
    elif what == "softmax":
        full.append(b.op("nn.softmax", x, axis=-1))
    elif what == "matmul":
        full.append(b.op("matmul", x, y if pick == 0 else weight(8, 8)))
    elif what == "reshape":
        full.append(b.op("reshape", b.op("exp", b.op("reshape", x, (4, 64))), (1, 4, 8, 8)))
    elif what == "transpose":
        full.append(b.op("permute_dims", x, axes=(0, 1, 3, 2)))
    elif what == "concat":
        both = b.op("nn.relu", b.op("concat", (x, y), axis=1))
        full.extend(b.op("split", both, indices_or_sections=2, axis=1))
    elif what == "split":
        low, high = b.op("split", x, indices_or_sections=2, axis=3)
        full.append(b.op("concat", (high, low), axis=3))
    elif what == "tile":
        row = b.op("strided_slice", x, (2,), (0,), (1,))
        full.append(b.op("broadcast_to", row, (1, 4, 8, 8)))
    elif what == "cumsum":
        full.append(b.op("cumsum", x, axis=1))
    elif what == "conv":
        full.append(b.op("nn.conv2d", x, weight(4, 4, 3, 3), padding=(1, 1, 1, 1)))
    elif what == "pool":
        full.append(b.op("nn.max_pool2d", x, pool_size=(3, 3), padding=(1, 1, 1, 1)))
    else:
        full.append(b.op("astype", b.op("tanh", b.op("astype", x, dtype="float16")),
                         dtype="float32"))  # fmt: skip
