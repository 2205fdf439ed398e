"""Instructions that models execute on ARM, counted on the virtual phone."""
