"""Transcendental functions in kernels of this library against those that TVM alone makes.

    python -m benchmarks.vector_math --seconds 1

Each function is a model of its own over 64 K float32 values in the second cache, on one thread: TVM
calls libm for each element there, and has no schedule for CPUs. Turns are interleaved; the ratio is
TVM's time over ours.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence

import onnx

from benchmarks.arguments import duration
from benchmarks.built import Net

SHAPE = (64, 1024)
ROUNDS = 15


def _gelu(net: Net, x: str) -> str:
    """x / 2 * (1 + erf(x / sqrt(2))), as exporters write it."""
    scaled = net.node("Div", [x, net.scalar("root", math.sqrt(2))], "scaled")
    grown = net.node("Add", [net.node("Erf", [scaled], "e"), net.scalar("one", 1.0)], "grown")
    half = net.node("Mul", [x, net.scalar("half", 0.5)], "halved")
    return net.node("Mul", [half, grown], "y")


FUNCTIONS: dict[str, Callable[[Net, str], str]] = {
    "exp": lambda n, x: n.node("Exp", [x], "y"),
    "log": lambda n, x: n.node("Log", [n.node("Abs", [x], "a")], "y"),
    "tanh": lambda n, x: n.node("Tanh", [x], "y"),
    "erf": lambda n, x: n.node("Erf", [x], "y"),
    "sigmoid": lambda n, x: n.node("Sigmoid", [x], "y"),
    "softplus": lambda n, x: n.node("Softplus", [x], "y"),
    "silu": lambda n, x: n.node("Mul", [x, n.node("Sigmoid", [x], "s")], "y"),
    "gelu": lambda n, x: _gelu(n, x),
    "softmax": lambda n, x: n.node("Softmax", [x], "y", axis=-1),
}


def model(name: str) -> onnx.ModelProto:
    """A model of one function."""
    net = Net(name)
    net.output(FUNCTIONS[name](net, net.input("x", SHAPE)), SHAPE)
    return net.build()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one Markdown row per function."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vector_math", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=duration, default=1.0, help="of timing per function")
    options = parser.parse_args(arguments)
    # Before TVM is loaded: its pool reads this once.
    os.environ["TVM_NUM_THREADS"] = "1"
    from benchmarks import rounds
    from benchmarks.models import feed_for
    from benchmarks.peers import PEERS

    print("| function | ours us | TVM us | ratio |\n|---|---:|---:|---:|")
    for name in FUNCTIONS:
        made = model(name)
        feed = feed_for(made)
        sessions = {peer: PEERS[peer](made, feed, 1) for peer in ("dnnfusion", "zero")}
        found = rounds.measure(sessions, ROUNDS, options.seconds / 2)
        ours, theirs = (found[peer].median_ms * 1e3 for peer in ("dnnfusion", "zero"))
        print(f"| {name} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
