"""Relax modules with constants, several functions, effects, closures: see `relax_forms.py`."""

from __future__ import annotations

from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T


@I.ir_module
class Constants:
    @R.function
    def main(x: R.Tensor((3, 4), "float32")):
        with R.dataflow():
            a = R.multiply(x, R.const(2.0, "float32"))
            b = R.add(a, R.const([[1.0], [2.0], [3.0]], "float32"))
            i = R.take(b, R.const([2, 0], "int64"), axis=0)
            out = (i, R.const([7, 8], "int32"), x)
            R.output(out)
        return out


@I.ir_module
class ShapeParam:
    @R.function
    def main(x: R.Tensor(("n", "m"), "float32"), s: R.Shape(["n", "m"])):
        n, m = T.int64(), T.int64()
        with R.dataflow():
            y = R.exp(x)
            z = R.add(y, R.ones(R.shape([n, m]), "float32"))
            R.output(z)
        return z


@I.ir_module
class Several:
    @R.function(private=True)
    def layer(x: R.Tensor((4, 4), "float32"), w: R.Tensor((4, 4), "float32")) -> R.Tensor(
        (4, 4), "float32"
    ):
        with R.dataflow():
            y = R.nn.relu(R.matmul(x, w))
            R.output(y)
        return y

    @R.function
    def main(x: R.Tensor((4, 4), "float32"), w: R.Tensor((4, 4), "float32")):
        a = Several.layer(x, w)
        b = Several.layer(a, w)
        c = R.add(b, R.exp(x))
        return c


@I.ir_module
class Blocks:
    @R.function
    def main(x: R.Tensor((4, 4), "float32")):
        with R.dataflow():
            a = R.exp(x)
            b = R.add(a, x)
            R.output(a, b)
        c = R.nn.relu(b)
        with R.dataflow():
            d = R.multiply(c, a)
            R.output(d)
        return d


@I.ir_module
class Effects:
    @R.function(pure=False)
    def main(x: R.Tensor((4,), "float32")):
        a = R.exp(x)
        _ = R.assert_op(R.const(True, "bool"), format="never")
        b = R.nn.relu(a)
        return b


@I.ir_module
class DataDependent:
    @R.function
    def main(x: R.Tensor((6,), "int64")):
        with R.dataflow():
            y = R.unique(
                R.add(x, x),
                sorted=True,
                return_index=False,
                return_inverse=False,
                return_counts=False,
            )
            R.output(y)
        return y


@I.ir_module
class SeveralResults:
    @R.function
    def main(x: R.Tensor((3, 8), "float32")):
        with R.dataflow():
            top = R.topk(R.negative(x), k=2, axis=1, ret_type="both", dtype="int32")
            v = R.nn.relu(top[0])
            out = ((v, (top[1],)), R.sum(x))
            R.output(out)
        return out


@I.ir_module
class NoWork:
    @R.function
    def main(x: R.Tensor((3,), "float32"), unused: R.Tensor((2,), "float32")):
        return x


@I.ir_module
class ShapeOf:
    @R.function
    def main(x: R.Tensor(("n", 4), "float32")):
        with R.dataflow():
            s = R.shape_of(x)
            t = R.shape_to_tensor(s)
            y = R.add(R.nn.relu(x), x)
            R.output(t, y)
        return (t, y)


@I.ir_module
class Closure:
    @R.function
    def main(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        @R.function
        def inner(y: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
            z = R.add(y, y)
            return z

        a = R.exp(x)
        b = inner(a)
        return b
