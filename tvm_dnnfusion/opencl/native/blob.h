// What TVM writes into an exported library for a module of kind "opencl": the sources and, for each
// kernel, the types of its arguments and which launch extents follow them in a call.
//
//   format | u64 count | count x (key, name, u64 n, n x (u8 code, u8 bits, u16 lanes),
//                                 u64 n, n x tag, u64 n, n x i32) | source
//
// A string is its length as u64 and its bytes; numbers are little endian.
#pragma once

#include <dlpack/dlpack.h>

#include <string>
#include <utility>
#include <vector>

namespace dnnfusion::opencl {

struct KernelInfo {
  std::string name;
  std::vector<DLDataType> types;
  std::vector<std::string> tags;    // "blockIdx.x", "threadIdx.y", ...
  std::vector<int32_t> extra_tags;  // for tensor maps of CUDA: kept, not used
};

struct Blob {
  std::string format;
  std::vector<std::pair<std::string, KernelInfo>> kernels;  // in the order of the file
  std::string source;
};

std::string Write(const Blob& blob);

// Throws RuntimeError where the bytes end too early or go on after the source.
Blob Parse(const char* data, size_t bytes);

}  // namespace dnnfusion::opencl
