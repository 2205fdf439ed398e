"""The builder's calls are Relax's: same positional arguments, attributes, shapes and dtypes."""

from __future__ import annotations

import pytest

tvm = pytest.importorskip("tvm")
from tvm import relax  # noqa: E402

from tvm_dnnfusion.ecg.builder import GraphBuilder  # noqa: E402
from tvm_dnnfusion.ecg.graph import GraphError  # noqa: E402
from tvm_dnnfusion.ecg.signatures import BINARY, COMPARE, PREDICATES, REDUCE, UNARY  # noqa: E402
from tvm_dnnfusion.frontend.relax import from_relax  # noqa: E402

X = (2, 8, 6, 6)
V = (1, 2, 4, 4, 4)
I64 = "int64"

# (kind, operands as (shape[, dtype]) lists of them or literals, attributes)
CASES = [
    ("where", [(X, "bool"), (X,), ((8, 1, 1),)], {}),
    ("ewise_fma", [(X,), (X,), (X,)], {}),
    ("clip", [(X,), 0.0, 6.0], {}),
    ("astype", [(X,)], {"dtype": "float16"}),
    ("argmax", [(X,)], {"axis": 1, "keepdims": True}),
    ("argmin", [(X,)], {"axis": 2}),
    ("cumsum", [(X,)], {"axis": 1}),
    ("cumprod", [(X,)], {}),
    ("median", [(X,)], {"axis": 1}),
    ("matmul", [((2, 3, 4),), ((4, 5),)], {}),
    ("matmul", [((4,),), ((2, 4, 5),)], {}),
    ("matmul", [((2, 1, 3, 4),), ((5, 4, 6),)], {}),
    ("outer", [((3,),), ((4,),)], {}),
    ("einsum", [[((2, 3),), ((3, 4),)]], {"subscripts": "ij,jk->ki"}),
    ("nn.conv1d", [((2, 8, 6),), ((4, 8, 3),)], {"padding": 1}),
    ("nn.conv2d", [(X,), ((4, 8, 3, 3),)], {"padding": (1, 1), "strides": 2}),
    ("nn.conv2d", [(X,), ((8, 1, 3, 3),)], {"groups": 8, "dilation": 2}),
    (
        "nn.conv2d",
        [((2, 6, 6, 8),), ((3, 3, 8, 4),)],
        {"data_layout": "NHWC", "kernel_layout": "HWIO"},
    ),
    (
        "nn.conv2d",
        [((2, 6, 6, 8),), ((4, 3, 3, 8),)],
        {"data_layout": "NHWC", "kernel_layout": "OHWI", "padding": (0, 1, 2, 3)},
    ),
    ("nn.conv3d", [(V,), ((4, 2, 3, 3, 3),)], {"padding": 1}),
    ("nn.conv1d_transpose", [((2, 8, 6),), ((8, 4, 3),)], {"strides": 2, "output_padding": 1}),
    ("nn.conv2d_transpose", [(X,), ((8, 4, 3, 3),)], {"strides": 2, "padding": 1}),
    ("nn.conv2d_transpose", [(X,), ((8, 2, 4, 4),)], {"groups": 4, "strides": (2, 3)}),
    ("nn.conv3d_transpose", [(V,), ((2, 4, 3, 3, 3),)], {"strides": 2}),
    ("nn.max_pool1d", [((2, 8, 6),)], {"pool_size": 2, "strides": 2}),
    ("nn.max_pool2d", [((1, 8, 7, 7),)], {"pool_size": 3, "strides": 2, "ceil_mode": True}),
    ("nn.max_pool2d", [((1, 7, 7, 8),)], {"pool_size": (3, 2), "padding": 1, "layout": "NHWC"}),
    ("nn.max_pool3d", [(V,)], {"pool_size": 2, "strides": 2}),
    ("nn.avg_pool1d", [((2, 8, 6),)], {"pool_size": 3, "padding": 1}),
    ("nn.avg_pool2d", [(X,)], {"pool_size": 2, "count_include_pad": True}),
    (
        "nn.avg_pool2d",
        [((1, 8, 7, 8),)],
        {"pool_size": 3, "strides": 2, "dilation": 2, "padding": (1, 1, 1, 1), "ceil_mode": True},
    ),
    ("nn.avg_pool3d", [(V,)], {"pool_size": 2}),
    ("nn.adaptive_avg_pool1d", [((2, 8, 6),)], {"output_size": (3,)}),
    ("nn.adaptive_avg_pool2d", [(X,)], {"output_size": (1, 1)}),
    ("nn.adaptive_avg_pool2d", [(X,)], {}),
    ("nn.adaptive_avg_pool3d", [(V,)], {"output_size": (2, 2, 2)}),
    ("nn.softmax", [(X,)], {"axis": 1}),
    ("nn.log_softmax", [(X,)], {}),
    ("nn.layer_norm", [(X,), ((6,),), ((6,),)], {"axes": -1, "epsilon": 1e-6}),
    ("nn.layer_norm", [(X,), ((6, 6),), ((6, 6),)], {"axes": (2, 3)}),
    ("nn.rms_norm", [(X,), ((6,),)], {"axes": -1}),
    (
        "nn.group_norm",
        [(X,), ((8,),), ((8,),)],
        {"num_groups": 2, "channel_axis": 1, "axes": (2, 3)},
    ),
    ("nn.instance_norm", [(X,), ((8,),), ((8,),)], {"channel_axis": 1, "axes": (2, 3)}),
    ("nn.batch_norm", [(X,)] + [((8,),)] * 4, {"axis": 1, "training": False}),
    ("nn.pad", [(X,)], {"pad_width": (0, 0, 0, 0, 1, 1, 2, 1), "pad_value": 1.5}),
    ("nn.pad", [(X,)], {"pad_width": (0, 0, 0, 0, 1, 1, 1, 1), "pad_mode": "reflect"}),
    ("nn.dropout", [(X,)], {"rate": 0.1}),
    ("nn.leakyrelu", [(X,)], {"alpha": 0.2}),
    ("nn.prelu", [(X,), ((8,),)], {"axis": 1}),
    ("nn.softplus", [(X,)], {}),
    ("nn.pixel_shuffle", [(X,)], {"upscale_factor": 2}),
    ("nn.batch_flatten", [(X,)], {}),
    ("nn.attention", [((2, 5, 4, 8),), ((2, 6, 4, 8),), ((2, 6, 4, 8),)], {}),
    ("image.resize2d", [(X,), (12, 9)], {"method": "nearest_neighbor", "layout": "NCHW"}),
    ("image.resize3d", [(V,), (8, 8, 8)], {"layout": "NCDHW"}),
    ("image.grid_sample", [(X,), ((2, 2, 3, 5),)], {}),
    ("reshape", [(X,), (2, -1)], {}),
    ("reshape", [(X,), (0, 0, 36)], {}),
    ("broadcast_to", [((8, 1),), (2, 8, 6)], {}),
    ("collapse_sum_to", [(X,), (8, 6, 6)], {}),
    ("collapse_sum_like", [(X,), ((6, 6),)], {}),
    ("permute_dims", [(X,)], {}),
    ("permute_dims", [(X,)], {"axes": (0, 2, 3, 1)}),
    ("expand_dims", [(X,)], {"axis": (0, 2)}),
    ("expand_dims", [((3,),)], {"axis": -1}),
    ("squeeze", [((1, 2, 1),)], {}),
    ("squeeze", [((1, 2, 1),)], {"axis": (0,)}),
    ("flatten", [(X,)], {}),
    ("concat", [[(X,), ((2, 3, 6, 6),)]], {"axis": 1}),
    ("stack", [[(X,), (X,)]], {"axis": -1}),
    ("split", [(X,)], {"indices_or_sections": 2, "axis": 1}),
    ("split", [(X,)], {"indices_or_sections": (1, 3), "axis": -1}),
    ("split", [((7, 2),)], {"indices_or_sections": 3}),
    ("strided_slice", [(X,), (1, 2), (0, -3), (4, 100)], {}),
    ("strided_slice", [(X,), (1, -1), (1, 5), (8, -7), (2, -2)], {}),
    ("take", [(X,), ((3,), I64)], {"axis": 1}),
    ("take", [((9,),), ((3, 2), I64)], {}),
    ("gather_elements", [(X,), ((2, 8, 3, 6), I64)], {"axis": 2}),
    ("gather_nd", [(X,), ((2, 3, 2), I64)], {}),
    ("gather_nd", [(X,), ((2, 3, 2), I64)], {"batch_dims": 1}),
    ("scatter_elements", [(X,), ((1, 1, 1, 1), I64), ((1, 1, 1, 1),)], {"axis": 1}),
    ("scatter_nd", [(X,), ((3, 2), I64), ((3, 6, 6),)], {}),
    ("tile", [(X,)], {"repeats": (2, 1, 1, 1, 3)}),
    ("repeat", [(X,)], {"repeats": 2, "axis": 1}),
    ("repeat", [(X,)], {"repeats": 3}),
    ("flip", [(X,)], {"axis": 1}),
    ("tril", [(X,), 1], {}),
    ("triu", [(X,), 0], {}),
    ("zeros", [(2, 3)], {"dtype": "float32"}),
    ("ones", [(2, 3)], {"dtype": "int32"}),
    ("ones_like", [(X,)], {}),
    ("zeros_like", [(X,)], {"dtype": "int32"}),
    ("arange", [1, 10, 2], {"dtype": "int64"}),
    ("one_hot", [((2, 3), I64), 1, 0], {"depth": 5}),
    ("topk", [(X,)], {"k": 2, "axis": 1}),
    ("sort", [(X,)], {"descending": True}),
    ("argsort", [(X,)], {}),
    *[
        (
            k,
            [(X, "bool" if k == "logical_not" else "int32" if k == "bitwise_not" else "float32")],
            {},
        )
        for k in (*UNARY, *PREDICATES)
    ],
    *[
        (k, [(X, d), ((8, 1, 1), d)], {})
        for k in (*BINARY, *COMPARE)
        for d in [
            "bool" if "logical" in k else "int32" if "bit" in k or "shift" in k else "float32"
        ]
    ],
    *[(k, [(X,)], {"axis": (1, -1), "keepdims": keep}) for k in REDUCE for keep in (True, False)],
    *[(k, [(X,)], {}) for k in REDUCE],
]


def _is_spec(value):
    return isinstance(value, tuple) and len(value) > 0 and isinstance(value[0], tuple)


def _graph(kind, operands, attributes):
    b = GraphBuilder()

    def make(spec):
        if isinstance(spec, list):
            return tuple(make(s) for s in spec)
        return b.input(f"p{len(b.inputs)}", *spec) if _is_spec(spec) else spec

    out = b.op(kind, *map(make, operands), **attributes)
    return b.output(*([out] if isinstance(out, str) else out)).build()


def _module(kind, operands, attributes):
    params = []

    def make(spec):
        if isinstance(spec, list):
            return [make(s) for s in spec]
        if not _is_spec(spec):
            return spec
        dtype = spec[1] if len(spec) > 1 else "float32"
        params.append(relax.Var(f"p{len(params)}", relax.TensorType(spec[0], dtype)))
        return params[-1]

    values = [make(s) for s in operands]
    space = relax.op
    for word in kind.split(".")[:-1]:
        space = getattr(space, word)
    call = getattr(space, kind.rpartition(".")[2])
    if kind in ("reshape", "broadcast_to"):
        expr = call(values[0], values[1])
    elif kind == "one_hot":
        expr = call(
            values[0], relax.prim_value(values[1]), relax.prim_value(values[2]), **attributes
        )
    elif kind == "einsum":
        expr = call(tuple(values[0]), **attributes)
    else:
        expr = call(*values, **attributes)
    bb = relax.BlockBuilder()
    with bb.function("main", params):
        with bb.dataflow():
            out = bb.emit_output(expr)
        bb.emit_func_output(out)
    return bb.get()


def _ident(case):
    kind, operands, attributes = case
    return f"{kind}-{operands}-{attributes}"[:60]


@pytest.mark.parametrize("case", CASES, ids=_ident)
def test_a_built_call_is_the_call_that_relax_makes(case):
    ours, theirs = _graph(*case), from_relax(_module(*case)).graph
    (op,), (ref,) = ours.ops, theirs.ops
    assert op.kind == ref.kind
    rename = dict(zip(theirs.inputs, ours.inputs))
    assert op.args == tuple(_renamed(a, rename) for a in ref.args)
    assert _close(dict(op.attrs), dict(ref.attrs))
    made = [(ours.tensors[t].shape, ours.tensors[t].dtype) for t in op.outputs]
    assert made == [(theirs.tensors[t].shape, theirs.tensors[t].dtype) for t in ref.outputs]


def _renamed(arg, rename):
    from tvm_dnnfusion.ecg.graph import map_refs

    return map_refs(arg, rename)


def _close(a, b):
    assert a.keys() == b.keys()
    return all(a[k] == pytest.approx(b[k]) if isinstance(a[k], float) else a[k] == b[k] for k in a)


@pytest.mark.parametrize(
    "kind, operands, attributes, why",
    [
        ("add", [((2, 3),), ((2, 4),)], {}, "do not broadcast"),
        ("add", [((2, 3),), ((2, 3), "int32")], {}, "different types"),
        ("matmul", [((2, 3),), ((4, 5),)], {}, "reduction extents"),
        ("nn.conv2d", [(X,), ((4, 7, 3, 3),)], {}, "groups"),
        ("nn.conv2d", [(X,), ((4, 8, 9, 9),)], {}, "larger than the padded input"),
        ("concat", [[(X,), ((2, 3, 5, 6),)]], {"axis": 1}, "differ outside of axis"),
        ("reshape", [(X,), (5, 7)], {}, "as many elements"),
        ("sum", [(X,)], {"axis": 4}, "axis 4"),
        ("sum", [(X,)], {"axes": 1}, "no attribute axes"),
        ("nn.nonsense", [(X,)], {}, "no such operator"),
        ("nn.softmax", [(X,), (X,)], {}, "takes 1 arguments"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_by_name(kind, operands, attributes, why):
    with pytest.raises(GraphError, match=why) as caught:
        _graph(kind, operands, attributes)
    assert kind in str(caught.value)
