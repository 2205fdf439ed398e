#include "launch.h"

#include <array>
#include <cstring>

namespace dnnfusion::opencl {

namespace {

// One scalar as the kernel takes it; TVM passes every integer as int64, every float as double.
class Scalar {
 public:
  Scalar(DLDataType type, const TVMFFIAny& given, const std::string& kernel) : bytes_(type.bits / 8u) {
    if (type.code == kDLFloat && type.bits == 32) {
      const auto value = static_cast<float>(given.v_float64);
      std::memcpy(&store_, &value, sizeof(value));
    } else if (type.code == kDLFloat && type.bits == 64) {
      std::memcpy(&store_, &given.v_float64, sizeof(double));
    } else if ((type.code == kDLInt || type.code == kDLUInt || type.code == kDLBool) && type.bits >= 8 &&
               type.bits <= 64 && type.lanes == 1) {
      // little endian: the low bytes come first
      std::memcpy(&store_, &given.v_int64, sizeof(int64_t));
    } else {
      TVM_FFI_THROW(RuntimeError) << "OpenCL: kernel " << kernel << " takes a scalar of a type ("
                                  << static_cast<int>(type.code) << ", " << static_cast<int>(type.bits)
                                  << " bits) that cannot be passed";
    }
  }
  Device::Argument argument() const { return {bytes_, &store_}; }

 private:
  size_t bytes_;
  uint64_t store_ = 0;
};

// Index of the axis of a tag, 0 to 2; local for "threadIdx", not for "blockIdx".
size_t Axis(const std::string& tag, const std::string& kernel, bool* local) {
  *local = tag.rfind("threadIdx.", 0) == 0;
  const size_t axis = tag.empty() ? 3 : static_cast<size_t>(tag.back() - 'x');
  if ((!*local && tag.rfind("blockIdx.", 0) != 0) || axis > 2) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: kernel " << kernel << " asks for " << tag
                                << ", which OpenCL does not have";
  }
  return axis;
}

}  // namespace

void RunKernel(Device& device, cl_kernel kernel, const KernelInfo& info, tvm::ffi::PackedArgs arguments) {
  const size_t count = info.types.size();
  if (static_cast<size_t>(arguments.size()) != count + info.tags.size()) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: kernel " << info.name << " takes " << count
                                << " arguments and " << info.tags.size() << " extents, got "
                                << arguments.size() << " values";
  }
  const auto* given = reinterpret_cast<const TVMFFIAny*>(arguments.data());
  std::vector<Scalar> scalars;
  scalars.reserve(count);  // arguments point into it
  std::vector<Device::Argument> passed;
  passed.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    if (info.types[i].code == kDLOpaqueHandle) {
      passed.push_back({sizeof(cl_mem), &given[i].v_ptr});
    } else {
      scalars.emplace_back(info.types[i], given[i], info.name);
      passed.push_back(scalars.back().argument());
    }
  }
  size_t global[3] = {1, 1, 1}, local[3] = {1, 1, 1};
  for (size_t i = 0; i < info.tags.size(); ++i) {
    bool is_local = false;
    const size_t axis = Axis(info.tags[i], info.name, &is_local);
    (is_local ? local : global)[axis] = static_cast<size_t>(given[count + i].v_int64);
  }
  for (size_t axis = 0; axis < 3; ++axis) global[axis] *= local[axis];
  if (global[0] * global[1] * global[2] == 0) return;  // an empty tensor needs no launch
  device.Launch(kernel, info.name, passed, global, local);
}

}  // namespace dnnfusion::opencl
