"""TVM passes, one file each: `DNNFusionPass` and its steps, for `tvm.transform.Sequential`."""

from tvm_dnnfusion.passes.classify import ClassifyPass
from tvm_dnnfusion.passes.dnnfusion import DNNFusionPass
from tvm_dnnfusion.passes.errors import register_errors
from tvm_dnnfusion.passes.half import HalfPass
from tvm_dnnfusion.passes.lower import LowerPass
from tvm_dnnfusion.passes.pipeline import register_pipeline
from tvm_dnnfusion.passes.plan import PlanPass
from tvm_dnnfusion.passes.rewrite import RewritePass
from tvm_dnnfusion.passes.schedule import SchedulePass

__all__ = [
    "ClassifyPass",
    "DNNFusionPass",
    "HalfPass",
    "LowerPass",
    "PlanPass",
    "RewritePass",
    "SchedulePass",
    "register_pipeline",
]

register_errors()
register_pipeline()
