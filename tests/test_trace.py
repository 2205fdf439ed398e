"""DNNFUSION_DEBUG says what the library does, by level."""

from __future__ import annotations

import pytest
import tvm
from tvm import relax

from tvm_dnnfusion.passes import DNNFusionPass


def _module() -> tvm.IRModule:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 16), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.softmax(builder.emit(relax.op.abs(x))))
            out = builder.emit_output(relax.op.cumsum(y, 1))
        builder.emit_func_output(out)
    return builder.get()


LEVELS = {"0": (), "1": ("plan (",), "2": ("OWN_KERNEL",), "3": ("after schedule:",)}


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_says_more(
    level: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DNNFUSION_DEBUG", level)
    DNNFusionPass()(_module())
    said = capsys.readouterr().err
    for later, words in LEVELS.items():
        for word in words:
            assert (word in said) == (later <= level), word
