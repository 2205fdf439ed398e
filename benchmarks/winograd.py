"""Direct convolution against Winograd's F(2, 3), F(4, 3), F(6, 3), layer by layer: time and error.

    python -m benchmarks.winograd --threads 2
    python -m benchmarks.winograd --threads 2 --model unet --errors

Layers are the 3x3 convolutions of the zoo's models, with bias and ReLU, operands in the layout that
lies between layers (NCHW16c). Each m is forced, in the tiling that the cost model likes best for
it; a star marks what the model chooses. Errors are the largest of an element against float64 in
units of sqrt(terms) * rms(output), for inputs that are positive on average, as after a ReLU.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

LAYERS: dict[str, tuple[tuple[tuple[int, ...], int, int], ...]] = {
    "vgg16": (
        ((224, 224), 64, 64), ((112, 112), 64, 128), ((112, 112), 128, 128), ((56, 56), 128, 256),
        ((56, 56), 256, 256), ((28, 28), 256, 512), ((28, 28), 512, 512), ((14, 14), 512, 512),
    ),
    "resnet50": (
        ((56, 56), 64, 64), ((28, 28), 128, 128), ((14, 14), 256, 256), ((7, 7), 512, 512),
    ),
    "unet": (
        ((256, 256), 64, 64), ((256, 256), 128, 64), ((128, 128), 128, 128), ((64, 64), 256, 256),
        ((32, 32), 512, 512), ((16, 16), 512, 1024), ((16, 16), 1024, 1024),
    ),
    "c3d": (
        ((16, 56, 56), 64, 128), ((8, 28, 28), 256, 256), ((4, 14, 14), 512, 512),
        ((2, 7, 7), 512, 512),
    ),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one Markdown row per layer."""
    options = _parser().parse_args(arguments)
    os.environ["TVM_NUM_THREADS"] = str(options.threads)
    print("| model | layer | direct ms | F(2,3) | F(4,3) | F(6,3) | errors 2, 4, 6 |")
    print("|---|---|---|---|---|---|---|")
    for model in options.model or LAYERS:
        for size, channels, out in LAYERS[model]:
            print(_row(model, size, channels, out, options.errors), flush=True)
    return 0


def _row(model: str, size: tuple[int, ...], channels: int, out: int, errors: bool) -> str:
    layer = _Layer(size, channels, out)
    times, found = [], []
    for m in (0, 2, 4, 6):
        ms, result = layer.measure(m)
        times.append(f"{ms:.3f}" + ("*" if m == layer.chosen else ""))
        if m and errors:
            found.append(f"{layer.error(result):.1e}")
    name = f"{'x'.join(map(str, size))}, {channels} to {out}"
    return "| " + " | ".join((model, name, *times, ", ".join(found) or "-")) + " |"


class _Layer:
    """One convolution with bias and ReLU."""

    def __init__(self, size: tuple[int, ...], channels: int, out: int):
        from tvm_dnnfusion.codegen.conv_shape import shape_of
        from tvm_dnnfusion.codegen.winograd_choice import choose
        from tvm_dnnfusion.devices.registry import host
        from tvm_dnnfusion.ecg.builder import GraphBuilder

        rng, rank = np.random.default_rng(0), len(size)
        shape, taps = (1, channels, *size), 3**rank
        self.terms = channels * taps
        deviation = np.sqrt(2 / self.terms)
        weight = rng.normal(0, deviation, (out, channels, *(3,) * rank)).astype("float32")
        b = GraphBuilder()
        y = b.op(
            f"nn.conv{rank}d",
            b.input("x", shape),
            b.constant("w", weight),
            padding=(1,) * 2 * rank,
            strides=(1,) * rank,
            dilation=(1,) * rank,
            groups=1,
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

        def forced(sizes: Any, device: Any, limit: int) -> Any:
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
