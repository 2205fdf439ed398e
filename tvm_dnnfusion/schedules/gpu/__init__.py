"""Schedules for mobile GPUs through OpenCL, one file per kind of block."""
