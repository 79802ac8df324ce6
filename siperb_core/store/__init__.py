"""SQLite: bindings, dialogs, call records."""
