"""What the ECG adds to a computational graph (DNNFusion, PLDI'21, section 3.1 and table 5).

`OpInfo` is the extension of one op. The functions that fill it are in `catalog.py` (mapping types,
properties, barriers) and `metrics.py` (FLOPs, bytes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.ecg.mapping import MappingType, Property


@dataclass(frozen=True, slots=True)
class OpInfo:
    """The extension of one op.

    `mapping` is None for a barrier. `irs_bytes` is the size of its intermediate result: the bytes
    of those outputs that another op reads or the function returns. `ir_removable` is decided by a
    plan: see `plan.ir_removable`.
    """

    mapping: MappingType | None
    properties: Property
    flops: int
    irs_bytes: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class ECG:
    """A graph with the extension of every op (key: op name)."""

    graph: Graph
    info: Mapping[str, OpInfo]
