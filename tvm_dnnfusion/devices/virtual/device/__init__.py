"""What runs on the virtual phone, and in its emulator; it imports nothing of the package."""
