"""What the loops of a Winograd kernel need to know, read off its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm_dnnfusion.codegen.winograd_matrices import Transform, transform
from tvm_dnnfusion.schedules.cpu.common import Kernel


@dataclass(frozen=True)
class Plan:
    """What the loops need: the transform, extents and the buffers of the stages."""

    t: Transform
    before: tuple[int, int, int]
    in_size: tuple[int, int, int]
    out_size: tuple[int, int, int]
    batch: int
    groups: int
    slices: int
    register_tiles: int
    channel_blocks: int  # of the whole input
    folded: int  # those that an output sums over: of one group of the convolution
    at_once: int
    rows: int
    lanes: int
    panels: int
    vectors: int
    taps: int
    source: Any
    weights: Any
    plain: Any  # the weights as they are, where U is made from them here; None where it is packed
    result: Any

    @property
    def down(self) -> int:
        return -(-self.out_size[1] // self.t.m)

    @property
    def across(self) -> int:
        return -(-self.out_size[2] // self.t.m)

    @property
    def tiles(self) -> int:
        return self.batch * self.down * self.across

    def first(self, panel: Any) -> Any:
        """The first block of channels that a panel of output channels sums over."""
        convs = self.channel_blocks // self.folded
        return panel // (self.panels // convs) * self.folded if convs > 1 else 0

    @property
    def points(self) -> int:
        return self.t.alpha**2


def shape_of(buffer: Any) -> list[int]:
    """The extents of a buffer."""
    return [int(n) for n in buffer.ty.shape]


def plan_of(k: Kernel, blocks: dict[str, Any]) -> Plan:
    """The plan of a kernel, given its blocks by name."""
    data, prod, anchor = blocks["data0"], blocks["prod0"], blocks["anchor0"]
    v, result = data.writes[0].source, anchor.writes[0].source
    source = next(r.source for r in data.reads if not r.source.same_as(v))
    weights = _other(prod, v)
    made = blocks.get("weight0")
    plain = _other(made, weights) if made is not None else None
    groups, _, slices, q, cb, rows, lanes = shape_of(v)
    panels, _, taps, folded, _, vectors, _ = shape_of(weights)
    batch, _, *place, _ = shape_of(result)
    _, _, *extent, _ = shape_of(source)
    m, window, at_once, *before = (int(x) for x in k.attr("dnnfusion.winograd"))
    return Plan(
        transform(m, window),
        _three(before, 0),
        _three(extent, 1),
        _three(place, 1),
        batch,
        groups,
        slices,
        q,
        cb,
        folded,
        at_once,
        rows,
        lanes,
        panels,
        vectors,
        taps,
        source,
        weights,
        plain,
        result,
    )


def _other(block: Any, source: Any) -> Any:
    """What a block reads beside a buffer and its own result."""
    known = (source, block.writes[0].source)
    return next(r.source for r in block.reads if not any(r.source.same_as(b) for b in known))


def _three(values: Sequence[int], fill: int) -> tuple[int, int, int]:
    depth, height, width = (*(fill,) * (3 - len(values)), *values)
    return depth, height, width
