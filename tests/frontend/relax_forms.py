"""Relax modules of many forms, each with inputs: what the bridge must carry there and back."""

from __future__ import annotations

import numpy as np
import tvm
import tvm_ffi
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from tests.frontend.relax_more_forms import (
    Blocks,
    Closure,
    Constants,
    DataDependent,
    Effects,
    NoWork,
    Several,
    SeveralResults,
    ShapeOf,
    ShapeParam,
)


def _f(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


@I.ir_module
class TupleParam:
    @R.function
    def main(t: R.Tuple(R.Tensor((2, 4), "float32"), R.Tuple(R.Tensor((4,), "float32")))):
        with R.dataflow():
            a = R.add(t[0], t[1][0])
            b = R.exp(a)
            out = (b, (a, t[0]))
            R.output(out)
        return out


@I.ir_module
class Split:
    @R.function
    def main(x: R.Tensor((4, 6), "float32")):
        with R.dataflow():
            parts = R.split(x, 3, axis=1)
            low = R.nn.relu(parts[0])
            out = R.concat((low, parts[2]), axis=1)
            R.output(out, parts)
        return (out, parts)


@I.ir_module
class BatchNorm:
    @R.function
    def main(
        x: R.Tensor((2, 3, 4, 4), "float32"),
        g: R.Tensor((3,), "float32"),
        b: R.Tensor((3,), "float32"),
        m: R.Tensor((3,), "float32"),
        v: R.Tensor((3,), "float32"),
    ):
        with R.dataflow():
            s = R.multiply(v, v)
            n = R.nn.batch_norm(x, g, b, m, s, axis=1, training=False)
            y = R.nn.relu(n[0])
            out = (y, n[1], n[2])
            R.output(out)
        return out


@I.ir_module
class Training:
    @R.function
    def main(x: R.Tensor((4, 3, 2, 2), "float32"), g: R.Tensor((3,), "float32")):
        with R.dataflow():
            n = R.nn.batch_norm(x, g, g, g, g, axis=1, training=True)
            R.output(n)
        return n


@I.ir_module
class Branch:
    @R.function
    def main(c: R.Tensor((), "bool"), x: R.Tensor((3, 4), "float32")) -> R.Tensor(
        (3, 4), "float32"
    ):
        y = R.exp(x)
        if c:  # noqa: SIM108
            r = R.nn.relu(y)
        else:
            r = R.negative(y)
        out = R.nn.relu(r)
        return out


@I.ir_module
class Loop:
    @R.function
    def step(i: R.Tensor((), "int64"), x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        done = R.greater_equal(i, R.const(3, "int64"))
        if done:
            r = x
        else:
            y = R.nn.relu(R.add(x, R.const(0.5, "float32")))
            j = R.add(i, R.const(1, "int64"))
            r = Loop.step(j, y)
        return r

    @R.function
    def main(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        a = R.negative(x)
        b = Loop.step(R.const(0, "int64"), a)
        c = R.exp(b)
        return c


@I.ir_module
class Symbolic:
    @R.function
    def main(x: R.Tensor(("n", 8), "float32"), w: R.Tensor((8, 4), "float32")):
        n = T.int64()
        with R.dataflow():
            y = R.matmul(x, w)
            z = R.nn.relu(y)
            t = R.add(R.reshape(z, (n * 4,)), R.const(1.0, "float32"))
            u = R.nn.relu(R.multiply(w, w))
            R.output(t, u)
        return (t, u)


@I.ir_module
class MatchCast:
    @R.function
    def main(x: R.Tensor(dtype="float32", ndim=2)):
        n, m = T.int64(), T.int64()
        with R.dataflow():
            y = R.match_cast(x, R.Tensor((n, m), "float32"))
            z = R.exp(y)
            s = R.reshape(z, (n * m,))
            k = R.match_cast(s, R.Tensor((12,), "float32"))
            q = R.nn.relu(R.negative(k))
            R.output(q)
        return q


@I.ir_module
class CallTir:
    @T.prim_func(private=True, s_tir=True)
    def twice(a: T.Buffer((4, 8), "float32"), b: T.Buffer((4, 8), "float32")):
        for i, j in T.grid(4, 8):
            with T.sblock("b"):
                vi, vj = T.axis.remap("SS", [i, j])
                b[vi, vj] = a[vi, vj] * T.float32(2)

    @R.function
    def main(x: R.Tensor((4, 8), "float32")):
        cls = CallTir
        with R.dataflow():
            y = R.nn.relu(x)
            z = R.call_tir(cls.twice, (y,), out_ty=R.Tensor((4, 8), "float32"))
            w = R.exp(R.negative(z))
            R.output(w)
        return w


@I.ir_module
class DpsPacked:
    @R.function
    def main(x: R.Tensor((4, 8), "float32")):
        with R.dataflow():
            y = R.exp(x)
            z = R.call_dps_packed("test.bridge.copy", (y,), out_ty=R.Tensor((4, 8), "float32"))
            w = R.nn.relu(R.add(z, y))
            R.output(w)
        return w


@I.ir_module
class Packed:
    @R.function(pure=False)
    def main(x: R.Tensor((4,), "float32")):
        y = R.exp(x)
        z = R.call_packed("test.bridge.pass", y, ty_args=R.Tensor((4,), "float32"))
        w = R.negative(z)
        return w


_X34 = _f(3, 4)
FORMS: dict[str, tuple[tvm.IRModule, tuple]] = {
    "tuple parameters": (TupleParam, ((_f(2, 4), (_f(4),)),)),
    "split": (Split, (_f(4, 6),)),
    "batch_norm": (BatchNorm, (_f(2, 3, 4, 4), _f(3), _f(3, seed=1), _f(3, seed=2), _f(3, seed=3))),
    "batch_norm in training": (Training, (_f(4, 3, 2, 2), _f(3) + 2)),
    "if, true": (Branch, (np.array(True), _X34)),
    "if, false": (Branch, (np.array(False), _X34)),
    "loop": (Loop, (_f(4),)),
    "symbolic": (Symbolic, (_f(5, 8), _f(8, 4))),
    "match_cast": (MatchCast, (_X34,)),
    "call_tir": (CallTir, (_f(4, 8),)),
    "call_dps_packed": (DpsPacked, (_f(4, 8),)),
    "call_packed": (Packed, (_f(4),)),
    "constants": (Constants, (_X34,)),
    "shape parameter": (ShapeParam, (_X34, tvm_ffi.Shape((3, 4)))),
    "several functions": (Several, (_f(4, 4), _f(4, 4, seed=1))),
    "dataflow and other blocks": (Blocks, (_f(4, 4),)),
    "side effects": (Effects, (_f(4),)),
    "data-dependent shape": (DataDependent, (np.array([3, 1, 3, 2, 1, 1]),)),
    "several results": (SeveralResults, (_f(3, 8),)),
    "no work": (NoWork, (_f(3), _f(2))),
    "shape_of": (ShapeOf, (_f(3, 4),)),
    "closure": (Closure, (_f(4),)),
}


@tvm.register_global_func("test.bridge.copy", override=True)
def _copy(source: tvm.runtime.Tensor, target: tvm.runtime.Tensor) -> None:
    target.copyfrom(source.numpy() * 2)


@tvm.register_global_func("test.bridge.pass", override=True)
def _same(source: tvm.runtime.Tensor) -> tvm.runtime.Tensor:
    return source
