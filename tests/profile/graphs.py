"""Small blocks for the tests of the profile room."""

from __future__ import annotations

import numpy as np

from tvm_dnnfusion.ecg.graph import Graph, Lit, Op, Ref, Tensor, attrs

SHAPE = (1, 8, 4, 4)


def conv_add_relu(
    prefix: str = "", kernel: tuple[int, ...] = (8, 8, 3, 3), swap: bool = False
) -> Graph:
    """conv2d(x, w) + y, relu; exp(y) beside it; `swap` lists the independent ops the other way."""
    n = {k: prefix + k for k in ("x", "y", "w", "c", "e", "a", "r", "s")}
    tensors = {n[k]: Tensor(n[k], SHAPE, "float32") for k in n if k != "w"}
    tensors[n["w"]] = Tensor(n["w"], kernel, "float32")
    conv = Op(
        prefix + "conv",
        "nn.conv2d",
        (Ref(n["x"]), Ref(n["w"])),
        (n["c"],),
        attrs(padding=(1, 1, 1, 1)),
    )
    exp = Op(prefix + "exp", "exp", (Ref(n["y"]),), (n["e"],))
    add = Op(prefix + "add", "add", (Ref(n["c"]), Ref(n["e"])), (n["a"],))
    relu = Op(prefix + "relu", "nn.relu", (Ref(n["a"]),), (n["r"],))
    clip = Op(
        prefix + "clip",
        "clip",
        (Ref(n["r"]), Lit("float32", 0.0), Lit("float32", float("inf"))),
        (n["s"],),
    )
    head = (exp, conv) if swap else (conv, exp)
    data = {n["w"]: np.zeros(kernel, np.float32)}
    graph = Graph(tensors, (*head, add, relu, clip), (n["x"], n["y"]), (n["s"],), data)
    return graph.check()
