"""media sessions and the worker processes that carry them."""
