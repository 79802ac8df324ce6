"""config entries: model, TOML source, lifecycle, issues."""
