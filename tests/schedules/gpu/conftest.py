"""The OpenCL device, where it was built, also under an installation without entry points."""

from tvm_dnnfusion import opencl

opencl.autoload()
