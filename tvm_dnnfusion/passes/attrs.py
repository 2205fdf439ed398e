"""Module attributes through which the steps hand on their results, as JSON text.

Attributes survive TVM's own passes, so steps may stand apart in a pipeline.
"""

from __future__ import annotations

import json

import tvm

ECG = "dnnfusion.ecg"
REWRITE = "dnnfusion.rewrite"
PLAN = "dnnfusion.plan"


def put(mod: tvm.IRModule, key: str, value: object) -> tvm.IRModule:
    """The module with a value under a key."""
    return mod.with_attr(key, json.dumps(value))


def get(mod: tvm.IRModule, key: str) -> object | None:
    """The value under a key, or None."""
    text = (mod.attrs or {}).get(key)
    return None if text is None else json.loads(str(text))
