// From a packed call of TVM's host code to a launch.
#pragma once

#include <tvm/ffi/function.h>

#include "blob.h"
#include "device.h"

namespace dnnfusion::opencl {

// Arguments are the kernel's, in order, then the extents that `info.tags` name.
void RunKernel(Device& device, cl_kernel kernel, const KernelInfo& info, tvm::ffi::PackedArgs arguments);

}  // namespace dnnfusion::opencl
