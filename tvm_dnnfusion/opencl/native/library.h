// The OpenCL library, opened at run time: this file needs no libOpenCL to be built or loaded.
#pragma once

#include <string>

#include "cl.h"

namespace dnnfusion::opencl {

// Pointers to the functions of one opened library.
struct Library {
#define DNNFUSION_DECLARE(result, name, parameters) result(*name) parameters = nullptr;
  DNNFUSION_CL_FUNCTIONS(DNNFUSION_DECLARE)
#undef DNNFUSION_DECLARE
};

// Open `path`, or the usual names where it is empty; an empty result means success, any other is
// the reason of the failure. The library stays open: drivers do not survive being closed.
std::string Open(const std::string& path, Library* library);

// "CL_OUT_OF_RESOURCES (-5)".
std::string ErrorName(cl_int code);

// Throws RuntimeError "OpenCL: <what> failed: <name of code>" unless code is CL_SUCCESS.
void Check(cl_int code, const std::string& what);

}  // namespace dnnfusion::opencl
