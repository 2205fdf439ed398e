"""Relay modules in: what TVM 0.7 to 0.18 saved becomes Relax, and old scripts go on.

    from tvm_dnnfusion import DNNFusionPass, relay

    mod = relay.load_json("model.json", params="model.params")
    mod = relay.transform.Sequential([DNNFusionPass()])(mod)

Beside the ONNX frontend in the pipeline. Pure Python over the JSON's node list: no TVM that has
Relay is needed, and nothing in the file is executed. docs/relay.md lists the operators.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm_dnnfusion.relay import transform
    from tvm_dnnfusion.relay.errors import RelayError, RelayUnsupportedError
    from tvm_dnnfusion.relay.module import load_json
    from tvm_dnnfusion.relay.params import load_params
    from tvm_dnnfusion.relay.reader import looks_like_relay

__all__ = [
    "RelayError",
    "RelayUnsupportedError",
    "load_json",
    "load_params",
    "looks_like_relay",
    "transform",
]

_LAZY = {
    "RelayError": "errors",
    "RelayUnsupportedError": "errors",
    "load_json": "module",
    "load_params": "params",
    "looks_like_relay": "reader",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: the reader alone needs no TVM."""
    if name == "transform":
        return import_module("tvm_dnnfusion.relay.transform")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"tvm_dnnfusion.relay.{_LAZY[name]}"), name)
