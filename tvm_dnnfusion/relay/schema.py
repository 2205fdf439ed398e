"""Fields of Relay's attribute structs, with the kind of each: facts about the file format.

A field's text in the file does not say whether "1" is a number or the index of a node; its kind
does. The structs are those of TVM 0.14; older and newer ones lack or add a few fields, and kept the
kinds, but for strings, which may stand in the field itself or in a node.

    i int    b bool    d double    t data type    s string    o object (array, number, string, None)
"""

from __future__ import annotations

_STRUCTS = """
AdaptivePool1DAttrs output_size:o layout:s out_layout:s
AdaptivePool2DAttrs output_size:o layout:s out_layout:s
AdaptivePool3DAttrs output_size:o layout:s out_layout:s
AffineGridAttrs target_shape:o
AllClassNonMaximumSuppressionAttrs output_format:s
ArangeAttrs start:o stop:o step:o dtype:t
ArgReduceAttrs axis:o keepdims:b select_last_index:b exclude:b
ArgsortAttrs axis:i is_ascend:b dtype:t
AutoSchedulerLayoutTransformAttrs src_layout:s dst_layout:s
AvgPool1DAttrs pool_size:o strides:o dilation:o padding:o layout:s out_layout:s ceil_mode:b
    count_include_pad:b
AvgPool2DAttrs pool_size:o strides:o padding:o dilation:o layout:s out_layout:s ceil_mode:b
    count_include_pad:b
AvgPool3DAttrs pool_size:o strides:o dilation:o padding:o layout:s out_layout:s ceil_mode:b
    count_include_pad:b
BatchMatmulAttrs out_dtype:t transpose_a:b transpose_b:b auto_scheduler_rewritten_layout:s
    meta_schedule_original_shape:o
BatchNormAttrs axis:i epsilon:d center:b scale:b
BatchToSpaceNDAttrs block_shape:o crops:o
BiasAddAttrs axis:i
BroadcastAttrs lhs_axis:i rhs_axis:i
CastAttrs dtype:t
CastHintAttrs dtype:t
ClipAttrs a_min:d a_max:d
CompilerAttrs compiler:s
ConcatenateAttrs axis:i
Conv1DAttrs strides:o padding:o dilation:o groups:i channels:o kernel_size:o data_layout:s
    kernel_layout:s out_layout:s out_dtype:t
Conv1DTransposeAttrs channels:o kernel_size:o strides:o padding:o output_padding:o dilation:o
    groups:i data_layout:s kernel_layout:s out_layout:s out_dtype:t
Conv2DAttrs strides:o padding:o dilation:o groups:i channels:o kernel_size:o data_layout:s
    kernel_layout:s out_layout:s auto_scheduler_rewritten_layout:s meta_schedule_original_shape:o
    out_dtype:t
Conv2DTransposeAttrs channels:o kernel_size:o strides:o padding:o output_padding:o dilation:o
    groups:i data_layout:s kernel_layout:s out_layout:s out_dtype:t
Conv2DWinogradAttrs tile_size:i strides:o padding:o dilation:o groups:i channels:o kernel_size:o
    data_layout:s kernel_layout:s out_layout:s auto_scheduler_rewritten_layout:s
    meta_schedule_original_shape:o out_dtype:t
Conv2DWinogradNNPACKWeightTransformAttrs convolution_algorithm:i out_dtype:t
Conv3DAttrs strides:o padding:o dilation:o groups:i channels:o kernel_size:o data_layout:s
    kernel_layout:s out_layout:s auto_scheduler_rewritten_layout:s meta_schedule_original_shape:o
    out_dtype:t
Conv3DTransposeAttrs channels:o kernel_size:o strides:o padding:o output_padding:o dilation:o
    groups:i data_layout:s kernel_layout:s out_layout:s out_dtype:t
Conv3DWinogradAttrs tile_size:i strides:o padding:o dilation:o groups:i channels:o kernel_size:o
    data_layout:s kernel_layout:s out_layout:s out_dtype:t
ConvGemmWeightTransformAttrs tile_rows:i tile_cols:i
ConvWinogradWeightTransformAttrs tile_size:i
CorrelationAttrs kernel_size:i max_displacement:i stride1:i stride2:i padding:o is_multiply:b
    layout:s
CropAndResizeAttrs crop_size:o layout:s method:s extrapolation_value:d out_dtype:t
DFTAttrs inverse:o
DeformableConv2DAttrs strides:o padding:o dilation:o deformable_groups:i groups:i channels:o
    kernel_size:o data_layout:s kernel_layout:s out_layout:s out_dtype:t
DenseAttrs units:o auto_scheduler_rewritten_layout:s meta_schedule_original_shape:o out_dtype:t
DensePackAttrs units:o out_dtype:t weight_layout:s
DequantizeAttrs out_dtype:t axis:i
DeviceCopyAttrs src_virtual_device:o dst_virtual_device:o
DilateAttrs strides:o dilation_value:d
Dilation2DAttrs strides:o padding:o dilations:o data_layout:s kernel_layout:s out_dtype:t
DropoutAttrs rate:d
DynExpandDimsAttrs num_newaxis:i
EinsumAttrs equation:s
ExpandDimsAttrs axis:i num_newaxis:i
FIFOBufferAttrs axis:i
FixedPointMultiplyAttrs multiplier:i shift:i
FixedPointMultiplyPerAxisAttrs is_lshift_required:b is_rshift_required:b axes:o
GatherAttrs axis:o
GatherNDAttrs batch_dims:o index_rank:o
GetValidCountsAttrs score_threshold:o id_index:i score_index:i
GlobalPool2DAttrs layout:s out_layout:s
GridSampleAttrs method:s layout:s padding_mode:s align_corners:b
GroupNormAttrs num_groups:i axis:i epsilon:d center:b scale:b
InitOpAttrs shape:o dtype:t
InstanceNormAttrs axis:i epsilon:d center:b scale:b
L2NormalizeAttrs eps:d axis:o
LRNAttrs size:i axis:i bias:d alpha:d beta:d
LayerNormAttrs axis:i epsilon:d center:b scale:b
LayoutTransformAttrs src_layout:s dst_layout:s
LeakyReluAttrs alpha:d
MatmulAttrs units:o out_dtype:t transpose_a:b transpose_b:b auto_scheduler_rewritten_layout:s
    meta_schedule_original_shape:o
MatrixSetDiagAttrs k1:i k2:i super_diag_right_align:b sub_diag_right_align:b
MaxPool1DAttrs pool_size:o strides:o dilation:o padding:o layout:s out_layout:s ceil_mode:b
MaxPool2DAttrs pool_size:o strides:o padding:o dilation:o layout:s out_layout:s ceil_mode:b
MaxPool3DAttrs pool_size:o strides:o dilation:o padding:o layout:s out_layout:s ceil_mode:b
MeshgridAttrs indexing:s
MetaScheduleLayoutTransformAttrs index_map:o
MirrorPadAttrs mode:s pad_width:o
MultiBoxPriorAttrs sizes:o ratios:o steps:o offsets:o clip:b
MultiBoxTransformLocAttrs clip:b threshold:d variances:o keep_background:b
NLLLossAttrs reduction:s ignore_index:i
NdarraySizeAttrs dtype:t
NonMaximumSuppressionAttrs force_suppress:b top_k:i coord_start:i score_index:i id_index:i
    return_indices:b invalid_to_bottom:b
OnDeviceAttrs virtual_device:o constrain_result:b constrain_body:b
OneHotAttrs depth:i axis:i dtype:t
PReluAttrs axis:i
PadAttrs pad_width:o pad_mode:s
ProposalAttrs scales:o ratios:o feature_stride:i threshold:d rpn_pre_nms_top_n:i
    rpn_post_nms_top_n:i rpn_min_size:i iou_loss:b
QuantizeAttrs out_dtype:t axis:i
ROIAlignAttrs pooled_size:o spatial_scale:d sample_ratio:i layout:s mode:s
ROIPoolAttrs pooled_size:o spatial_scale:d layout:s
ReduceAttrs axis:o keepdims:b exclude:b
RegularNonMaximumSuppressionAttrs max_detections_per_class:i max_detections:i num_classes:i
    iou_threshold:d score_threshold:d
RepeatAttrs repeats:o axis:o
RequantizeAttrs axis:i rounding:s compute_dtype:s out_dtype:t
ReshapeAttrs newshape:o allowzero:b
ReshapeLikeAttrs lhs_begin:i lhs_end:o rhs_begin:i rhs_end:o
Resize1DAttrs size:o roi:o layout:s method:s coordinate_transformation_mode:s rounding_method:s
    cubic_alpha:d cubic_exclude:i extrapolation_value:d out_dtype:t
Resize2DAttrs size:o roi:o layout:s method:s coordinate_transformation_mode:s rounding_method:s
    cubic_alpha:d cubic_exclude:i extrapolation_value:d out_dtype:t
Resize3DAttrs size:o roi:o layout:s method:s coordinate_transformation_mode:s rounding_method:s
    cubic_alpha:d cubic_exclude:i extrapolation_value:d out_dtype:t
ReverseAttrs axis:o
ReverseSequenceAttrs seq_axis:o batch_axis:o
ScanopAttrs axis:o dtype:t exclusive:o
ScatterElementsAttrs axis:o reduction:s
ScatterNDAttrs mode:s
SearchSortedAttrs right:b dtype:t
SequenceMaskAttrs mask_value:d axis:i
ShapeOfAttrs dtype:t
SimulatedQuantizeAttrs axis:i
SliceLikeAttrs axes:o
SlidingWindowAttrs axis:i window_shape:o strides:o
SoftmaxAttrs axis:i
SpaceToBatchNDAttrs block_shape:o paddings:o pad_value:d
SparseConv2DAttrs layout:s kernel_size:o
SparseDenseAttrs sparse_lhs:b
SparseToDenseAttrs output_shape:o
SparseTransposeAttrs
SplitAttrs indices_or_sections:o axis:i
SqueezeAttrs axis:o
StackAttrs axis:o
StftAttrs n_fft:i hop_length:i win_length:i normalized:b onesided:b
StridedSliceAttrs begin:o end:o strides:o slice_mode:s axes:o
SubPixelAttrs block_size:i layout:s mode:s
TakeAttrs batch_dims:o axis:o mode:s
TileAttrs reps:o
TopkAttrs k:o axis:i is_ascend:b ret_type:s dtype:t
TransposeAttrs axes:o
TriluAttrs upper:b
UniqueAttrs sorted:b return_counts:b
UpSampling3DAttrs scale_d:d scale_h:d scale_w:d layout:s method:s coordinate_transformation_mode:s
UpSamplingAttrs scale_h:d scale_w:d layout:s method:s align_corners:b
VarianceAttrs axis:o keepdims:b exclude:b unbiased:b
YoloReorgAttrs stride:o
"""


def _parse(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    struct = ""
    for line in text.strip().splitlines():
        words = line.split()
        if not line.startswith(" "):
            struct, words = words[0], words[1:]
            found[struct] = {}
        found[struct].update(word.split(":") for word in words)
    return found


STRUCTS = _parse(_STRUCTS)
"""Struct -> field -> kind."""
