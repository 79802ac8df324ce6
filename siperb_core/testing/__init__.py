"""fakes, fixtures and peers for tests, shipped with the core."""
