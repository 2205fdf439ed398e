"""A target's limits hold for every kernel: its own schedules', TVM's rules', TVM's sorts."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from onnx import TensorProto, helper
from tvm import relax, tirx

import tvm_dnnfusion
from tests.helpers import built as graph_of
from tests.helpers import lowered, weights
from tests.schedules.gpu.kernels import device
from tests.schedules.gpu.test_rows import layer_norm, softmax
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.devices.registry import DeviceError, spec_for_target
from tvm_dnnfusion.pipeline import device_for
from tvm_dnnfusion.runtime.signature import flatten
from tvm_dnnfusion.schedules.cpu.common import ScheduleFailed
from tvm_dnnfusion.schedules.dispatch import schedule_kernel
from tvm_dnnfusion.schedules.gpu.limits import group_items, local_bytes

ADRENO = {"kind": "opencl", "device": "adreno"}


def conv():
    return graph_of(
        lambda b: b.op(
            "nn.conv2d", b.input("x", (1, 16, 9, 7)), weights(b, 63, 16, 3, 3), padding=(1, 1, 1, 1)
        )
    )


def few_rows():
    return graph_of(lambda b: b.op("matmul", b.input("x", (1, 2048)), weights(b, 2048, 1000)))


GRAPHS = {
    "softmax": lambda: softmax((24, 128)),
    "long softmax": lambda: softmax((4, 2000)),
    "layer_norm": lambda: layer_norm((24, 128)),
    "conv": conv,
    "product of one row": few_rows,
}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize(("items", "local"), [(32, 2048), (4, 256)])
@pytest.mark.filterwarnings("ignore::tvm_dnnfusion.schedules.dispatch.ScheduleWarning")
def test_groups_keep_within_the_targets_limits(graph, items, local):
    spec = device_for(
        tvm.target.Target(
            ADRENO | {"max_num_threads": items, "max_shared_memory_per_block": local}, "llvm"
        )
    )
    assert spec.gpu is not None
    assert (spec.gpu.work_group, spec.gpu.local_bytes) == (items, local)
    func = schedule_kernel(lowered(GRAPHS[graph](), None, spec).func, spec)
    assert 1 <= group_items(func) <= min(64, items)
    assert local_bytes(func) <= local


def test_local_memory_is_counted_as_opencl_allocates_it():
    spec = device("adreno-650")
    func = schedule_kernel(lowered(softmax((24, 128)), None, spec).func, spec)
    # four rows of a group: 128 powers, and twice 64 parts of the folds that become 8, all float32
    assert local_bytes(func) == 4 * (128 + 2 * (64 + 8)) * 4


def test_what_tvm_completes_a_target_with_says_nothing():
    spec = device_for(tvm.target.Target(ADRENO, "llvm"))
    assert spec.gpu == registry.get("adreno-640").gpu


@pytest.mark.parametrize("entry", ["max_num_threads", "max_shared_memory_per_block"])
def test_limits_below_one_are_refused(entry):
    with pytest.raises(DeviceError, match=rf"{entry} is 0; it takes a number of at least 1"):
        spec_for_target(ADRENO | {entry: 0})


def test_a_limit_beyond_the_devices_own_does_not_raise_it():
    spec = spec_for_target(ADRENO | {"max_num_threads": 4096})
    assert spec.gpu is not None and spec.gpu.work_group == 1024


def arg_max_and_top():
    def value(name, kind, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    nodes = [
        helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0),
        helper.make_node("TopK", ["x", "k"], ["v", "i"]),
    ]
    outputs = [value("y", TensorProto.INT64, [8]), value("v", TensorProto.FLOAT, [8, 5])]
    five = helper.make_tensor("k", TensorProto.INT64, [1], [5])
    graph = helper.make_graph(
        nodes, "top", [value("x", TensorProto.FLOAT, [8, 500])], outputs, [five]
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


@pytest.mark.parametrize("items", [1024, 128, 64])
def test_tvms_rules_and_sorts_keep_to_them(items):
    target = tvm.target.Target(ADRENO | {"max_num_threads": items}, "llvm")
    made = tvm_dnnfusion.compile(arg_max_and_top(), target)
    kernels = {
        gv.name_hint: group_items(func)
        for gv, func in made.module.functions.items()
        if isinstance(func, tirx.PrimFunc)
    }
    assert kernels["b000_argmax"] == min(items, 256), "TVM's rules take no more than 256"
    assert kernels["topk"] <= items
    if not tvm.opencl(0).exist:
        pytest.skip("the numbers need an OpenCL device")
    x = np.random.default_rng(0).permutation(4000).reshape(8, 500).astype("float32")
    machine = relax.VirtualMachine(made.executable, [tvm.opencl(0), tvm.cpu()])
    y, top = flatten(machine["main"](tvm.runtime.tensor(x, tvm.opencl(0))))
    np.testing.assert_array_equal(y, x.argmax(1))
    np.testing.assert_array_equal(top, np.sort(x, 1)[:, :-6:-1])


def test_a_sort_with_larger_groups_than_there_are_is_refused():
    target = tvm.target.Target(ADRENO | {"max_num_threads": 32}, "llvm")
    with pytest.raises(ScheduleFailed, match=r"kernel topk has no form .* group of 64 work-items"):
        tvm_dnnfusion.compile(arg_max_and_top(), target)
