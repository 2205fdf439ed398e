"""What OpenCL kernels execute, counted exactly: bytes and instructions, without a GPU."""
