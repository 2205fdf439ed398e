#include "device.h"

#include <tvm/ffi/error.h>

#include <algorithm>

namespace dnnfusion::opencl {

namespace {

// Events kept before their times are read: bounds memory in long measurements.
constexpr size_t kMaxEvents = 4096;

std::string Mebibytes(size_t bytes) { return std::to_string(bytes / 1048576.0) + " MiB"; }

std::string DeviceText(const Library& cl, cl_device_id id, cl_uint key) {
  size_t bytes = 0;
  Check(cl.clGetDeviceInfo(id, key, 0, nullptr, &bytes), "clGetDeviceInfo");
  std::string text(bytes, '\0');
  Check(cl.clGetDeviceInfo(id, key, bytes, text.data(), nullptr), "clGetDeviceInfo");
  return text.c_str();  // without the terminator
}

}  // namespace

Device::Device(const Library* library, cl_device_id device)
    : cl(*library), id(device), name(DeviceText(*library, device, CL_DEVICE_NAME)) {
  cl_int code = CL_SUCCESS;
  context_ = cl.clCreateContext(nullptr, 1, &id, nullptr, nullptr, &code);
  Check(code, "clCreateContext on " + name);
  queue_ = plain_ = NewQueue(0);
}

std::string Device::Text(cl_uint key) const { return DeviceText(cl, id, key); }

cl_command_queue Device::NewQueue(cl_bitfield properties) {
  cl_int code = CL_SUCCESS;
  cl_command_queue queue = cl.clCreateCommandQueue(context_, id, properties, &code);
  Check(code, "clCreateCommandQueue on " + name);
  return queue;
}

cl_mem Device::Allocate(size_t bytes) {
  const size_t largest = Info<cl_ulong>(CL_DEVICE_MAX_MEM_ALLOC_SIZE);
  if (bytes > largest) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: out of memory: a buffer of " << Mebibytes(bytes)
                                << " was asked for, the largest on " << name << " is "
                                << Mebibytes(largest);
  }
  cl_int code = CL_SUCCESS;
  // a buffer of no bytes is invalid in OpenCL, an empty tensor is not in TVM
  cl_mem memory =
      cl.clCreateBuffer(context_, CL_MEM_READ_WRITE, std::max<size_t>(bytes, 1), nullptr, &code);
  Check(code, "allocating " + Mebibytes(bytes) + " on " + name);
  return memory;
}

void Device::Read(cl_mem from, size_t offset, void* to, size_t bytes) {
  if (bytes == 0) return;
  std::lock_guard<std::mutex> lock(mutex_);
  Check(cl.clEnqueueReadBuffer(queue_, from, CL_TRUE, offset, bytes, to, 0, nullptr, nullptr),
        "reading " + Mebibytes(bytes));
}

void Device::Write(const void* from, cl_mem to, size_t offset, size_t bytes) {
  if (bytes == 0) return;
  std::lock_guard<std::mutex> lock(mutex_);
  Check(cl.clEnqueueWriteBuffer(queue_, to, CL_TRUE, offset, bytes, from, 0, nullptr, nullptr),
        "writing " + Mebibytes(bytes));
}

void Device::Copy(cl_mem from, size_t from_offset, cl_mem to, size_t to_offset, size_t bytes) {
  if (bytes == 0) return;
  std::lock_guard<std::mutex> lock(mutex_);
  Check(cl.clEnqueueCopyBuffer(queue_, from, to, from_offset, to_offset, bytes, 0, nullptr, nullptr),
        "copying " + Mebibytes(bytes));
}

void Device::Finish() {
  cl_command_queue queue;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue = queue_;
  }
  // without the lock: another thread may go on enqueueing while this one waits
  Check(cl.clFinish(queue), "clFinish on " + name);
}

void Device::Launch(cl_kernel kernel, const std::string& kernel_name,
                    const std::vector<Argument>& arguments, const size_t (&global)[3],
                    const size_t (&local)[3]) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < arguments.size(); ++i) {
    Check(cl.clSetKernelArg(kernel, static_cast<cl_uint>(i), arguments[i].bytes, arguments[i].value),
          "setting argument " + std::to_string(i) + " of kernel " + kernel_name);
  }
  cl_event event = nullptr;
  const cl_int code = cl.clEnqueueNDRangeKernel(queue_, kernel, 3, nullptr, global, local, 0, nullptr,
                                                recordings_ > 0 ? &event : nullptr);
  if (code != CL_SUCCESS) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: launching kernel " << kernel_name << " on " << name
                                << " with groups of " << local[0] << " x " << local[1] << " x "
                                << local[2] << " (the device takes "
                                << Info<size_t>(CL_DEVICE_MAX_WORK_GROUP_SIZE)
                                << " in all) failed: " << ErrorName(code);
  }
  if (event != nullptr) events_.push_back(event);
  if (events_.size() >= kMaxEvents) Drain();
}

void Device::Drain() {
  Check(cl.clFinish(queue_), "clFinish on " + name);
  cl_int failed = CL_SUCCESS;
  for (cl_event event : events_) {
    cl_ulong start = 0, end = 0;
    cl_int code = cl.clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof(start), &start,
                                             nullptr);
    if (code == CL_SUCCESS) {
      code = cl.clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof(end), &end, nullptr);
    }
    if (code != CL_SUCCESS) failed = code;
    recorded_ns_ += static_cast<int64_t>(end - start);
    cl.clReleaseEvent(event);
  }
  events_.clear();  // before throwing: released events must not be read again
  Check(failed, "reading the time of a launch on " + name);
}

int64_t Device::StartRecording() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (recordings_ == 0) {
    // an in-order queue keeps no order with another one: finish before changing over
    Check(cl.clFinish(queue_), "clFinish on " + name);
    if (profiling_ == nullptr) profiling_ = NewQueue(CL_QUEUE_PROFILING_ENABLE);
    queue_ = profiling_;
  }
  ++recordings_;
  Drain();
  return recorded_ns_;
}

int64_t Device::StopRecording(int64_t started_ns) {
  std::lock_guard<std::mutex> lock(mutex_);
  Drain();
  if (--recordings_ == 0) queue_ = plain_;
  return recorded_ns_ - started_ns;
}

}  // namespace dnnfusion::opencl
