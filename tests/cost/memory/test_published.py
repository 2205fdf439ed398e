"""The published model against figures of the authors' own program, and the bars of the papers."""

from __future__ import annotations

from functools import lru_cache

import pytest

from benchmarks.planners.networks import build
from tvm_dnnfusion.cost.memory import Accounting, Network, Setting, network_of
from tvm_dnnfusion.cost.memory.published import PublishedModel
from tvm_dnnfusion.planners.memory import get_partitioner, partition
from tvm_dnnfusion.planners.memory.linear import flags_of
from tvm_dnnfusion.planners.memory.search import singles

MIB = 2**20


@lru_cache
def network(name: str) -> Network:
    return network_of(build(name))


def moved(name: str, planner: str, kib: int = 128, batch: int = 4) -> float:
    """MiB that a method moves, as its own published model counts them."""
    setting = Setting(kib * 1024, 2, batch, Accounting.PAPER)
    flags = flags_of(planner)
    model = PublishedModel(network(name), setting, *([flags] if flags else []))
    if planner == "none":
        return sum(model.evaluate(g).moved_bytes for g in singles(model)) / MIB
    found = partition(get_partitioner(planner), model)
    return sum(c.moved_bytes for c in found.costs) / MIB


@pytest.mark.parametrize(
    ("name", "kib", "batch", "printed"),
    [
        ("alexnet-optimus", 128, 1, 5.78), ("alexnet-optimus", 128, 4, 13.33),
        ("alexnet-optimus", 512, 4, 8.27),
        ("vgg16-optimus", 128, 1, 97.8), ("vgg16-optimus", 128, 4, 362.1),
        ("squeezenet-optimus", 128, 1, 5.25), ("squeezenet-optimus", 128, 4, 19.74),
        ("squeezenet-optimus", 256, 4, 9.48), ("squeezenet-optimus", 512, 4, 6.37),
        ("mobilenet-v1", 128, 1, 13.72), ("mobilenet-v1", 128, 4, 41.78),
        ("resnet18-optimus", 128, 1, 28.72), ("resnet18-optimus", 128, 4, 61.85),
        ("resnet50-optimus", 128, 1, 83.22), ("resnet50-optimus", 128, 4, 233.5),
    ],
)  # fmt: skip
def test_optimus_search_gives_the_authors_figures(
    name: str, kib: int, batch: int, printed: float
) -> None:
    assert moved(name, "optimus", kib, batch) == pytest.approx(printed, rel=0.01)


@pytest.mark.parametrize(
    ("name", "efficient_s", "dnnvm"),
    [
        ("alexnet-optimus", 16.00, 16.00), ("vgg16-optimus", 427.2, 427.2),
        ("squeezenet-optimus", 37.88, 64.35), ("mobilenet-v1", 48.46, 48.46),
        ("resnet18-optimus", 70.08, 77.19), ("resnet50-optimus", 304.0, 313.4),
    ],
)  # fmt: skip
def test_baselines_within_three_percent(name: str, efficient_s: float, dnnvm: float) -> None:
    assert moved(name, "efficient-s") == pytest.approx(efficient_s, rel=0.03)
    assert moved(name, "dnnvm") == pytest.approx(dnnvm, rel=0.03)


@pytest.mark.parametrize(
    ("name", "printed"),
    [("vgg16-optimus", 464.8), ("squeezenet-optimus", 74.78), ("mobilenet-v1", 68.12),
     ("resnet18-optimus", 80.07), ("resnet50-optimus", 317.8)],
)  # fmt: skip
def test_no_fusion_within_one_percent(name: str, printed: float) -> None:
    assert moved(name, "none") == pytest.approx(printed, rel=0.01)


def test_what_the_published_model_leaves_out() -> None:
    """An addition alone is free, and no group begins with one."""
    net = network("resnet18-optimus")
    model = PublishedModel(net, Setting(128 * 1024, accounting=Accounting.PAPER))
    add = next(v for v in net.layers if v.kind.name == "ELTWISE")
    reader = next(i for i in range(net.n) if net.preds[i] >> add.index & 1)
    assert model.evaluate(1 << add.index).dram_bytes == 0
    assert model.evaluate(1 << add.index | 1 << reader).why is not None
