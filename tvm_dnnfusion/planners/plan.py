"""A fusion plan as data: blocks of ops, and a reason for every edge that was not fused.

Every planner returns a `Plan`; it can be written as JSON, read, and applied again. The plan names
ops by `Op.name` of the rewritten graph, whose `fingerprint` it carries.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tvm_dnnfusion.ecg.mapping import MappingType


class Reason(enum.Enum):
    """Why two ops were, or were not, put in one block. A closed set: a test fails on others."""

    FUSED_GREEN = "fused: legal and profitable by table 3"
    FUSED_PROFIT = "fused: measured or estimated faster together"
    FUSED_EXTENSION = "fused: table 3 forbids the pair, but one kernel does both strip by strip"
    RED = "table 3 forbids the pair"
    NOT_CONVEX = "a path leaves the block and comes back"
    BARRIER = "one of them is a barrier"
    OWN_KERNEL = "one of them has a kernel of its own that takes no other op in"
    ESCAPES = "the intermediate result is needed elsewhere in a way one kernel cannot give"
    KERNEL_ARGS = "the kernel would take more buffers than the device allows"
    DTYPE = "the block would mix element types that its schedule cannot"
    TOO_HEAVY = "the kernel would need more registers or code than the device's limit"
    NO_PROFIT = "measured or estimated slower together"
    BETTER_AS_EPILOGUE = "the producer's kernel takes the op for free; the consumer's would not"
    BETTER_AS_PROLOGUE = "its readers take the op as an index; the producer would write parts apart"
    TAKEN = "one of them already belonged to another block"
    BASELINE = "the baseline planner does not fuse this pair"
    IN_PLACE = "no kernel needed: the part is written where it lies in the joined tensor"
    COPIED = "the tensor is joined in place, but this part has its home elsewhere and is copied"
    FUSED_MEMORY = "fused: the intermediate result stays in the buffer"
    MEMORY = "together they would move more, or would not fit the buffer"


@dataclass(frozen=True, slots=True)
class EdgeDecision:
    """One edge of the graph, and what was decided of it.

    `numbers` are the figures behind the reason, as (name, value), e.g. ("fused_us", 12.5);
    `source` says where figures came from: "table", "database", "measured", "learned" (a latency
    model), "analytic" or "model" (a memory model), several with commas; `ops` names the operators
    at fault where the reason is about more than the edge.
    """

    producer: str
    consumer: str
    fused: bool
    reason: Reason
    numbers: tuple[tuple[str, float], ...] = ()
    source: str = "table"
    ops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LineBuffer:
    """A value that waits in a group's buffer: so many rows of it, made `channels` at a time.

    `tensor` names the layer that makes it, or an input of the network.
    """

    tensor: str
    rows: int
    channels: int
    bytes: int


@dataclass(frozen=True, slots=True)
class BlockMemory:
    """How a memory planner runs a block: `layers` in order, in steps of `tile_rows` rows.

    `tiles` steps cover all images, `images` of them at a time; `resident` weights are loaded once,
    others in every step. DRAM bytes and energy (in multiply-accumulates) are for the whole batch.
    """

    layers: tuple[str, ...]
    tile_rows: int
    tiles: int
    images: int
    resident: bool
    buffer_bytes: int
    dram_bytes: float
    energy: float
    lines: tuple[LineBuffer, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanMemory:
    """What a memory plan was made for: model, accounting, buffer, word, batch, accelerator."""

    model: str
    accounting: str
    buffer_bytes: int
    word_bytes: int
    batch: int
    accelerator: str


@dataclass(frozen=True, slots=True)
class Block:
    """Ops that become one kernel, in topological order.

    `mapping` is the accumulated mapping type (None: a barrier, left to TVM as it is). `memory` is
    the schedule of a memory planner.
    """

    name: str
    ops: tuple[str, ...]
    mapping: MappingType | None
    seed: str | None = None
    memory: BlockMemory | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: in the memory of another one, `buffer`, from the index `start` on."""

    tensor: str
    buffer: str
    start: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A partition of the graph's ops into blocks, in execution order.

    `places` holds the tensors without memory of their own: the parts of what is joined in place.
    """

    planner: str
    fingerprint: str
    blocks: tuple[Block, ...]
    decisions: tuple[EdgeDecision, ...]
    device: str = ""
    places: tuple[Place, ...] = ()
    memory: PlanMemory | None = None
