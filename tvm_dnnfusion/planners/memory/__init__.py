"""Planners that keep intermediate results in a buffer and move least: Optimus, GET and our own.

`search.py` holds what they share, `planner.py` makes plans of their partitions. Importing the
package registers the partitioners.
"""

from tvm_dnnfusion.planners.get.planner import get_search
from tvm_dnnfusion.planners.memory.convex import Convex, Exact
from tvm_dnnfusion.planners.memory.limited import Limited
from tvm_dnnfusion.planners.memory.linear import Linear
from tvm_dnnfusion.planners.memory.optimus import Optimus, OptimusOnline
from tvm_dnnfusion.planners.memory.planner import Assessment, MemoryPlanner
from tvm_dnnfusion.planners.memory.reasons import explain_invalid
from tvm_dnnfusion.planners.memory.search import (
    Budget,
    Partitioner,
    PartitionError,
    Result,
    get_partitioner,
    partition,
    partitioner_names,
    register_partitioner,
)

__all__ = [
    "Assessment", "Budget", "Convex", "Exact", "Limited", "Linear", "MemoryPlanner", "Optimus",
    "OptimusOnline", "PartitionError", "Partitioner", "Result", "explain_invalid",
    "get_partitioner", "partition", "partitioner_names", "register_partitioner",
]  # fmt: skip

register_partitioner("get")(get_search)
