"""The phone bench: a model compiled here, in three plans, verified and measured on a device."""

from tvm_dnnfusion.ondevice.bench import Settings, bench
from tvm_dnnfusion.ondevice.place import fitted
from tvm_dnnfusion.ondevice.records import VARIANTS, Report, Result, Variant

__all__ = ["VARIANTS", "Report", "Result", "Settings", "Variant", "bench", "fitted"]
