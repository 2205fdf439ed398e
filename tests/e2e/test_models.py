"""The nine light models and the five built ones, from ONNX to what ONNX Runtime computes."""

from __future__ import annotations

import onnx
import pytest

from tests import models
from tests.e2e.conftest import Subject, compiled_subject
from tests.e2e.golden import Golden
from tvm_dnnfusion.runtime.module import Module
from tvm_dnnfusion.runtime.reference import run_onnx
from tvm_dnnfusion.runtime.signature import signature_of
from tvm_dnnfusion.runtime.tolerance import reduction_length
from tvm_dnnfusion.runtime.verify import Verification, verify

pytestmark = pytest.mark.slow
pytest.importorskip("onnxruntime")

SOFTMAX = tuple(
    n
    for n in models.model_names()
    if n not in ("densenet121", "transformer", "attention", "se_block", "unet")
)
"""Models that end in a softmax, which hides errors: probabilities of a wrong class score are small
whatever it is."""


def verified(subject: Subject) -> Verification:
    """The compiled model against ONNX Runtime without its optimisations."""
    made = subject.compiled
    module = Module(made.executable, signature_of(made.module))
    expected = run_onnx(subject.model, subject.inputs)
    return verify(module, expected, subject.inputs, against="ONNX Runtime",
                  reduction=reduction_length(made.source_graph))  # fmt: skip


def before_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the operand of its last softmax as a second output."""
    last = next(n for n in model.graph.node if model.graph.output[0].name in n.output)
    assert last.op_type == "Softmax"
    scores = onnx.ValueInfoProto(name=last.input[0])
    scores.type.CopyFrom(model.graph.output[0].type)
    model.graph.output.append(scores)
    return model


def test_outputs_equal_those_of_onnx_runtime(subject: Subject):
    found = verified(subject)
    assert found.ok, found
    assert not any(check.flat for check in found.outputs), "the same number everywhere"


@pytest.mark.parametrize("name", SOFTMAX)
def test_scores_before_the_softmax_equal_those_of_onnx_runtime(name: str):
    found = verified(compiled_subject(name, before_softmax(models.load(name))))
    assert len(found.outputs) == 2
    assert found.ok, found


def test_models_that_end_in_a_softmax_are_all_listed(subject: Subject):
    output = subject.model.graph.output[0].name
    last = next(n.op_type for n in subject.model.graph.node if output in n.output)
    assert (last == "Softmax") == (subject.name in SOFTMAX)


def test_fewer_kernels_and_intermediate_bytes_than_fuseops(subject: Subject, golden: Golden):
    stats = subject.compiled.stats
    for name in ("kernels", "intermediate_bytes"):
        row = stats.row(name)
        assert row.fuseops is not None
        assert row.after < row.fuseops < row.before, row
    found = {
        row.name: {"before": row.before, "fuseops": row.fuseops, "after": row.after}
        for row in stats.rows if row.name != "flops"
    }  # fmt: skip
    golden.check(subject.name, {**found, "without_template": without_template(subject)})


def without_template(subject: Subject) -> dict[str, str]:
    """Blocks that no template covers: the origins of their ops -> how they were lowered."""
    made = subject.compiled
    return {
        "/".join(made.graph.by_name[op].kind for op in block.ops): kind
        for block in made.plan.blocks
        if (kind := made.fused.lowered.kinds[block.name]) in ("plain", "relax", "barrier")
    }


def test_no_schedule_fails(subject: Subject):
    assert subject.failed == ()


def test_every_kernel_has_the_schedule_of_its_kind(subject: Subject):
    lowered = subject.compiled.fused.lowered
    kinds = {lowered.kernel_of[block]: kind for block, kind in lowered.kinds.items()
             if block in lowered.kernel_of}  # fmt: skip
    functions = {gv.name_hint: f for gv, f in subject.compiled.module.functions.items()}
    assert kinds
    for kernel, kind in kinds.items():
        assert functions[kernel].attrs["dnnfusion.schedule"] == kind, kernel
