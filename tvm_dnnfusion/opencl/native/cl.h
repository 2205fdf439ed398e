// The part of the OpenCL 1.2 C API that is used here: a stable ABI, declared so that building needs
// no Khronos headers. Names and values are those of the specification.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {
using cl_int = int32_t;
using cl_uint = uint32_t;
using cl_ulong = uint64_t;
using cl_bool = cl_uint;
using cl_bitfield = cl_ulong;
using cl_platform_id = struct _cl_platform_id*;
using cl_device_id = struct _cl_device_id*;
using cl_context = struct _cl_context*;
using cl_command_queue = struct _cl_command_queue*;
using cl_mem = struct _cl_mem*;
using cl_program = struct _cl_program*;
using cl_kernel = struct _cl_kernel*;
using cl_event = struct _cl_event*;
using cl_notify = void (*)(const char*, const void*, size_t, void*);
using cl_built = void (*)(cl_program, void*);
}

inline constexpr cl_int CL_SUCCESS = 0;
inline constexpr cl_int CL_BUILD_PROGRAM_FAILURE = -11;
inline constexpr cl_bool CL_TRUE = 1;
inline constexpr cl_bitfield CL_DEVICE_TYPE_GPU = 1u << 2;
inline constexpr cl_bitfield CL_DEVICE_TYPE_ALL = 0xFFFFFFFF;
inline constexpr cl_bitfield CL_QUEUE_PROFILING_ENABLE = 1u << 1;
inline constexpr cl_bitfield CL_MEM_READ_WRITE = 1;
inline constexpr cl_uint CL_DEVICE_TYPE = 0x1000;
inline constexpr cl_uint CL_DEVICE_MAX_COMPUTE_UNITS = 0x1002;
inline constexpr cl_uint CL_DEVICE_MAX_WORK_GROUP_SIZE = 0x1004;
inline constexpr cl_uint CL_DEVICE_MAX_WORK_ITEM_SIZES = 0x1005;
inline constexpr cl_uint CL_DEVICE_MAX_CLOCK_FREQUENCY = 0x100C;
inline constexpr cl_uint CL_DEVICE_MAX_MEM_ALLOC_SIZE = 0x1010;
inline constexpr cl_uint CL_DEVICE_GLOBAL_MEM_CACHE_SIZE = 0x101E;
inline constexpr cl_uint CL_DEVICE_GLOBAL_MEM_SIZE = 0x101F;
inline constexpr cl_uint CL_DEVICE_LOCAL_MEM_SIZE = 0x1023;
inline constexpr cl_uint CL_DEVICE_NAME = 0x102B;
inline constexpr cl_uint CL_DRIVER_VERSION = 0x102D;
inline constexpr cl_uint CL_DEVICE_VERSION = 0x102F;
inline constexpr cl_uint CL_DEVICE_EXTENSIONS = 0x1030;
inline constexpr cl_uint CL_PROGRAM_BUILD_LOG = 0x1183;
inline constexpr cl_uint CL_PROFILING_COMMAND_START = 0x1282;
inline constexpr cl_uint CL_PROFILING_COMMAND_END = 0x1283;

// X(result, name, parameters): every function that is looked up in the OpenCL library.
#define DNNFUSION_CL_FUNCTIONS(X)                                                                 \
  X(cl_int, clGetPlatformIDs, (cl_uint, cl_platform_id*, cl_uint*))                               \
  X(cl_int, clGetDeviceIDs,                                                                       \
    (cl_platform_id, cl_bitfield, cl_uint, cl_device_id*, cl_uint*))                              \
  X(cl_int, clGetDeviceInfo, (cl_device_id, cl_uint, size_t, void*, size_t*))                     \
  X(cl_context, clCreateContext,                                                                  \
    (const intptr_t*, cl_uint, const cl_device_id*, cl_notify, void*, cl_int*))                   \
  X(cl_command_queue, clCreateCommandQueue, (cl_context, cl_device_id, cl_bitfield, cl_int*))     \
  X(cl_mem, clCreateBuffer, (cl_context, cl_bitfield, size_t, void*, cl_int*))                    \
  X(cl_int, clReleaseMemObject, (cl_mem))                                                         \
  X(cl_int, clEnqueueReadBuffer,                                                                  \
    (cl_command_queue, cl_mem, cl_bool, size_t, size_t, void*, cl_uint, const cl_event*,          \
     cl_event*))                                                                                  \
  X(cl_int, clEnqueueWriteBuffer,                                                                 \
    (cl_command_queue, cl_mem, cl_bool, size_t, size_t, const void*, cl_uint, const cl_event*,    \
     cl_event*))                                                                                  \
  X(cl_int, clEnqueueCopyBuffer,                                                                  \
    (cl_command_queue, cl_mem, cl_mem, size_t, size_t, size_t, cl_uint, const cl_event*,          \
     cl_event*))                                                                                  \
  X(cl_int, clFlush, (cl_command_queue))                                                          \
  X(cl_int, clFinish, (cl_command_queue))                                                         \
  X(cl_program, clCreateProgramWithSource,                                                        \
    (cl_context, cl_uint, const char**, const size_t*, cl_int*))                                  \
  X(cl_int, clBuildProgram,                                                                       \
    (cl_program, cl_uint, const cl_device_id*, const char*, cl_built, void*))                     \
  X(cl_int, clGetProgramBuildInfo,                                                                \
    (cl_program, cl_device_id, cl_uint, size_t, void*, size_t*))                                  \
  X(cl_int, clReleaseProgram, (cl_program))                                                       \
  X(cl_kernel, clCreateKernel, (cl_program, const char*, cl_int*))                                \
  X(cl_int, clReleaseKernel, (cl_kernel))                                                         \
  X(cl_int, clSetKernelArg, (cl_kernel, cl_uint, size_t, const void*))                            \
  X(cl_int, clEnqueueNDRangeKernel,                                                               \
    (cl_command_queue, cl_kernel, cl_uint, const size_t*, const size_t*, const size_t*, cl_uint,  \
     const cl_event*, cl_event*))                                                                 \
  X(cl_int, clGetEventProfilingInfo, (cl_event, cl_uint, size_t, void*, size_t*))                 \
  X(cl_int, clReleaseEvent, (cl_event))
