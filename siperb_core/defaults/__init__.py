"""the core's own behaviour as plugins."""
