"""What a group is judged by, and the judgement: records that all memory models share."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from tvm_dnnfusion.devices.accelerators import DEFAULT, Accelerator


class Accounting(enum.Enum):
    """What is charged.

    PAPER is as published, with what it leaves out (a pooling or addition alone is free, depthwise
    weights are free, streamed weights take no buffer, an operand of a skip connection takes none
    while it waits). FULL charges every node, every weight and every byte that waits.
    """

    PAPER = "paper"
    FULL = "full"


class Why(enum.Enum):
    """Why a group is not valid. A closed set."""

    BUFFER = "it needs more buffer than there is"
    WEIGHTS = "its weights do not fit the buffer together"
    WHOLE = "a layer needs or makes whole maps in an order of its own"
    RATES = "branches of it advance at rates that never meet"
    SOURCE = "it begins with a pooling, an addition or a depthwise layer"
    BRANCHES = "the model takes no layer with several inputs or readers"
    ALONE = "the model fuses nothing"


@dataclass(frozen=True, slots=True)
class Setting:
    """Buffer, word size, batch and accounting; the accelerator gives slices and energies."""

    buffer_bytes: int
    word_bytes: int = 2
    batch: int = 1
    accounting: Accounting = Accounting.FULL
    accelerator: Accelerator = DEFAULT

    @property
    def words(self) -> int:
        """The buffer in words."""
        return self.buffer_bytes // self.word_bytes


@dataclass(frozen=True, slots=True)
class GroupCost:
    """A group's schedule and what it costs.

    `buffer_bytes` is the least buffer that the group needs, valid or not (its weights alone, where
    they have to stay and do not fit); `used_bytes` what its
    chosen schedule takes. `tile_rows` counts rows of the group's last layer per step, `tiles` the
    steps over all images, `images` those that are worked on at once. DRAM bytes and energy (in
    multiply-accumulates) are for the whole batch, infinite where the group is not valid.
    """

    valid: bool
    buffer_bytes: int
    dram_bytes: float
    energy: float
    used_bytes: int = 0
    tile_rows: int = 0
    tiles: int = 0
    images: int = 1
    resident: bool = False
    weight_bytes: float = 0.0
    input_bytes: float = 0.0
    output_bytes: float = 0.0
    why: Why | None = None

    @property
    def moved_bytes(self) -> float:
        """What enters and leaves, part by part: `dram_bytes`, except in `paper` accounting, where
        authors search with one count of streamed weights and report another."""
        return self.weight_bytes + self.input_bytes + self.output_bytes


@dataclass(frozen=True, slots=True)
class Held:
    """What a map takes of the buffer: so many rows, in words of which `elements`.

    `slice` counts the channels that are made at a time; all, where the map is kept in full. `map`
    is its number in the network.
    """

    map: int
    rows: int
    slice: int
    elements: int


def refused(why: Why, buffer_bytes: int = 0) -> GroupCost:
    """The cost of a group that is not valid."""
    return GroupCost(False, buffer_bytes, math.inf, math.inf, why=why)
