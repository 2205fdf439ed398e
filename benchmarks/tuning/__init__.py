"""Untuned, tuned, and TVM's own tuning at equal trials."""
