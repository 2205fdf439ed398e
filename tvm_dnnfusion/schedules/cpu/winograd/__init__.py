"""Winograd convolutions on CPUs: `winograd_block` schedules a kernel of that kind."""

from tvm_dnnfusion.schedules.cpu.winograd.block import winograd_block

__all__ = ["winograd_block"]
