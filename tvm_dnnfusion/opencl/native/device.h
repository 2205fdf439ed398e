// The OpenCL devices of this process: one context and one in-order queue for each.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "library.h"

namespace dnnfusion::opencl {

class Device {
 public:
  Device(const Library* library, cl_device_id id);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  template <typename T>
  T Info(cl_uint key) const {
    T value{};
    Check(cl.clGetDeviceInfo(id, key, sizeof(T), &value, nullptr), "clGetDeviceInfo");
    return value;
  }
  std::string Text(cl_uint key) const;

  cl_mem Allocate(size_t bytes);
  void Read(cl_mem from, size_t offset, void* to, size_t bytes);
  void Write(const void* from, cl_mem to, size_t offset, size_t bytes);
  void Copy(cl_mem from, size_t from_offset, cl_mem to, size_t to_offset, size_t bytes);
  void Finish();

  // One launch. A kernel object holds its arguments, so setting them and enqueueing is one step
  // that no other thread may come between.
  struct Argument {
    size_t bytes;
    const void* value;
  };
  void Launch(cl_kernel kernel, const std::string& name, const std::vector<Argument>& arguments,
              const size_t (&global)[3], const size_t (&local)[3]);

  // Time of the launches between two calls, in nanoseconds on the device; recordings may nest.
  int64_t StartRecording();
  int64_t StopRecording(int64_t started_ns);

  cl_context context() const { return context_; }

  const Library& cl;
  const cl_device_id id;
  const std::string name;

 private:
  cl_command_queue NewQueue(cl_bitfield properties);
  void Drain();

  cl_context context_ = nullptr;
  cl_command_queue plain_ = nullptr;
  // Queues with profiling are slower on phones' drivers: used only while a timer runs.
  cl_command_queue profiling_ = nullptr;
  cl_command_queue queue_ = nullptr;
  std::mutex mutex_;
  int recordings_ = 0;
  int64_t recorded_ns_ = 0;
  std::vector<cl_event> events_;
};

// All devices, GPUs first, found at the first call; `Configure` before that names the library.
class Devices {
 public:
  static Devices& Global();
  void Configure(const std::string& library_path);
  // The device, or an error that says why there is none and what to do.
  Device& At(int index);
  // nullptr where `At` would throw.
  Device* Find(int index);
  // One line per device; throws as `At` where there is none.
  std::string Describe();

 private:
  void Load();
  std::string Enumerate();

  std::mutex mutex_;
  bool loaded_ = false;
  std::string path_;
  std::string reason_;
  Library library_;
  std::vector<std::unique_ptr<Device>> devices_;
};

}  // namespace dnnfusion::opencl
