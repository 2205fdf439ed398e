#pragma once

namespace dnnfusion::opencl {

// Index of the device that TVM chose in this thread; 0 before it did.
int CurrentDevice();

}  // namespace dnnfusion::opencl
