// TVM's view of the devices: memory, copies, attributes, and the timer by profiling events.
#include "device_api.h"

#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/runtime/timer.h>

#include "device.h"

namespace dnnfusion::opencl {

namespace ffi = tvm::ffi;
using tvm::runtime::DeviceAttrKind;

namespace {

// The device that `SetDevice` chose in this thread, as in CUDA; modules launch there.
thread_local int current_device = 0;

cl_mem Memory(const void* data) { return static_cast<cl_mem>(const_cast<void*>(data)); }

ffi::Any Attribute(Device& device, DeviceAttrKind kind) {
  const auto number = [&](auto value) { return ffi::Any(static_cast<int64_t>(value)); };
  switch (kind) {
    case tvm::runtime::kMaxThreadsPerBlock:
      return number(device.Info<size_t>(CL_DEVICE_MAX_WORK_GROUP_SIZE));
    case tvm::runtime::kWarpSize:
      return number(1);  // OpenCL 1.2 does not tell
    case tvm::runtime::kMaxSharedMemoryPerBlock:
      return number(device.Info<cl_ulong>(CL_DEVICE_LOCAL_MEM_SIZE));
    case tvm::runtime::kMaxClockRate:
      return number(device.Info<cl_uint>(CL_DEVICE_MAX_CLOCK_FREQUENCY) * 1000);  // kHz
    case tvm::runtime::kMultiProcessorCount:
      return number(device.Info<cl_uint>(CL_DEVICE_MAX_COMPUTE_UNITS));
    case tvm::runtime::kL2CacheSizeBytes:
      return number(device.Info<cl_ulong>(CL_DEVICE_GLOBAL_MEM_CACHE_SIZE));
    case tvm::runtime::kTotalGlobalMemory:
      return number(device.Info<cl_ulong>(CL_DEVICE_GLOBAL_MEM_SIZE));
    case tvm::runtime::kDeviceName:
      return ffi::Any(ffi::String(device.name));
    case tvm::runtime::kComputeVersion:
    case tvm::runtime::kApiVersion:
      return ffi::Any(ffi::String(device.Text(CL_DEVICE_VERSION)));
    case tvm::runtime::kDriverVersion:
      return ffi::Any(ffi::String(device.Text(CL_DRIVER_VERSION)));
    case tvm::runtime::kMaxThreadDimensions: {
      struct {
        size_t of[3];
      } sizes = device.Info<decltype(sizes)>(CL_DEVICE_MAX_WORK_ITEM_SIZES);
      return ffi::Any(ffi::String("[" + std::to_string(sizes.of[0]) + ", " +
                                  std::to_string(sizes.of[1]) + ", " + std::to_string(sizes.of[2]) +
                                  "]"));
    }
    default:
      return ffi::Any();  // what OpenCL does not tell is None
  }
}

class OpenCLDeviceAPI final : public tvm::runtime::DeviceAPI {
 public:
  void SetDevice(tvm::Device device) final { current_device = device.device_id; }

  void GetAttr(tvm::Device device, DeviceAttrKind kind, ffi::Any* result) final {
    Device* found = Devices::Global().Find(device.device_id);
    if (kind == tvm::runtime::kExist) {
      *result = static_cast<int>(found != nullptr);
    } else if (found != nullptr) {
      *result = Attribute(*found, kind);
    }
  }

  void* AllocDataSpace(tvm::Device device, size_t bytes, size_t, DLDataType) final {
    return Devices::Global().At(device.device_id).Allocate(bytes);
  }

  // OpenCL itself keeps the memory until the commands that use it have finished.
  void FreeDataSpace(tvm::Device device, void* data) final {
    Device& owner = Devices::Global().At(device.device_id);
    Check(owner.cl.clReleaseMemObject(Memory(data)), "clReleaseMemObject");
  }

  void StreamSync(tvm::Device device, TVMStreamHandle) final {
    if (Device* found = Devices::Global().Find(device.device_id)) found->Finish();
  }

 protected:
  void CopyDataFromTo(const void* from, size_t from_offset, void* to, size_t to_offset,
                      size_t bytes, tvm::Device source, tvm::Device target, DLDataType,
                      TVMStreamHandle) final {
    const bool reads = source.device_type == kDLOpenCL, writes = target.device_type == kDLOpenCL;
    if (reads && writes && source.device_id == target.device_id) {
      Devices::Global().At(source.device_id).Copy(Memory(from), from_offset, Memory(to), to_offset, bytes);
    } else if (reads && writes) {  // two contexts share no memory
      std::string host(bytes, '\0');
      Devices::Global().At(source.device_id).Read(Memory(from), from_offset, host.data(), bytes);
      Devices::Global().At(target.device_id).Write(host.data(), Memory(to), to_offset, bytes);
    } else if (reads) {
      Devices::Global().At(source.device_id)
          .Read(Memory(from), from_offset, static_cast<char*>(to) + to_offset, bytes);
    } else {
      Devices::Global().At(target.device_id)
          .Write(static_cast<const char*>(from) + from_offset, Memory(to), to_offset, bytes);
    }
  }
};

// Sum of the device's times of the launches between Start and Stop, without gaps and copies, as in
// TVM's own OpenCL timer.
class EventTimer final : public tvm::runtime::TimerNode {
 public:
  explicit EventTimer(int index) : device_(Devices::Global().At(index)) {}
  ~EventTimer() final {
    if (running_) device_.StopRecording(0);
  }
  void Start() final {
    nanoseconds_ = device_.StartRecording();
    running_ = true;
  }
  void Stop() final {
    running_ = false;
    nanoseconds_ = device_.StopRecording(nanoseconds_);
  }
  int64_t SyncAndGetElapsedNanos() final { return nanoseconds_; }

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("dnnfusion.opencl.EventTimer", EventTimer,
                                    tvm::runtime::TimerNode);

 private:
  Device& device_;
  int64_t nanoseconds_ = 0;
  bool running_ = false;
};

}  // namespace

int CurrentDevice() { return current_device; }

TVM_FFI_STATIC_INIT_BLOCK() {
  ffi::reflection::GlobalDef()
      .def_packed("device_api.opencl",
                  [](ffi::PackedArgs, ffi::Any* result) {
                    static auto* api = new OpenCLDeviceAPI();
                    *result = static_cast<void*>(static_cast<tvm::runtime::DeviceAPI*>(api));
                  })
      .def("runtime.timer.opencl",
           [](tvm::Device device) {
             return tvm::runtime::Timer(ffi::make_object<EventTimer>(device.device_id));
           })
      .def("dnnfusion.opencl.configure",
           [](const ffi::String& path) { Devices::Global().Configure(path); })
      .def("dnnfusion.opencl.describe",
           [] { return ffi::String(Devices::Global().Describe()); });
}

}  // namespace dnnfusion::opencl
