"""ROI-align by itself, and with what is fused around it, against the unfused module."""

import numpy as np
import pytest
from tvm import relax

from tests.helpers import lowered, run_kernel, scheduled, unfused
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.stages import NotLowerable
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.frontend.relax import from_relax

BLOCKED = Layout(1, 16)
ATTRS = {"pooled_size": (3, 2), "spatial_scale": 0.25, "sample_ratio": 2, "mode": "avg",
         "aligned": False, "layout": "NCHW"}  # fmt: skip


def _graph(images: int = 2, **attrs: object) -> Graph:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((images, 32, 9, 7), "float32"))
    regions = relax.Var("regions", relax.TensorType((11, 5), "float32"))
    with builder.function("main", [x, regions]):
        with builder.dataflow():
            y = builder.emit(relax.op.vision.roi_align(x, regions, **{**ATTRS, **attrs}))
            out = builder.emit_output(relax.op.nn.relu(y))
        builder.emit_func_output(out)
    return from_relax(builder.get()).graph


def _feed(images: int) -> dict[str, np.ndarray]:
    """Regions inside, across every border, far outside, and of no size."""
    rng = np.random.default_rng(3)
    corner = rng.uniform(-20, 45, (11, 2))
    size = rng.uniform(0, 30, (11, 2))
    size[0], corner[1] = 0, -200
    image = rng.integers(0, images, (11, 1))
    regions = np.concatenate([image, corner, corner + size], axis=1).astype("float32")
    return {"x": rng.normal(size=(images, 32, 9, 7)).astype("float32"), "regions": regions}


def _check(graph: Graph, layouts: dict[str, Layout], images: int) -> str:
    feed, kernel = _feed(images), lowered(graph, layouts)
    assert kernel.kind == "map"
    func = scheduled(kernel)
    (wanted,) = unfused(graph, feed)
    for candidate in (kernel.func, func):
        (found,) = run_kernel(candidate, kernel, graph, feed, layouts)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert np.abs(wanted).max() > 0.1
    return str(func.script())


@pytest.mark.parametrize(
    ("images", "mode", "aligned", "samples"),
    [(1, "avg", False, 2), (2, "max", False, 1), (2, "avg", True, 3), (1, "max", True, 2)],
)
def test_roi_align_equals_the_unfused_module(images, mode, aligned, samples):
    _check(_graph(images, mode=mode, aligned=aligned, sample_ratio=samples), {}, images)


@pytest.mark.parametrize("out", [False, True], ids=["rows", "blocked"])
def test_channels_are_vectors_where_the_image_is_blocked(out):
    graph = _graph()
    layouts = {"x": BLOCKED} | ({graph.outputs[0]: BLOCKED} if out else {})
    text = _check(graph, layouts, 2)
    assert "T.vectorized(16)" in text


@pytest.mark.parametrize("attrs", [{"sample_ratio": -1}, {"sample_ratio": 4}])
def test_sample_counts_that_depend_on_the_region_or_are_many_have_no_template(attrs):
    with pytest.raises(NotLowerable, match="samples"):
        lowered(_graph(**attrs))
