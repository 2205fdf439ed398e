"""Peers that need not be installed: OpenVINO, MNN, torch.

| peer     | what it is                                                                        |
|----------|-----------------------------------------------------------------------------------|
| openvino | OpenVINO's CPU plugin for latency, float32 forced (it would take bfloat16 itself)  |
| mnn      | MNN's CPU backend, precision "high"                                               |
| torch    | the zoo's torch module, eager                                                     |
| inductor | the same through torch.compile                                                    |
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.peers import Session

Arrays = Mapping[str, np.ndarray]

_CONVERT = "import MNN, _tools, sys; _tools.mnnconvert(sys.argv)"
"""The converter itself: the command `mnnconvert` sends usage data home, and installs what it needs
for that into the environment."""


def prepare_openvino(model: onnx.ModelProto, feed: Arrays, count: int) -> Session:
    """OpenVINO on the CPU."""
    import openvino

    core = openvino.Core()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        onnx.save(model, file)
        compiled = core.compile_model(
            core.read_model(file),
            "CPU",
            {
                "INFERENCE_NUM_THREADS": count,
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": 1,
            },
        )
    request = compiled.create_infer_request()
    for index, array in enumerate(feed.values()):
        request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))
    names = range(len(compiled.outputs))
    return Session(request.infer, lambda: [request.get_output_tensor(i).data for i in names])


def prepare_mnn(model: onnx.ModelProto, feed: Arrays, count: int) -> Session:
    """MNN on the CPU, converted with its own tool; it knows no int64."""
    import MNN.expr as expr
    import MNN.nn as nn

    config = {"precision": "high", "backend": "CPU", "numThread": count}
    manager = nn.create_runtime_manager((config,))
    outputs = [value.name for value in model.graph.output]
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "model.onnx", Path(folder) / "model.mnn"
        onnx.save(_without_mish(model), source)
        _convert(source, made)
        net = nn.load_module_from_file(str(made), list(feed), outputs, runtime_manager=manager)
    if net is None:
        raise RuntimeError("MNN cannot load what its converter wrote")
    arguments = [_mnn_constant(expr, array) for array in feed.values()]
    last: list[np.ndarray] = []

    def run() -> None:
        # reading makes it compute
        last[:] = [np.array(expr.convert(v, expr.NCHW).read()) for v in net.forward(arguments)]

    return Session(run, lambda: list(last))


def _without_mish(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with each Mish as x tanh(softplus(x)): MNN's converter does not know it."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    for node in made.graph.node:
        if node.op_type != "Mish":
            nodes.append(node)
            continue
        (x,), (y,) = node.input, node.output
        steps = (("Softplus", (x,), f"{y}_s"), ("Tanh", (f"{y}_s",), f"{y}_t"),
                 ("Mul", (x, f"{y}_t"), y))  # fmt: skip
        nodes += [onnx.helper.make_node(kind, read, [out]) for kind, read, out in steps]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def _convert(source: Path, made: Path) -> None:
    arguments = ["-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(made)]
    command = [sys.executable, "-c", _CONVERT, *arguments, "--bizCode", "MNN"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not made.is_file():
        raise RuntimeError(f"MNN cannot convert the model: {(done.stdout + done.stderr)[-200:]}")


def _mnn_constant(expr: Any, array: np.ndarray) -> Any:
    if array.dtype == np.int64:
        array = array.astype(np.int32)
    kind = expr.int if array.dtype == np.int32 else expr.float
    return expr.const(np.ascontiguousarray(array), list(array.shape), expr.NCHW, kind)


def prepare_torch(model: onnx.ModelProto, feed: Arrays, count: int) -> Session:
    """The zoo's torch module, eager."""
    return _torch_session(model, feed, count, lambda module: module)


def prepare_inductor(model: onnx.ModelProto, feed: Arrays, count: int) -> Session:
    """The zoo's torch module through torch.compile."""
    import torch

    return _torch_session(model, feed, count, torch.compile)


def _torch_session(
    model: onnx.ModelProto, feed: Arrays, count: int, change: Callable[[Any], Any]
) -> Session:
    import torch

    from benchmarks.zoo import store
    from benchmarks.zoo.catalog import ZOO

    name = model.graph.name.removeprefix("zoo/")
    if name not in ZOO:
        raise RuntimeError("there is no torch module for this model: only for those of the zoo")
    if ZOO[name].ranked:
        raise RuntimeError("RoiAlign is not torch's own there: a time would say nothing")
    torch.set_num_threads(count)
    module = change(store.settled(ZOO[name]))
    arguments = [torch.from_numpy(array) for array in feed.values()]
    last: list[np.ndarray] = []

    def run() -> None:
        with torch.inference_mode():
            found = module(*arguments)
        parts = found if isinstance(found, (tuple, list)) else (found,)
        last[:] = [part.numpy() for part in parts]

    return Session(run, lambda: list(last))
