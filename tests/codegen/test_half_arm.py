"""float16 on a core that computes in it: means and attention, on the virtual phone."""

from __future__ import annotations

import numpy as np

import tvm_dnnfusion
from tests.codegen.test_block_half import ULP, attended, error, feed_of, graph_of
from tvm_dnnfusion.frontend.to_relax import graph_to_relax
from tvm_dnnfusion.runtime.link import find_linker

TARGET = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a76"}


def test_errors_are_those_of_the_result_alone(arm_session, tmp_path):
    graphs = {"layer_norm": graph_of("layer_norm"), "mean of maps": graph_of("mean of maps"),
              "softmax": graph_of("softmax"), "attention": attended(True)}  # fmt: skip
    for name, graph in graphs.items():
        feed, library = feed_of(graph, name), tmp_path / f"{name}.so"
        made = tvm_dnnfusion.compile(graph_to_relax(graph), TARGET)
        made.executable.export_library(str(library), fcompile=find_linker("aarch64-linux-gnu"))
        (found, *_) = arm_session.load(library).run([feed[n] for n in graph.inputs])
        assert error(graph, np.asarray(found), feed) <= ULP, name
