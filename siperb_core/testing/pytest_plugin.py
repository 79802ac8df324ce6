"""The pytest plugin `siperb`: installed with the core, loaded by pytest by itself."""
