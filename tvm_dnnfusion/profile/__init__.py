"""Measured latencies of blocks: keys, the database, exchange of rows, and measuring."""

from tvm_dnnfusion.profile.database import ProfileDB, Status
from tvm_dnnfusion.profile.exchange import MergeReport, export, merge
from tvm_dnnfusion.profile.keys import block_key, canonical_block, entry_key
from tvm_dnnfusion.profile.records import Entry, Measurement
from tvm_dnnfusion.profile.store import ProfileError

__all__ = [
    "Entry",
    "Measurement",
    "MergeReport",
    "ProfileDB",
    "ProfileError",
    "Status",
    "block_key",
    "canonical_block",
    "entry_key",
    "export",
    "merge",
]
