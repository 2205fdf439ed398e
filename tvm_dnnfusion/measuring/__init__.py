"""Builds candidate blocks and times them: for planners that measure, and to fill the database."""

from tvm_dnnfusion.measuring.kernels import Measure, block_measurer, candidate, has_kernel

__all__ = ["Measure", "block_measurer", "candidate", "has_kernel"]
