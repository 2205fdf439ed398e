"""Models to measure on, and measurements. Run from the project's root: `python -m benchmarks.…`."""
