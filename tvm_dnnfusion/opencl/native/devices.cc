// Which devices there are: found once, when the first tensor or module needs one.
#include <tvm/ffi/error.h>

#include "device.h"

namespace dnnfusion::opencl {

// Never destroyed: buffers and modules may be released after static destructors have run.
Devices& Devices::Global() {
  static auto* devices = new Devices();
  return *devices;
}

void Devices::Configure(const std::string& library_path) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!devices_.empty() && library_path != path_) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: the library cannot be changed to " << library_path
                                << " any more, devices are in use";
  }
  path_ = library_path;
  loaded_ = !devices_.empty();
}

Device& Devices::At(int index) {
  std::lock_guard<std::mutex> lock(mutex_);
  Load();
  if (devices_.empty()) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL cannot be used: " << reason_;
  }
  if (index < 0 || static_cast<size_t>(index) >= devices_.size()) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: there is no device opencl:" << index
                                << "; this machine has opencl:0 to opencl:" << devices_.size() - 1;
  }
  return *devices_[index];
}

Device* Devices::Find(int index) {
  std::lock_guard<std::mutex> lock(mutex_);
  Load();
  return index >= 0 && static_cast<size_t>(index) < devices_.size() ? devices_[index].get() : nullptr;
}

std::string Devices::Describe() {
  At(0);
  std::string text;
  for (const auto& device : devices_) {
    text += (text.empty() ? "" : "\n") + device->name + ", " + device->Text(CL_DEVICE_VERSION) +
            ", driver " + device->Text(CL_DRIVER_VERSION);
  }
  return text;
}

void Devices::Load() {
  if (loaded_) return;
  loaded_ = true;
  reason_ = Open(path_, &library_);
  if (reason_.empty()) reason_ = Enumerate();
}

std::string Devices::Enumerate() {
  cl_uint count = 0;
  const cl_int code = library_.clGetPlatformIDs(0, nullptr, &count);
  if (code != CL_SUCCESS || count == 0) {
    return "the OpenCL library finds no driver (clGetPlatformIDs: " + ErrorName(code) +
           "); a driver registers itself with a file in /etc/OpenCL/vendors";
  }
  std::vector<cl_platform_id> platforms(count);
  Check(library_.clGetPlatformIDs(count, platforms.data(), nullptr), "clGetPlatformIDs");
  std::string reasons;
  for (const bool gpus : {true, false}) {
    for (cl_platform_id platform : platforms) {
      cl_uint found = 0;
      if (library_.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 0, nullptr, &found) != CL_SUCCESS) {
        continue;
      }
      std::vector<cl_device_id> ids(found);
      library_.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, found, ids.data(), nullptr);
      for (cl_device_id id : ids) {
        cl_bitfield type = 0;
        library_.clGetDeviceInfo(id, CL_DEVICE_TYPE, sizeof(type), &type, nullptr);
        if (((type & CL_DEVICE_TYPE_GPU) != 0) != gpus) continue;
        try {
          devices_.push_back(std::make_unique<Device>(&library_, id));
        } catch (const std::exception& error) {
          reasons += std::string("; ") + error.what();  // one broken device leaves the others
        }
      }
    }
  }
  return devices_.empty() ? "the OpenCL drivers have no usable device" + reasons : "";
}

}  // namespace dnnfusion::opencl
