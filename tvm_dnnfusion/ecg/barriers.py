"""Operators that are left as they are, each with its reason.

A barrier is an op across which nothing is rewritten and into which nothing is fused: its meaning is
not a function from tensor elements to tensor elements (control flow, runtime calls, side effects),
or its shapes are not known at compile time. `catalog.barrier_of` decides for one op.
"""

from __future__ import annotations

import enum


class Barrier(enum.Enum):
    """Why an op is a barrier: the name is the code that `Op.barrier` holds, the value its text."""

    SYMBOLIC_SHAPE = "a shape is not known at compile time"
    NOT_A_TENSOR = "it takes or makes values that are not tensors"
    CONTROL_FLOW = "it is control flow"
    OPAQUE_CALL = "it calls a function whose body the graph does not show"
    DATA_DEPENDENT_SHAPE = "the shape of its result depends on the data"
    SIDE_EFFECT = "it does something besides computing its result"
    RUNTIME = "it speaks to the runtime: storage, parameters, the virtual machine"
    TRAINING = "it belongs to training: gradients, loss, checkpoints"
    DISTRIBUTED = "it communicates between devices"
    DEVICE = "it moves data between devices"
    LIBRARY = "only a library outside TVM's compiler computes it"
    UNKNOWN_OPERATOR = "the catalogue has no entry for the operator"


def _of(reason: Barrier, kinds: str) -> dict[str, Barrier]:
    return dict.fromkeys(kinds.split(), reason)


BARRIERS: dict[str, Barrier] = {
    **_of(Barrier.CONTROL_FLOW, "if invoke_closure invoke_pure_closure make_closure"),
    **_of(
        Barrier.OPAQUE_CALL,
        "call call_tir call_tir_inplace call_tir_with_grad call_dps_packed call_inplace_packed"
        " call_pure_packed call_py_func call_builtin_with_ctx",
    ),
    **_of(
        Barrier.NOT_A_TENSOR,
        "match_cast shape_of shape_to_tensor tensor_to_shape size"
        " inspect.tensor_byte_offset inspect.tensor_dtype_bits inspect.tensor_dtype_code"
        " inspect.tensor_dtype_lanes inspect.tensor_elem_offset inspect.tensor_ndim"
        " inspect.tensor_shape_i inspect.tensor_stride_i",
    ),
    **_of(
        Barrier.DATA_DEPENDENT_SHAPE,
        "nonzero unique dynamic_strided_slice vision.all_class_non_max_suppression"
        " vision.get_valid_counts vision.non_max_suppression",
    ),
    **_of(Barrier.SIDE_EFFECT, "print assert_op"),
    **_of(
        Barrier.RUNTIME,
        "wrap_param null_value builtin.alloc_tensor builtin.stop_lift_params"
        " memory.alloc_storage memory.alloc_tensor memory.ensure_zero_offset"
        " memory.kill_storage memory.kill_tensor memory.view"
        " vm.alloc_storage vm.alloc_tensor vm.call_tir_dyn vm.kill_object",
    ),
    **_of(
        Barrier.TRAINING,
        "grad.no_grad grad.start_checkpoint grad.end_checkpoint grad.nll_loss_backward"
        " grad.max_pool2d_backward grad.avg_pool2d_backward grad.take_backward",
    ),
    **_of(
        Barrier.DISTRIBUTED,
        "ccl.allgather ccl.allreduce ccl.broadcast_from_worker0 ccl.scatter_from_worker0"
        " dist.annotate_sharding dist.call_tir_local_view dist.redistribute"
        " dist.redistribute_replica_to_shard",
    ),
    **_of(Barrier.DEVICE, "to_vdevice hint_on_device"),
    **_of(Barrier.LIBRARY, "nn.attention_var_len"),
}
"""Kinds that are barriers whatever their shapes."""
