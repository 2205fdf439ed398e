"""The way of a user: inspect, optimize, explain, verify, run, bench, on a small net."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.cli.conftest import IR_VERSION
from tvm_dnnfusion.cli import optimize as optimize_module
from tvm_dnnfusion.planners.plan_io import plan_from_json
from tvm_dnnfusion.runtime.verify import compare_all

FILES = ["artefact.json", "library.so", "plan.json", "report.html", "stats.json"]


def save(graph: onnx.GraphProto, path: Path) -> None:
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION), path)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_inspect_counts_operators_by_mapping_type(call, model):
    data = call("inspect", model, "--json").json
    types = {name: row["operators"] for name, row in data["mapping_types"].items()}
    assert types["Many-to-Many"] >= 4  # two convolutions, a pooling, a matmul
    assert sum(types.values()) == data["operators"] == len(data["graph"]["ops"])
    # 2 multiply-adds * 12 * 12 * 8 outputs * 9 taps * (4 + 8) channels, and the small rest.
    assert 2 * 144 * 8 * 9 * 12 < data["flops"] < 1.1 * 2 * 144 * 8 * 9 * 12
    text = call("inspect", model, "--ops").out
    assert "Operators by mapping type" in text
    assert "block/conv1" in text


def test_inspect_after_rewriting_reads_the_rewritten_graph(call, model):
    assert call("inspect", model, "--rewritten", "--json").code == 0


def test_optimize_writes_everything(optimized):
    assert names(optimized) == FILES
    stats = json.loads((optimized / "stats.json").read_text())
    held = stats["memory"]
    assert held.pop("total") == sum(held.values()) > held["weights"] > 0
    kernels = stats["stats"]["kernels"]
    assert kernels["after"] < kernels["fuseops"] < kernels["before"]
    sizes = stats["stats"]["intermediate_bytes"]
    assert sizes["after"] <= sizes["fuseops"] < sizes["before"]
    against = {v["against"]: v["ok"] for v in stats["verification"]}
    assert against["the unfused module"] is True
    assert all(against.values())
    plan = plan_from_json(json.dumps(json.loads((optimized / "plan.json").read_text())["plan"]))
    report = (optimized / "report.html").read_text()
    assert all(block.name in report for block in plan.blocks)
    assert {k["name"] for k in stats["kernels"]} <= {"vm.builtin", *(b.name for b in plan.blocks)}
    launched = sum(k["calls"] for k in stats["kernels"] if k["name"] != "vm.builtin")
    assert launched == kernels["after"]


def test_optimize_shows_the_table_on_stdout_and_the_phases_on_stderr(call, model, tmp_path):
    answer = call("optimize", model, "-o", tmp_path / "out", "--no-profile")
    assert answer.code == 0
    for words in (
        "Operators",
        "Kernels",
        "Intermediate bytes",
        "FLOPs",
        "before",
        "FuseOps",
        "after",
        "passed",
    ):
        assert words in answer.out
    phases = [line.split(":")[0] for line in answer.err.splitlines() if ": done in" in line]
    assert phases == ["import", "rewrite", "plan", "lower", "schedule", "build", "verify", "write"]
    assert "Scope" not in answer.err


def test_optimize_json_is_all_of_stdout(call, model, tmp_path):
    answer = call("optimize", model, "-o", tmp_path / "out", "--no-verify", "--json")
    assert answer.json["files"] == [
        "library.so",
        "artefact.json",
        "plan.json",
        "stats.json",
        "report.html",
    ]
    assert answer.json["verification"] == []
    assert set(answer.json["stats"]) >= {"operators", "kernels", "intermediate_bytes", "flops"}


def test_the_same_plan_gives_the_same_plan_file_and_it_can_be_applied_again(
    call, model, optimized, tmp_path
):
    out = tmp_path / "out"
    answer = call(
        "optimize",
        model,
        "-o",
        out,
        "--plan",
        optimized / "plan.json",
        "--no-verify",
        "--no-profile",
    )
    assert answer.code == 0
    assert (out / "plan.json").read_bytes() == (optimized / "plan.json").read_bytes()


def test_the_code_of_the_kernels_can_be_written_too(call, model, tmp_path):
    answer = call(
        "optimize",
        model,
        "-o",
        tmp_path / "out",
        "--dump-code",
        "asm, tir,ll",
        "--no-verify",
        "--no-profile",
    )
    assert answer.code == 0
    assert names(tmp_path / "out") == sorted([*FILES, "kernels.ll", "kernels.py", "kernels.s"])
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())["plan"]
    kernel = next(b["name"] for b in plan["blocks"] if "conv2d" in b["name"])
    for name in ("kernels.py", "kernels.ll", "kernels.s"):
        assert kernel in (tmp_path / "out" / name).read_text()
    assert call("optimize", model, "--dump-code", "relay").code == 2


def test_a_default_folder_is_named_after_the_model(call, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("optimize", model, "--no-verify", "--no-profile").code == 0
    assert names(tmp_path / "small-fused") == FILES


def test_nothing_is_written_when_verification_fails(call, model, tmp_path, monkeypatch):
    real = compare_all

    def off(expected, actual, **options):
        return real(expected, {n: a + 1 for n, a in actual.items()}, **options)

    monkeypatch.setattr("tvm_dnnfusion.runtime.compare_all", off)
    answer = call("optimize", model, "-o", tmp_path / "out")
    assert answer.code == 1
    assert "verification failed: output y differs from the unfused module" in answer.err
    assert names(tmp_path) in ([], ["cache"])


def test_an_earlier_result_survives_a_failure(call, model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert call("optimize", model, "-o", out, "--no-verify", "--no-profile").code == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(optimize_module.bundle, "files", fail)
    assert call("optimize", model, "-o", out, "--no-verify", "--no-profile").code == 4
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_ctrl_c_leaves_nothing_and_exits_with_4(model, tmp_path):
    program = "import sys; from tvm_dnnfusion.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "optimize", str(model), "-o", str(tmp_path / "out")]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as child:
        assert child.stderr is not None
        line = child.stderr.readline()
        assert line.startswith("import: done"), line
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 4, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert names(tmp_path) == []


def test_the_command_is_over_when_it_has_said_all():
    """Whatever threads are left: here one that sleeps, in earnest TVM's on a busy machine."""
    program = (
        "import atexit, threading, time; from tvm_dnnfusion.cli import main\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "atexit.register(print, 'tidied up')\n"
        "main(['devices', 'list', '--no-such-option'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 2 and "No such option" in done.stderr
    assert done.stdout == "tidied up\n"


def test_explain_reads_the_saved_plan(call, optimized):
    fused = call("explain", optimized, "block/conv1", "block/relu1")
    assert fused.code == 0
    data = call("explain", optimized / "plan.json", "block/conv1", "head/gemm", "--json").json
    assert data["together"] == []
    assert any(not d["fused"] for d in data["decisions"])
    wrong = call("explain", optimized, "block/conv9", "head/gemm")
    assert wrong.code == 2
    assert "did you mean block/conv" in wrong.err


def test_explain_says_what_is_wrong_with_the_file(call, optimized, tmp_path):
    plan = json.loads((optimized / "plan.json").read_text())
    (tmp_path / "bare.json").write_text(json.dumps(plan["plan"]))
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "broken.json").write_text(json.dumps({"plan": plan["plan"], "graph": {"ops": 1}}))
    for name, words in (
        ("bare", "no summary of the graph"),
        ("text", "not a plan"),
        ("list", "not a plan"),
        ("broken", "malformed"),
        ("none", "no such file"),
    ):
        answer = call("explain", tmp_path / f"{name}.json", "a", "b")
        assert answer.code == 2
        assert words in answer.err


def test_verify_compares_with_both_references(call, model):
    pytest.importorskip("onnxruntime")
    answer = call("verify", model, "--json")
    assert answer.code == 0
    assert [v["against"] for v in answer.json["verification"]] == [
        "the unfused module",
        "ONNX Runtime",
    ]
    assert answer.json["passed"] is True


def test_verify_fails_with_1_where_the_tolerance_is_exceeded(call, model, monkeypatch):
    real = compare_all
    monkeypatch.setattr(
        "tvm_dnnfusion.runtime.compare_all",
        lambda e, a, **o: real(e, {n: v * 1.01 for n, v in a.items()}, **o),
    )
    answer = call("verify", model, "--against", "unfused", "--json")
    assert answer.code == 1
    (output,) = answer.json["verification"][0]["outputs"]
    assert output["wrong"] > 0
    assert output["reason"]


def test_a_loose_tolerance_lets_a_difference_pass(call, model, monkeypatch):
    real = compare_all
    monkeypatch.setattr(
        "tvm_dnnfusion.runtime.compare_all",
        lambda e, a, **o: real(e, {n: v * 1.01 for n, v in a.items()}, **o),
    )
    assert call("verify", model, "--against", "unfused", "--rtol", "0.1").code == 0


def test_bisect_passes_over_a_sound_plan(call, model):
    answer = call("verify", model, "--bisect", "--against", "unfused", "--json")
    assert answer.code == 0
    assert answer.json["bisection"]["wrong_block"] is None
    assert answer.json["bisection"]["blocks_checked"] > 1
    assert answer.json["bisection"]["missing"] == []


def test_bisect_names_the_first_wrong_block(call, model, monkeypatch):
    """A lowering that takes one relu for a negation: the block with that relu is found."""
    from tvm_dnnfusion.codegen import lower as lower_module

    real = lower_module.lower

    def wrong(imported, graph, plan, *rest):
        ops = [
            dataclasses.replace(op, kind="negative") if "block/relu2" in op.origins else op
            for op in graph.ops
        ]
        return real(imported, graph.rebuild(ops), plan, *rest)

    monkeypatch.setattr(lower_module, "lower", wrong)
    data = call("verify", model, "--bisect", "--against", "unfused", "--json").json["bisection"]
    assert "block/relu2" in data["origins"]
    assert "head/gemm" not in data["origins"]
    assert data["blocks_checked"] == 2  # conv1 with relu1 agreed
    assert not all(t["ok"] for t in data["tensors"])
    text = call("verify", model, "--bisect", "--against", "unfused").out
    assert f"First wrong block: {data['wrong_block']}, number 2 of the plan" in text


def test_verify_a_saved_library(call, model, optimized):
    assert call("verify", model, "--library", optimized).code == 0
    assert call("verify", model, "--library", optimized, "--bisect").code == 2


def test_run_from_a_file_gives_what_onnx_runtime_gives(call, model, optimized, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(1).normal(size=(1, 4, 12, 12)).astype("float32")
    np.savez(tmp_path / "in.npz", x=x)
    answer = call(
        "run",
        optimized,
        "--inputs",
        tmp_path / "in.npz",
        "--outputs",
        tmp_path / "out.npz",
        "--print-top",
        "2",
        "--json",
    )
    assert answer.code == 0
    expected = ort.InferenceSession(str(model)).run(None, {"x": x})[0]
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["y"], expected, rtol=1e-4, atol=1e-5)
    top = answer.json["outputs"][0]["top"]
    assert top[0]["index"] == list(np.unravel_index(expected.argmax(), expected.shape))
    assert "y" in call("run", model, "--fill-mode", "zeros").out


def test_run_refuses_inputs_that_do_not_fit(call, optimized, tmp_path):
    np.savez(tmp_path / "in.npz", x=np.zeros((1, 4, 6, 6), "float32"))
    answer = call("run", optimized, "--inputs", tmp_path / "in.npz")
    assert answer.code == 2
    assert "[1, 4, 6, 6]" in answer.err
    assert call("run", optimized, "--inputs", tmp_path / "none.npz").code == 2
    assert call("run", optimized, "--planner", "none").code == 2


def test_bench_gives_median_p90_and_kernels_with_layers(call, optimized):
    answer = call("bench", optimized, "--repeat", 5, "--warmup", 0.01, "--threads", 2, "--json")
    assert answer.code == 0
    data = answer.json
    assert 0 < data["min_us"] <= data["median_us"] <= data["p90_us"]
    assert data["threads"] == 2
    assert any("block/conv1" in k["origins"] for k in data["kernels"])
    text = call("bench", optimized, "--repeat", 5, "--warmup", 0.01, "--no-profile").out
    assert "median" in text
    assert "Kernels" not in text


@pytest.mark.parametrize("command", ["inspect", "optimize", "verify", "run", "bench"])
def test_bad_models_are_clear_and_exit_with_2(call, command, model, tmp_path):
    whole = model.read_bytes()
    (tmp_path / "text.onnx").write_text("this is not a model")
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    for name in ("none.onnx", "text.onnx", "cut.onnx"):
        answer = call(command, tmp_path / name)
        assert answer.code == 2, answer
        assert name in answer.err
        assert "Traceback" not in answer.err
        assert answer.out == ""


def test_a_missing_shape_names_the_flag(call, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], "r")],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 4])],
    )
    path = tmp_path / "open.onnx"
    save(graph, path)
    answer = call("optimize", path, "-o", tmp_path / "out")
    assert answer.code == 2
    assert "--input-shapes" in answer.err
    shaped = call(
        "optimize", path, "-o", tmp_path / "out", "--input-shapes", "x:[3,4]", "--no-profile"
    )
    assert shaped.code == 0, shaped.err
    assert call("inspect", path, "--json").json["mapping_types"]["Barrier"]["operators"] == 1
    assert call("inspect", path, "--input-shapes", "x[3,4]").code == 2


def test_an_operator_that_cannot_be_imported_is_named_with_its_node(call, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("NoSuchOp", ["x"], ["y"], "strange/node")],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])],
    )
    path = tmp_path / "strange.onnx"
    save(graph, path)
    answer = call("optimize", path, "-o", tmp_path / "out")
    assert answer.code == 2
    assert "NoSuchOp" in answer.err
    assert "strange/node" in answer.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--target", "lvm"), "lvm"),
        (("--planner", "best"), "no planner named 'best'"),
        (("--planner", "tvm", "--plan", "x.json"), "exclude each other"),
        (("--plan", "none.json"), "no such file"),
        (("--threads", "0"), "--threads"),
        (("--winograd-memory", "0.5"), "--winograd-memory"),
        (("--winograd-memory", "nan"), "winograd_memory is nan"),
        (("-o", "/proc/out"), "/proc"),
        (("--no-rewrite", "--no-reassociate"), "nothing to do"),
        (("--target", "cortex-a72"), "--no-verify"),
    ],
)
def test_wrong_options_exit_with_2(call, model, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    answer = call("optimize", model, *flags)
    assert answer.code == 2
    assert words in answer.err
    assert [n for n in names(tmp_path) if n != "cache"] == []


def test_an_output_folder_that_is_a_file_or_anothers_is_refused_before_any_work(
    call, model, tmp_path
):
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    for name in ("file", "mine"):
        answer = call("optimize", model, "-o", tmp_path / name)
        assert answer.code == 2
        assert name in answer.err
        assert "import" not in answer.err
    assert names(tmp_path / "mine") == ["thesis.tex"]


def test_a_plan_of_another_model_is_refused_by_name(call, optimized, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], "r")],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3, 4])],
    )
    path = tmp_path / "other.onnx"
    save(graph, path)
    answer = call("optimize", path, "-o", tmp_path / "out", "--plan", optimized / "plan.json")
    assert answer.code == 2
    assert "plan.json does not fit" in answer.err
    assert not (tmp_path / "out").exists()


def test_a_corrupt_profile_database_is_set_aside_and_the_work_goes_on(
    call, model, tmp_path, caplog
):
    path = tmp_path / "p.sqlite"
    path.write_bytes(b"SQLite format 3\0" + b"garbage" * 99)
    answer = call(
        "optimize", model, "-o", tmp_path / "out", "--db", path, "--no-verify", "--no-profile"
    )
    assert answer.code == 0
    assert "set aside" in caplog.text
    assert len(list(tmp_path.glob("p.sqlite.damaged-*"))) >= 1


def test_rules_are_listed_and_shown(call):
    rules = call("rules", "--json").json
    assert len(rules) > 30
    name = rules[0]["name"]
    assert name in call("rules", name).out
    assert call("rules", name + "x").code == 2
    family = rules[0]["family"]
    listed = call("rules", "--family", family, "--json").json
    assert {r["family"] for r in listed} == {family}
    assert call("rules", "--family", "magic").code == 2


def test_help_needs_no_tvm():
    program = (
        "import sys; sys.modules['tvm'] = None; from tvm_dnnfusion.cli import app;"
        "sys.exit(app.run(['--help']))"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - began < 5
