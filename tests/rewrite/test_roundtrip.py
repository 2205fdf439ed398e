"""A rewritten graph is written back as Relax that TVM compiles and that computes the same."""

from __future__ import annotations

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")
from tvm import relax  # noqa: E402

from tvm_dnnfusion.frontend.relax import from_relax  # noqa: E402
from tvm_dnnfusion.frontend.to_relax import to_relax  # noqa: E402
from tvm_dnnfusion.rewrite import rewrite  # noqa: E402

RNG = np.random.default_rng(5)


def _const(*shape):
    return relax.const(RNG.uniform(0.5, 1.5, shape).astype("float32"))


def _norm_conv(x):
    op = relax.op
    y = op.nn.conv2d(x, _const(6, 4, 3, 3), padding=1)
    y = relax.TupleGetItem(
        op.nn.batch_norm(y, *(_const(6) for _ in range(4)), axis=1, training=False), 0
    )
    y = op.nn.max_pool2d(op.nn.relu(y), (2, 2), (2, 2))
    y = op.nn.conv2d_transpose(y, _const(6, 5, 2, 2), strides=(2, 2))
    y = op.multiply(op.add(y, _const(5, 1, 1)), _const(5, 1, 1))
    y = op.squeeze(op.expand_dims(y, 1), 1)
    return op.strided_slice(op.maximum(y, relax.const(0.0)), [2], [1], [5], [1])


def _transformer(x):
    op = relax.op
    d = op.subtract(x, op.mean(x, -1, keepdims=True))
    v = op.mean(op.power(d, relax.const(2.0)), -1, keepdims=True)
    y = op.divide(d, op.sqrt(op.add(v, relax.const(1e-5))))
    y = op.add(op.multiply(y, _const(8)), _const(8))
    h = op.matmul(y, _const(8, 8))
    g = op.multiply(
        op.multiply(h, relax.const(0.5)),
        op.add(op.erf(op.divide(h, relax.const(1.4142135))), relax.const(1.0)),
    )
    q = op.multiply(
        op.permute_dims(op.reshape(op.matmul(g, _const(8, 8)), (1, 6, 2, 4)), [0, 2, 1, 3]),
        relax.const(0.5),
    )
    s = op.matmul(q, op.permute_dims(q, [0, 1, 3, 2]))
    e = op.exp(op.subtract(s, op.max(s, -1, keepdims=True)))
    p = op.divide(e, op.sum(e, -1, keepdims=True))
    r = op.multiply(
        p, op.rsqrt(op.add(op.mean(op.square(p), -1, keepdims=True), relax.const(1e-6)))
    )
    return op.log(op.nn.softmax(r, -1))


@pytest.mark.parametrize("make, shape, recognised", [
    (_norm_conv, (1, 4, 8, 8), {"scale-past-bias", "scale-into-weight", "maximum-zero-is-relu"}),
    (_transformer, (1, 6, 8), {"layer-norm", "gelu-erf", "softmax-written-out", "log-of-softmax",
                               "rms-norm-rsqrt", "scale-past-movement"}),
])  # fmt: skip
def test_a_rewritten_module_computes_the_same(make, shape, recognised):
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    bb = relax.BlockBuilder()
    with bb.function("main", [x]):
        with bb.dataflow():
            out = bb.emit_output(make(x))
        bb.emit_func_output(out)
    module = bb.get()
    imported = from_relax(module)
    result = rewrite(imported.graph)
    assert recognised <= set(result.report.counts)
    after = to_relax(imported, result.graph)
    data = tvm.runtime.tensor(RNG.uniform(-1, 1, shape).astype("float32"))
    old, new = (
        relax.VirtualMachine(tvm.compile(m, target="llvm"), tvm.cpu())["main"](data)
        for m in (module, after)
    )
    old, new = (v if isinstance(v, tvm.runtime.Tensor) else v[0] for v in (old, new))
    np.testing.assert_allclose(new.numpy(), old.numpy(), rtol=1e-4, atol=1e-4)
