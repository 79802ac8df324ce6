"""the command siperb."""
