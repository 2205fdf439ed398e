"""The sizes of convolutions and the domains that their anchors compute."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm_dnnfusion.codegen.stages import NotLowerable
from tvm_dnnfusion.ecg.graph import Graph, Op

Dims = tuple[int, ...]
PLAIN_LAYOUTS = {"NCW", "NCHW", "NCDHW"}
PLAIN_KERNELS = {"OIW", "OIHW", "OIDHW"}


@dataclass(frozen=True, slots=True)
class ConvShape:
    """The sizes of a convolution: [N, C, *in_size], [O, C/groups, *kernel] -> [N, O, *out_size]."""

    batch: int
    channels: int
    out_channels: int
    groups: int
    in_size: Dims
    out_size: Dims
    kernel: Dims
    stride: Dims
    dilation: Dims
    pad_before: Dims

    def over(self, before: Dims, size: Dims) -> ConvShape:
        """The same convolution over a larger domain: `before` places in front, `size` in all."""
        pads = tuple(p + b * s for p, b, s in zip(self.pad_before, before, self.stride))
        return replace(self, out_size=size, pad_before=pads)

    @property
    def depthwise(self) -> bool:
        """One input channel for each output channel."""
        return self.groups == self.channels == self.out_channels and self.groups > 1

    @property
    def padded_size(self) -> Dims:
        """The input extent that the windows of all outputs cover."""
        return tuple(
            (o - 1) * s + (k - 1) * d + 1
            for o, s, k, d in zip(self.out_size, self.stride, self.kernel, self.dilation)
        )


def shape_of(op: Op, graph: Graph) -> ConvShape:
    """The sizes of a convolution op. Raises NotLowerable for layouts but NCHW's and OIHW's."""
    if op.attr("data_layout") not in PLAIN_LAYOUTS or op.attr("out_layout") != op.attr(
        "data_layout"
    ):
        raise NotLowerable(f"{op.kind} in layout {op.attr('data_layout')}")
    if op.attr("kernel_layout") not in PLAIN_KERNELS:
        raise NotLowerable(f"{op.kind} with weights in layout {op.attr('kernel_layout')}")
    x, w = (graph.tensors[t].dims for t in op.inputs[:2])
    out = graph.tensors[op.output].dims
    rank = len(x) - 2
    return ConvShape(
        x[0],
        x[1],
        out[1],
        int(op.attr("groups", 1)),
        x[2:],
        out[2:],
        w[2:],  # type: ignore[arg-type]
        op.ints("strides"),
        op.ints("dilation"),
        op.ints("padding")[:rank],
    )


def channel_block(channels: int, lanes: int) -> int:
    """Width of a channel block: the lanes, or the largest power of two that divides both."""
    f = lanes
    while f > 1 and channels % f:
        f //= 2
    return f


def window_domain(pool: Op, size: Dims) -> tuple[Dims, Dims]:
    """The domain that the windows of a pooling cover: (places in front, extent in all)."""
    rank = len(size)
    k, s, d = op_window(pool)
    pad = pool.ints("padding")
    ceil = bool(pool.attr("ceil_mode"))
    out = []
    for i in range(rank):
        span = size[i] + pad[i] + pad[rank + i] - (k[i] - 1) * d[i] - 1
        count = (-(-span // s[i]) if ceil else span // s[i]) + 1
        out.append((count - 1) * s[i] + (k[i] - 1) * d[i] + 1)
    return pad[:rank], tuple(out)


def op_window(pool: Op) -> tuple[Dims, Dims, Dims]:
    """Window, stride and dilation of a pooling."""
    return pool.ints("pool_size"), pool.ints("strides"), pool.ints("dilation")
