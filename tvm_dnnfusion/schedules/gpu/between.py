"""Buffers between the kernels of a block keep their extents.

TVM shrinks every buffer to what is read of it. Where it cannot bound an index, such as the phases
of a transposed convolution whose channels are no whole vectors,

    anchor[(i % 38 % 3 * 6 + i // 38) // 4, ...]      i = blockIdx.x * 57 + threadIdx.x

the extent it finds depends on work-items, and the host, which allocates, has none. A block that
reads such a buffer therefore says that it reads all of it. What work-items hold themselves, in
registers or local memory, is shrunk as before.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock

_EXPLICIT = "explicit_read_region"
"""TVM's annotation of a block: which of its reads are taken as they are said."""


def whole_between(func: Any) -> Any:
    """The function whose blocks read the whole of what other kernels of it have written."""
    made: set[Any] = set()
    tvm_ffi.structural_walk(func.body, [(SBlock, lambda b: made.update(b.alloc_buffers))])
    between = {x for x in made if x.scope() == "global"}
    if not between:
        return func

    def say(block: Any) -> Any:
        found = [i for i, r in enumerate(block.reads) if r.source in between]
        if not found or block.name_hint == "root":
            return block
        notes: Any = {**block.annotations, _EXPLICIT: found}
        reads = [_whole(r.source) if i in found else r for i, r in enumerate(block.reads)]
        return SBlock(
            block.iter_vars, reads, block.writes, block.name_hint, block.body, block.init,
            block.alloc_buffers, block.match_buffers, notes,
        )  # fmt: skip

    return func.with_body(tvm_ffi.structural_map(func.body, [(SBlock, say)]))


def _whole(buffer: Any) -> Any:
    zero: Any = 0
    return tirx.BufferRegion(buffer, [tvm.ir.Range(zero, n) for n in buffer.ty.shape])
