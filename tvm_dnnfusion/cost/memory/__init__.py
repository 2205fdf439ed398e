"""What a fused group costs in buffer and DRAM: memory models of line-buffered fusion.

    network = network_of(graph)
    model = memory_model("brr", network, Setting(buffer_bytes=128 * 1024))
    model.evaluate(0b111).dram_bytes

`network.py` and `layers.py` see a graph as layers with maps; `rows.py` says how many rows wait
where; `brr.py`, `streams.py` and `published.py` are the models.
"""

from tvm_dnnfusion.cost.memory.brr import BrrModel
from tvm_dnnfusion.cost.memory.layers import NetworkError, network_of
from tvm_dnnfusion.cost.memory.model import (
    MemoryModel,
    MemoryModelError,
    memory_model,
    memory_model_names,
    register_memory_model,
)
from tvm_dnnfusion.cost.memory.network import FeatureMap, Layer, LayerKind, Network, Role, Use, bits
from tvm_dnnfusion.cost.memory.published import PublishedModel
from tvm_dnnfusion.cost.memory.setting import Accounting, GroupCost, Held, Setting, Why
from tvm_dnnfusion.cost.memory.streams import LbdfModel, TileModel

__all__ = [
    "Accounting", "FeatureMap", "GroupCost", "Held", "Layer", "LayerKind", "MemoryModel",
    "MemoryModelError", "Network", "NetworkError", "Role", "Setting", "Use", "Why", "bits",
    "memory_model", "memory_model_names", "network_of", "register_memory_model",
]  # fmt: skip


def _brr(network: Network, setting: Setting) -> MemoryModel:
    paper = setting.accounting is Accounting.PAPER
    return PublishedModel(network, setting) if paper else BrrModel(network, setting)


register_memory_model("brr")(_brr)
register_memory_model("lbdf")(LbdfModel)
register_memory_model("tiles")(TileModel)
