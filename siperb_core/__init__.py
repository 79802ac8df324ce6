"""The core of the siperb gateway."""
