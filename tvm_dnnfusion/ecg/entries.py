"""Mapping types and properties of Relax's operators, as tables (DNNFusion, PLDI'21, table 2).

An entry gives the type of one input/output pair from the op and the shapes of its operands. Table 2
is representative, not complete: what it does not print is classified by its definitions (section
3.1) and named "by definition" below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.ecg.mapping import MappingType, Property

PairRule = Callable[[Op, str, str, Graph], MappingType]
"""(op, input tensor, output tensor, graph) -> type of that pair."""

OTO = MappingType.ONE_TO_ONE
OTM = MappingType.ONE_TO_MANY
MTM = MappingType.MANY_TO_MANY
REO = MappingType.REORGANIZE
SHU = MappingType.SHUFFLE

A, D, C = Property.ASSOCIATIVE, Property.DISTRIBUTIVE, Property.COMMUTATIVE


@dataclass(frozen=True, slots=True)
class Entry:
    """What the catalogue knows of a kind: the type of each pair, and the properties."""

    pair: PairRule
    properties: Property = Property.NONE


def always(mapping: MappingType) -> PairRule:
    """A pair rule that does not look at the shapes."""
    return lambda op, source, target, graph: mapping


def elementwise(op: Op, source: str, target: str, graph: Graph) -> MappingType:
    """One-to-One, or One-to-Many where the operand has fewer elements than the result."""
    few, many = graph.tensors[source], graph.tensors[target]
    return OTO if few.elements >= many.elements else OTM


def along_axis(op: Op, source: str, target: str, graph: Graph) -> MappingType:
    """The first operand goes element by element; the others are spread along an axis."""
    return OTO if source == op.inputs[0] else elementwise(op, source, target, graph)


def batch_norm(op: Op, source: str, target: str, graph: Graph) -> MappingType:
    """One-to-One in the inference form (table 2); in training it reduces over the batch."""
    if op.attr("training"):
        return MTM
    return along_axis(op, source, target, graph) if target == op.outputs[0] else OTO


def gather(op: Op, source: str, target: str, graph: Graph) -> MappingType:
    """One-to-Many, table 2 (Gather): which element is read depends on data, any may be read often.

    The indices go element by element where the result has no more elements than they have.
    """
    return OTM if source == op.inputs[0] else elementwise(op, source, target, graph)


def pad(op: Op, source: str, target: str, graph: Graph) -> MappingType:
    """By definition: constant padding repeats nothing; reflecting and repeating modes do."""
    return OTO if op.attr("pad_mode", "constant") == "constant" else OTM


def resize(op: Op, source: str, target: str, graph: Graph) -> MappingType:
    """One-to-Many, table 2 (Resize), whatever the method."""
    return OTM


def bucketize(op: Op, source: str, target: str, graph: Graph) -> MappingType:
    """By definition: each result searches all boundaries."""
    return OTO if source == op.inputs[0] else MTM


def collapse(op: Op, source: str, target: str, graph: Graph) -> MappingType:
    """By definition: a sum over the axes that were broadcast; none of them leaves a copy."""
    same = graph.tensors[source].elements == graph.tensors[target].elements
    return REO if same else MTM


def slice_scatter(op: Op, source: str, target: str, graph: Graph) -> MappingType:
    """By definition: each result comes from the data or from the slice, one element each."""
    return OTO


def _all(kinds: str, pair: PairRule, properties: Property = Property.NONE) -> dict[str, Entry]:
    return {kind: Entry(pair, properties) for kind in kinds.split()}


_ELEMENTWISE = {
    **_all("add multiply maximum minimum logical_and logical_or bitwise_and bitwise_or",
           elementwise, A | D | C),
    **_all("logical_xor bitwise_xor log_add_exp", elementwise, A | C),
    **_all("subtract divide", elementwise, D | C),
    **_all("power left_shift right_shift", elementwise, D),
    **_all("equal not_equal", elementwise, C),
    **_all("floor_divide floor_mod mod atan2 greater greater_equal less less_equal where ewise_fma",
           elementwise),
    **_all("negative abs square sqrt rsqrt sign", elementwise, A | D | C),
    **_all("exp log", elementwise, C | D),
    **_all("clip ceil floor round trunc nn.relu nn.leakyrelu", elementwise, C),
    **_all("logical_not bitwise_not", elementwise, D),
    **_all("acos acosh asin asinh atan atanh cos cosh sin sinh tan tanh erf sigmoid astype"
           " isfinite isinf isnan nn.gelu nn.gelu_tanh nn.silu nn.selu nn.softplus nn.dropout"
           " full_like zeros_like ones_like eye_like tril triu", elementwise),
    **_all("nn.prelu quantize dequantize", along_axis),
    "nn.batch_norm": Entry(batch_norm),
}  # fmt: skip

_CREATION = _all("zeros ones full arange eye hamming_window", always(OTO))
"""No tensor goes in: the result is a function of the index (by definition)."""

_MOVEMENT = {
    **_all("concat split strided_slice stack", always(OTO), C),
    "slice_scatter": Entry(slice_scatter),
    "nn.pad": Entry(pad),
    **_all("reshape flatten squeeze expand_dims nn.batch_flatten", always(REO), C),
    **_all("layout_transform", always(REO)),
    **_all("permute_dims flip nn.pixel_shuffle", always(SHU), C),
    **_all("broadcast_to", elementwise, C),
    **_all("repeat tile meshgrid one_hot outer", always(OTM)),
    **_all("take gather_elements gather_nd index_tensor reverse_sequence", gather),
    **_all("image.grid_sample", gather),
    **_all("image.resize2d image.resize3d", resize),
}
"""Flip, stack, tile, reverse_sequence, outer, one_hot: by definition."""

_REDUCTION = {
    **_all("sum prod", always(MTM), A | D | C),
    **_all("max min mean", always(MTM), D | C),
    **_all("variance std argmax argmin median cumsum cumprod", always(MTM)),
    **_all("collapse_sum_to collapse_sum_like", collapse),
    "bucketize": Entry(bucketize),
}

_HEAVY = {
    **_all("matmul", always(MTM), A | D),
    **_all("nn.conv1d nn.conv2d nn.conv3d", always(MTM), D),
    **_all("nn.conv1d_transpose nn.conv2d_transpose nn.conv3d_transpose", always(MTM), D),
    **_all("einsum nn.attention nn.attention_bias image.affine_grid", always(MTM)),
    **_all("nn.max_pool1d nn.max_pool2d nn.max_pool3d nn.avg_pool1d nn.avg_pool2d nn.avg_pool3d"
           " nn.adaptive_avg_pool1d nn.adaptive_avg_pool2d nn.adaptive_avg_pool3d", always(MTM)),
    **_all("nn.softmax nn.log_softmax nn.layer_norm nn.group_norm nn.instance_norm nn.rms_norm"
           " nn.cross_entropy_with_logits nn.nll_loss", always(MTM)),
    **_all("sort argsort topk scatter_elements scatter_nd index_put multinomial_from_uniform"
           " vision.roi_align vision.roi_pool vision.multibox_transform_loc", always(MTM)),
}  # fmt: skip

ENTRIES: dict[str, Entry] = {**_ELEMENTWISE, **_CREATION, **_MOVEMENT, **_REDUCTION, **_HEAVY}
"""Kind -> entry, for every operator of Relax that is not in `barriers.BARRIERS`."""

OWN_KERNEL = frozenset(
    "sort argsort topk median cumsum cumprod multinomial_from_uniform scatter_elements scatter_nd"
    " index_put bucketize hamming_window vision.roi_pool"
    " vision.multibox_transform_loc nn.nll_loss nn.cross_entropy_with_logits"
    " image.grid_sample image.affine_grid"
    # not written as functions of an index in `codegen` (yet), so a block cannot hold them either
    " arange argmax argmin collapse_sum_like collapse_sum_to dequantize einsum ewise_fma eye"
    " eye_like gather_nd index_tensor layout_transform meshgrid"
    " nn.batch_norm one_hot outer quantize reverse_sequence slice_scatter".split()
)
"""Kinds with a mapping type that always are a kernel of their own. The first are made by a packed
call, an IR builder or a dispatch pass rather than by an expression per element."""
