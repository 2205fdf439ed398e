"""A torch module as a checked ONNX model with every shape known."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

import onnx
import torch
from torch import Tensor, nn

from benchmarks.zoo.roi_align import translations

OPSET = 18


def export(
    module: nn.Module, feed: Sequence[Tensor], inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """Export; the exporter folds what is constant and infers shapes."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    silence = io.StringIO()  # the exporter reports its progress
    with warnings.catch_warnings(), redirect_stdout(silence), redirect_stderr(silence):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            tuple(feed),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            custom_translation_table=dict(translations()),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _anonymise(model)
    onnx.checker.check_model(model, full_check=True)
    return onnx.shape_inference.infer_shapes(model)


def _anonymise(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes on every node: stack traces with paths of this machine."""
    del model.metadata_props[:]
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
