// Modules of kind "opencl": kernels are built from source at their first launch on a device.
#include <tvm/ffi/cast.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/dtype.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/accessor.h>
#include <tvm/ffi/reflection/registry.h>

#include <map>
#include <unordered_map>

#include "blob.h"
#include "device.h"
#include "device_api.h"
#include "launch.h"

namespace dnnfusion::opencl {

namespace ffi = tvm::ffi;

namespace {

// Longest part of a compiler's log that an error repeats, in bytes.
constexpr size_t kMaxLog = 8192;

// A program of one kernel on one device.
class Kernel {
 public:
  Kernel(Device& device, const std::string& name, const std::string& source) : cl_(device.cl) {
    const char* text = source.c_str();
    const size_t bytes = source.size();
    cl_int code = CL_SUCCESS;
    program_ = cl_.clCreateProgramWithSource(device.context(), 1, &text, &bytes, &code);
    Check(code, "clCreateProgramWithSource of kernel " + name);
    code = cl_.clBuildProgram(program_, 1, &device.id, nullptr, nullptr, nullptr);
    if (code != CL_SUCCESS) {
      const std::string log = Log(device);
      cl_.clReleaseProgram(program_);  // a constructor that throws runs no destructor
      TVM_FFI_THROW(RuntimeError) << "OpenCL: kernel " << name << " does not build on "
                                  << device.name << ": " << ErrorName(code) << "\n"
                                  << log;
    }
    kernel_ = cl_.clCreateKernel(program_, name.c_str(), &code);
    if (code != CL_SUCCESS) cl_.clReleaseProgram(program_);
    Check(code, "clCreateKernel of " + name);
  }
  ~Kernel() {
    cl_.clReleaseKernel(kernel_);
    cl_.clReleaseProgram(program_);
  }
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  cl_kernel get() const { return kernel_; }

 private:
  std::string Log(Device& device) const {
    size_t bytes = 0;
    cl_.clGetProgramBuildInfo(program_, device.id, CL_PROGRAM_BUILD_LOG, 0, nullptr, &bytes);
    std::string log(bytes, '\0');
    cl_.clGetProgramBuildInfo(program_, device.id, CL_PROGRAM_BUILD_LOG, bytes, log.data(), nullptr);
    log = log.c_str();  // without the terminator
    return log.size() > kMaxLog ? log.substr(0, kMaxLog) + "\n..." : log;
  }
  const Library& cl_;
  cl_program program_ = nullptr;
  cl_kernel kernel_ = nullptr;
};

// TVM's source is a row of parts that stand for themselves, each after a line "// Function: name".
std::unordered_map<std::string, std::string> Sections(const std::string& source) {
  const std::string mark = "// Function: ";
  std::unordered_map<std::string, std::string> sections;
  for (size_t at = source.find(mark); at != std::string::npos;) {
    const size_t name = at + mark.size(), end = source.find('\n', name);
    if (end == std::string::npos) break;
    at = source.find(mark, end);
    sections[source.substr(name, end - name)] = source.substr(end, at == std::string::npos ? at : at - end);
  }
  return sections;
}

class OpenCLModule final : public ffi::ModuleObj {
 public:
  explicit OpenCLModule(Blob blob) : blob_(std::move(blob)), sections_(Sections(blob_.source)) {
    for (const auto& [key, info] : blob_.kernels) infos_[key] = &info;
  }
  const char* kind() const final { return "opencl"; }
  int GetPropertyMask() const final {
    return ffi::Module::kBinarySerializable | ffi::Module::kRunnable;
  }
  ffi::String InspectSource(const ffi::String&) const final { return blob_.source; }
  ffi::Array<ffi::String> GetWriteFormats() const final { return {"cl"}; }
  ffi::Bytes SaveToBytes() const final { return ffi::Bytes(Write(blob_)); }

  ffi::Optional<ffi::Function> GetFunction(const ffi::String& name) final {
    const auto found = infos_.find(name);
    if (found == infos_.end()) return std::nullopt;
    const KernelInfo* info = found->second;
    // the function keeps the module, and with it `info`, alive
    ffi::ObjectRef self = ffi::GetRef<ffi::ObjectRef>(this);
    return ffi::Function([self, this, info](ffi::PackedArgs arguments, ffi::Any*) {
      const int index = CurrentDevice();
      Device& device = Devices::Global().At(index);
      RunKernel(device, Built(device, index, info->name), *info, arguments);
    });
  }

 private:
  cl_kernel Built(Device& device, int index, const std::string& name) {
    std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<Kernel>& kernel = kernels_[{index, name}];
    if (kernel == nullptr) {
      const auto section = sections_.find(name);
      const std::string& source = section == sections_.end() ? blob_.source : section->second;
      kernel = std::make_unique<Kernel>(device, name, source);
    }
    return kernel->get();
  }

  const Blob blob_;
  const std::unordered_map<std::string, std::string> sections_;
  std::unordered_map<std::string, const KernelInfo*> infos_;
  std::mutex mutex_;
  std::map<std::pair<int, std::string>, std::unique_ptr<Kernel>> kernels_;
};

// TVM's record of a kernel, whose header the wheel lacks: read through its reflection.
KernelInfo InfoOf(const ffi::ObjectRef& record) {
  const auto field = [&](const char* name) {
    return ffi::reflection::FieldGetter(ffi::TypeIndexToTypeKey(record->type_index()), name)(record.get());
  };
  KernelInfo info;
  info.name = std::string(field("name").cast<ffi::String>());
  for (DLDataType type : field("arg_types").cast<ffi::Array<DLDataType>>()) info.types.push_back(type);
  for (const ffi::String& tag : field("launch_param_tags").cast<ffi::Array<ffi::String>>()) {
    info.tags.emplace_back(tag);
  }
  info.extra_tags.assign(info.types.size(), 0);
  return info;
}

ffi::Module Create(const ffi::Bytes& source, const ffi::String& format,
                   const ffi::Map<ffi::String, ffi::ObjectRef>& records) {
  Blob blob{std::string(format), {}, std::string(source.data(), source.size())};
  for (const auto& [key, record] : records) blob.kernels.emplace_back(std::string(key), InfoOf(record));
  return ffi::Module(ffi::make_object<OpenCLModule>(std::move(blob)));
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  ffi::reflection::GlobalDef()
      .def_packed("ffi.Module.create.opencl",
                  [](ffi::PackedArgs args, ffi::Any* result) {  // more arguments may follow
                    *result = Create(args[0].cast<ffi::Bytes>(), args[1].cast<ffi::String>(),
                                     args[2].cast<ffi::Map<ffi::String, ffi::ObjectRef>>());
                  })
      .def("ffi.Module.load_from_bytes.opencl", [](const ffi::Bytes& bytes) {
        return ffi::Module(ffi::make_object<OpenCLModule>(Parse(bytes.data(), bytes.size())));
      });
}

}  // namespace dnnfusion::opencl
