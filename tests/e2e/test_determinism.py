"""The same model gives the same plan and module: again, reordered, under another hash seed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import tvm_ffi

from tests import models
from tvm_dnnfusion.frontend import load
from tvm_dnnfusion.pipeline import Fused, Options, fuse
from tvm_dnnfusion.planners import PlanError, load_plan, plan_to_json, save_plan

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("squeezenet", "transformer", "attention", "unet", "conv3d")
"""Small ones that between them hold every kind of block."""


def fused(model: onnx.ModelProto, **options: object) -> Fused:
    """The model up to its scheduled kernels."""
    return fuse(load(model), Options(**options))


def shuffled(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The model with its nodes in another valid order."""
    rng, left, out = random.Random(seed), list(model.graph.node), []
    made = {t.name for t in (*model.graph.input, *model.graph.initializer)} | {""}
    while left:
        node = rng.choice([n for n in left if all(t in made for t in n.input)])
        left.remove(node)
        out.append(node)
        made.update(node.output)
    del model.graph.node[:]
    model.graph.node.extend(out)
    return model


def test_shuffling_changes_the_order():
    for name in ("squeezenet", "transformer", "attention"):  # the others are chains, or nearly
        before, after = models.load(name), shuffled(models.load(name), 0)
        assert [n.output[0] for n in before.graph.node] != [n.output[0] for n in after.graph.node]


def groups(found: Fused) -> list[list[tuple[str, tuple[str, ...]]]]:
    """The blocks as (kind, source layers) of their ops, whatever the ops are called."""
    ops = found.graph.by_name
    blocks = [sorted((ops[n].kind, tuple(sorted(ops[n].origins))) for n in b.ops)
              for b in found.plan.blocks]  # fmt: skip
    return sorted(blocks)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_run_gives_the_same_plan_and_module(name: str):
    one, two = fused(models.load(name)), fused(models.load(name))
    assert plan_to_json(one.plan) == plan_to_json(two.plan)
    assert tvm_ffi.structural_equal(one.module, two.module)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_nodes_does_not_change_the_plan(name: str):
    expected = groups(fused(models.load(name)))
    for seed in range(3):
        assert groups(fused(shuffled(models.load(name), seed))) == expected, f"seed {seed}"


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_plan_gives_the_same_module(name: str, tmp_path: Path):
    first = fused(models.load(name))
    save_plan(first.plan, tmp_path / "plan.json")
    again = fused(models.load(name), plan=load_plan(tmp_path / "plan.json"))
    assert again.plan == first.plan
    assert tvm_ffi.structural_equal(again.module, first.module)


_SCRIPT = """
import sys
from tests import models
from tvm_dnnfusion.frontend import load
from tvm_dnnfusion.pipeline import Options, fuse
from tvm_dnnfusion.planners import plan_to_json
for name in sys.argv[1:]:
    made = fuse(load(models.load(name)), Options())
    print(plan_to_json(made.plan))
    print(made.module.script())
"""


def test_the_hash_seed_does_not_change_the_plan_or_the_kernels():
    seen = []
    for seed in ("0", "1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, *NAMES], capture_output=True, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        seen.append(done.stdout)
    assert "prim_func" in seen[0] and '"fingerprint"' in seen[0]
    assert seen[0] == seen[1] == seen[2]


def test_a_plan_of_another_model_is_refused_by_name():
    other = fused(models.load("unet")).plan
    with pytest.raises(PlanError, match=r"no op .*conv2d") as caught:
        fused(models.load("transformer"), plan=other)
    assert any(op in str(caught.value) for b in other.blocks for op in b.ops)


def test_a_plan_of_the_same_ops_with_other_shapes_is_refused():
    from benchmarks.built import unet

    other = fused(unet(size=32)).plan
    with pytest.raises(PlanError, match="another graph"):
        fused(models.load("unet"), plan=other)
