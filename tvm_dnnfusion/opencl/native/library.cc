#include "library.h"

#include <dlfcn.h>
#include <tvm/ffi/error.h>

#include <unordered_map>
#include <vector>

namespace dnnfusion::opencl {

namespace {

// Android keeps the vendor's driver outside the default search path.
const std::vector<std::string> kUsualNames = {
    "libOpenCL.so.1", "libOpenCL.so", "/vendor/lib64/libOpenCL.so", "/system/vendor/lib64/libOpenCL.so",
    "/vendor/lib64/libGLES_mali.so"};

// Codes of CL/cl.h and of the ICD loader.
const std::unordered_map<cl_int, const char*> kNames = {
    {-1, "CL_DEVICE_NOT_FOUND"}, {-2, "CL_DEVICE_NOT_AVAILABLE"}, {-3, "CL_COMPILER_NOT_AVAILABLE"},
    {-4, "CL_MEM_OBJECT_ALLOCATION_FAILURE"}, {-5, "CL_OUT_OF_RESOURCES"},
    {-6, "CL_OUT_OF_HOST_MEMORY"}, {-7, "CL_PROFILING_INFO_NOT_AVAILABLE"},
    {-8, "CL_MEM_COPY_OVERLAP"}, {-11, "CL_BUILD_PROGRAM_FAILURE"}, {-12, "CL_MAP_FAILURE"},
    {-13, "CL_MISALIGNED_SUB_BUFFER_OFFSET"},
    {-14, "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST"}, {-15, "CL_COMPILE_PROGRAM_FAILURE"},
    {-16, "CL_LINKER_NOT_AVAILABLE"}, {-17, "CL_LINK_PROGRAM_FAILURE"},
    {-19, "CL_KERNEL_ARG_INFO_NOT_AVAILABLE"}, {-30, "CL_INVALID_VALUE"},
    {-31, "CL_INVALID_DEVICE_TYPE"}, {-32, "CL_INVALID_PLATFORM"}, {-33, "CL_INVALID_DEVICE"},
    {-34, "CL_INVALID_CONTEXT"}, {-35, "CL_INVALID_QUEUE_PROPERTIES"},
    {-36, "CL_INVALID_COMMAND_QUEUE"}, {-38, "CL_INVALID_MEM_OBJECT"}, {-42, "CL_INVALID_BINARY"},
    {-43, "CL_INVALID_BUILD_OPTIONS"}, {-44, "CL_INVALID_PROGRAM"},
    {-45, "CL_INVALID_PROGRAM_EXECUTABLE"}, {-46, "CL_INVALID_KERNEL_NAME"},
    {-47, "CL_INVALID_KERNEL_DEFINITION"}, {-48, "CL_INVALID_KERNEL"},
    {-49, "CL_INVALID_ARG_INDEX"}, {-50, "CL_INVALID_ARG_VALUE"}, {-51, "CL_INVALID_ARG_SIZE"},
    {-52, "CL_INVALID_KERNEL_ARGS"}, {-53, "CL_INVALID_WORK_DIMENSION"},
    {-54, "CL_INVALID_WORK_GROUP_SIZE"}, {-55, "CL_INVALID_WORK_ITEM_SIZE"},
    {-56, "CL_INVALID_GLOBAL_OFFSET"}, {-57, "CL_INVALID_EVENT_WAIT_LIST"},
    {-58, "CL_INVALID_EVENT"}, {-59, "CL_INVALID_OPERATION"}, {-61, "CL_INVALID_BUFFER_SIZE"},
    {-63, "CL_INVALID_GLOBAL_WORK_SIZE"}, {-64, "CL_INVALID_PROPERTY"},
    {-1001, "CL_PLATFORM_NOT_FOUND_KHR"}};

std::string Lookup(void* handle, Library* library) {
#define DNNFUSION_LOOK_UP(result, name, parameters)                               \
  library->name = reinterpret_cast<decltype(library->name)>(dlsym(handle, #name)); \
  if (library->name == nullptr) return "it has no function " #name;
  DNNFUSION_CL_FUNCTIONS(DNNFUSION_LOOK_UP)
#undef DNNFUSION_LOOK_UP
  return "";
}

}  // namespace

std::string Open(const std::string& path, Library* library) {
  const std::vector<std::string> names = path.empty() ? kUsualNames : std::vector<std::string>{path};
  std::string reasons;
  for (const std::string& name : names) {
    void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    // dlerror() is asked once: the second call would answer nullptr
    const std::string reason = handle == nullptr ? dlerror() : Lookup(handle, library);
    if (reason.empty()) return "";
    reasons += (reasons.empty() ? "" : "; ") + reason;
  }
  return "no OpenCL library can be opened (" + reasons + ")";
}

std::string ErrorName(cl_int code) {
  const auto found = kNames.find(code);
  const std::string name = found == kNames.end() ? "unknown OpenCL error" : found->second;
  return name + " (" + std::to_string(code) + ")";
}

void Check(cl_int code, const std::string& what) {
  if (code != CL_SUCCESS) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: " << what << " failed: " << ErrorName(code);
  }
}

}  // namespace dnnfusion::opencl
