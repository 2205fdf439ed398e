"""Direct convolution against Winograd's F(2, r), F(4, r), F(6, r), layer by layer: time and error.

    python -m benchmarks.winograd --threads 2
    python -m benchmarks.winograd --threads 2 --model unet --errors

Layers are 3x3 and 5x5 convolutions of the zoo's models, with bias and ReLU, operands in the layout
that lies between layers (NCHW16c). Each m is forced, in the tiling that the cost model likes best
for it; a star marks what the model chooses. Errors are the largest of an element against float64 in
units of sqrt(terms) * rms(output), for inputs that are positive on average, as after a ReLU.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Layer(NamedTuple):
    """A convolution of stride 1 that keeps its input's size."""

    size: tuple[int, ...]
    channels: int
    out: int
    window: int = 3
    groups: int = 1

    def __str__(self) -> str:
        kinds = [f"{self.window}x{self.window}"] * (self.window != 3)
        kinds += [f"{self.groups} groups"] * (self.groups > 1)
        size = "x".join(map(str, self.size))
        return ", ".join((size, f"{self.channels} to {self.out}", *kinds))


LAYERS = {
    "vgg16": (
        Layer((224, 224), 64, 64), Layer((112, 112), 64, 128), Layer((112, 112), 128, 128),
        Layer((56, 56), 128, 256), Layer((56, 56), 256, 256), Layer((28, 28), 256, 512),
        Layer((28, 28), 512, 512), Layer((14, 14), 512, 512),
    ),
    "resnet50": (
        Layer((56, 56), 64, 64), Layer((28, 28), 128, 128), Layer((14, 14), 256, 256),
        Layer((7, 7), 512, 512),
    ),
    "unet": (
        Layer((256, 256), 64, 64), Layer((256, 256), 128, 64), Layer((128, 128), 128, 128),
        Layer((64, 64), 256, 256), Layer((32, 32), 512, 512), Layer((16, 16), 512, 1024),
        Layer((16, 16), 1024, 1024),
    ),
    "c3d": (
        Layer((16, 56, 56), 64, 128), Layer((8, 28, 28), 256, 256), Layer((4, 14, 14), 512, 512),
        Layer((2, 7, 7), 512, 512),
    ),
    "alexnet": (
        Layer((26, 26), 96, 256, 5, 2), Layer((12, 12), 384, 384, 3, 2),
        Layer((12, 12), 384, 256, 3, 2), Layer((27, 27), 64, 192, 5),
    ),
    "inception_v1": (
        Layer((28, 28), 16, 32, 5), Layer((28, 28), 32, 96, 5), Layer((14, 14), 32, 64, 5),
        Layer((7, 7), 48, 128, 5),
    ),
    "inception_v3": (Layer((35, 35), 48, 64, 5),),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one Markdown row per layer."""
    options = _parser().parse_args(arguments)
    os.environ["TVM_NUM_THREADS"] = str(options.threads)
    print("| model | layer | direct ms | m = 2 | m = 4 | m = 6 | errors |")
    print("|---|---|---|---|---|---|---|")
    for model in options.model or LAYERS:
        for layer in LAYERS[model]:
            print(_row(model, layer, options.errors), flush=True)
    return 0


def _row(model: str, layer: Layer, errors: bool) -> str:
    kernel = _Kernel(layer)
    times, found = [], []
    for m in (0, 2, 4, 6):
        if m not in kernel.offered:
            times.append("-")
            continue
        ms, result = kernel.measure(m)
        times.append(f"{ms:.3f}" + ("*" if m == kernel.chosen else ""))
        if m and errors:
            found.append(f"{kernel.error(result):.1e}")
    return "| " + " | ".join((model, str(layer), *times, ", ".join(found) or "-")) + " |"


class _Kernel:
    """One convolution with bias and ReLU."""

    def __init__(self, layer: Layer):
        from tvm_dnnfusion.codegen.conv_shape import shape_of
        from tvm_dnnfusion.codegen.winograd_choice import choose
        from tvm_dnnfusion.codegen.winograd_matrices import WINDOWS
        from tvm_dnnfusion.devices.registry import host
        from tvm_dnnfusion.ecg.builder import GraphBuilder

        size, channels, out, window, groups = layer
        rng, rank = np.random.default_rng(0), len(size)
        shape, folded = (1, channels, *size), (channels // groups, *(window,) * rank)
        self.offered = (0, *WINDOWS[window])
        self.terms = int(np.prod(folded))
        weight = rng.normal(0, np.sqrt(2 / self.terms), (out, *folded)).astype("float32")
        b = GraphBuilder()
        y = b.op(
            f"nn.conv{rank}d",
            b.input("x", shape),
            b.constant("w", weight),
            padding=(window // 2,) * 2 * rank,
            strides=(1,) * rank,
            dilation=(1,) * rank,
            groups=groups,
        )
        bias = b.constant("b", rng.normal(0, 0.1, (1, out, *(1,) * rank)).astype("float32"))
        self.graph = b.output(b.op("nn.relu", b.op("add", y, bias))).build()
        self.x = np.maximum(rng.normal(size=shape), 0).astype("float32")
        self.device = host()
        tiling = choose(shape_of(self.graph.ops[0], self.graph), self.device)
        self.chosen = tiling.m if tiling else 0
        self._exact: np.ndarray | None = None

    def measure(self, m: int) -> tuple[float, np.ndarray]:
        """Shortest time of one run in milliseconds, and the output as it lies in memory."""
        import tvm

        function, arguments, out = self._kernel(m)
        tensors = [tvm.runtime.tensor(np.ascontiguousarray(a)) for a in (*arguments, out)]
        function(*tensors)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            function(*tensors)
            times.append(time.perf_counter() - start)
        return min(times) * 1e3, tensors[-1].numpy()

    def _kernel(self, m: int) -> tuple[Any, list[np.ndarray], np.ndarray]:
        import tvm

        from tvm_dnnfusion.codegen import convolution
        from tvm_dnnfusion.codegen.block import lower_block
        from tvm_dnnfusion.codegen.layout import Layout
        from tvm_dnnfusion.codegen.stages import Packed
        from tvm_dnnfusion.codegen.winograd_choice import candidates
        from tvm_dnnfusion.devices.registry import target_dict
        from tvm_dnnfusion.schedules.dispatch import schedule_kernel

        def forced(sizes: Any, device: Any, *_: Any) -> Any:
            found = [c for c in candidates(sizes, device) if c.tiling.m == m]
            return min(found, key=lambda c: c.cycles).tiling if found else None

        (name,) = self.graph.outputs
        layouts = {"x": Layout(1, 16), name: Layout(1, 16)}
        usual = convolution.choose
        convolution.choose = forced
        try:
            kernel = lower_block("kernel", self.graph.ops, self.graph, layouts, self.device)
        finally:
            convolution.choose = usual
        module = tvm.IRModule({"kernel": schedule_kernel(kernel.func, self.device)})
        built = tvm.compile(module, tvm.target.Target(target_dict(self.device)))
        known = {**self.graph.constants, "x": _blocked(self.x)}
        arguments = [s.data if isinstance(s, Packed) else known[s] for s in kernel.inputs]
        shape = kernel.layouts[0].shape(self.graph.tensors[name].dims)
        return built["kernel"], arguments, np.zeros(shape, "float32")

    def error(self, found: np.ndarray) -> float:
        """Largest difference from float64 over sqrt(terms) * rms."""
        from tvm_dnnfusion.ecg.evaluate import evaluate

        if self._exact is None:
            wanted = evaluate(self.graph, {"x": self.x}, "float64")[self.graph.outputs[0]]
            self._exact = _blocked(wanted)
        scale = np.sqrt(self.terms * np.mean(self._exact**2))
        return float(np.max(np.abs(found - self._exact)) / scale)


def _blocked(data: np.ndarray) -> np.ndarray:
    """[N, C, ...] -> [N, C / 16, ..., 16]."""
    cut = data.reshape(data.shape[0], data.shape[1] // 16, 16, *data.shape[2:])
    return np.ascontiguousarray(np.moveaxis(cut, 2, -1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads to run with")
    parser.add_argument("--model", action="append", choices=sorted(LAYERS), help="only this one")
    parser.add_argument("--errors", action="store_true", help="compare with float64 (slow)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
