"""The operator table: every Relay operator that is taken, by name."""

from __future__ import annotations

from tvm_dnnfusion.relay import (
    table_image,
    table_index,
    table_math,
    table_nn,
    table_qnn,
    table_shape,
    table_space,
)
from tvm_dnnfusion.relay.entry import Entry

SECTIONS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    ("Elementwise operators and reductions", table_math.ENTRIES),
    ("Shape, layout and making tensors", table_shape.ENTRIES),
    ("Looking up, writing by index, sorting", table_index.ENTRIES),
    ("Convolutions, products, normalisation, activations", table_nn.ENTRIES),
    ("Pooling, padding, space and channels", table_space.ENTRIES),
    ("Pictures", table_image.ENTRIES),
    ("Quantised operators", table_qnn.ENTRIES),
)
"""(title, rows), in the order of docs/relay.md."""

TABLE: dict[str, Entry] = {entry.relay: entry for _, rows in SECTIONS for entry in rows}
"""Relay operator -> its row."""
