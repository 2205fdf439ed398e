"""The models that the paper measures, with random weights: `python -m benchmarks.zoo`."""
