"""Errors of the vector forms of exp, tanh, erf ... over all of float32.

python -m benchmarks.ulp docs/numerics.md

Every binade of either sign is sampled; the reference is float64. The error is counted in units of
the last place of the exact result rounded to float32, which are 2**-149 for denormals.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import s_tir, te

from tvm_dnnfusion.codegen import vecmath
from tvm_dnnfusion.devices.registry import host, target_dict

CHUNK = 1 << 16
LANES = 16
PER_BINADE = 4096
BEGIN, END = "<!-- table: python -m benchmarks.ulp -->", "<!-- end of table -->"
TARGETS: Mapping[str, dict[str, Any]] = {"host": target_dict(host()), "no FMA": {"kind": "llvm"}}

Array = Any


def _tanh_softplus(x: Array) -> Array:
    e = np.exp(np.minimum(x, 50.0))
    n = e * (e + 2)
    return n / (n + 2)


def _gelu_tanh(x: Array) -> Array:
    return x / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


TRUE: Mapping[str, Callable[[Array], Array]] = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "tanh": np.tanh, "sinh": np.sinh,
    "cosh": np.cosh, "erf": np.vectorize(math.erf), "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)), "gelu_tanh": _gelu_tanh,
    "gelu": lambda x: x * 0.5 * np.vectorize(math.erfc)(-x * math.sqrt(0.5)),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "tanh_softplus": _tanh_softplus, "mish": lambda x: x * _tanh_softplus(x),
}  # fmt: skip
"""The functions in float64."""


def call(name: str, x: Any) -> Any:
    """The expression of a function, as blocks write it."""
    if name == "tanh_softplus":
        return vecmath.tanh(vecmath.softplus(x))
    if name == "mish":
        return vecmath.multiply(x, vecmath.tanh(vecmath.softplus(x)))
    return getattr(vecmath, name)(x)


def function(name: str, target: dict[str, Any]) -> Callable[[Array], Array]:
    """The function over float32 arrays, compiled in vectors of 16."""
    x = te.placeholder((CHUNK,), "float32", "x")
    out = te.compute((CHUNK,), lambda i: call(name, x(i)), "out")
    sch = s_tir.Schedule(te.create_prim_func([x, out]))
    sch.vectorize(sch.split(sch.get_loops("out")[0], [None, LANES])[1])
    run = tvm.compile(sch.mod, tvm.target.Target(target))["main"]

    def apply(data: Array) -> Array:
        padded = np.zeros(-(-data.size // CHUNK) * CHUNK, "float32")
        padded[: data.size] = data
        out = tvm.runtime.tensor(np.empty(CHUNK, "float32"))
        done = []
        for part in padded.reshape(-1, CHUNK):
            run(tvm.runtime.tensor(part), out)
            done.append(out.numpy().copy())
        return np.concatenate(done)[: data.size]

    return apply


def points(per_binade: int = PER_BINADE, seed: int = 0) -> Array:
    """Finite float32 numbers of every binade and either sign, its ends among them."""
    gen = np.random.default_rng(seed)
    exponents = np.arange(255, dtype=np.uint32)[:, None] << np.uint32(23)
    inner = gen.integers(0, 1 << 23, (255, per_binade - 3), dtype=np.uint32)
    ends = np.tile(np.array([0, 1, (1 << 23) - 1], np.uint32), (255, 1))
    positive = (exponents | np.concatenate([inner, ends], 1)).ravel().view(np.float32)
    return np.concatenate([positive, -positive])


def reference(name: str, x: Array) -> Array:
    """The exact values, in float64."""
    with np.errstate(all="ignore"):
        return TRUE[name](x.astype(np.float64))


def ulps(found: Array, true: Array) -> Array:
    """Errors in units of the last place; infinite where only one side is finite, or NaN."""
    with np.errstate(all="ignore"):
        rounded = true.astype(np.float32)
        unit = np.spacing(np.abs(rounded)).astype(np.float64)
        error = np.abs(found.astype(np.float64) - true) / unit
    same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
    error[~np.isfinite(rounded) | ~np.isfinite(found)] = np.inf
    error[same & ~np.isfinite(rounded)] = 0
    return error


def worst(name: str, x: Array, found: Array, true: Array) -> tuple[float, float]:
    """(largest error in ulp outside of the tail, largest error / |x| in the tail)."""
    tail = x < vecmath.TAIL.get(name, -np.inf)
    error = np.abs(found[tail].astype(np.float64) - true[tail]) / np.abs(x[tail].astype(np.float64))
    return float(ulps(found, true)[~tail].max()), float(error.max(initial=0.0))


def table(per_binade: int = PER_BINADE) -> str:
    """The errors as a Markdown table."""
    x = points(per_binade)
    rows = [f"| function | bound | {' | '.join(TARGETS)} |", "|---|---|" + "---|" * len(TARGETS)]
    for name, bound in vecmath.ULP.items():
        true, found = reference(name, x), []
        for target in TARGETS.values():
            error, tail = worst(name, x, function(name, target)(x), true)
            found.append(f"{error:.2f}" + (f"; {tail * 2**22:.2f} 2^-22 x" if tail else ""))
        low = f" from {vecmath.TAIL[name]:g} on" if name in vecmath.TAIL else ""
        rows.append(f"| {name}{low} | {bound} | {' | '.join(found)} |")
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or put it into a page between its marks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ulp", description=__doc__)
    parser.add_argument("page", nargs="?", type=Path, help="Markdown page with the two marks")
    page = parser.parse_args(arguments).page
    if page is None:
        print(table())
        return 0
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
