"""Single kernels against the machine's limits: `python -m benchmarks.kernels`."""
