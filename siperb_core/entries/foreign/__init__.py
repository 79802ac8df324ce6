"""Other programs' configuration, read into connections: what could be carried over, and line by line what could not."""

from siperb_core.entries.foreign.reading import ForeignError, Found, Reading, Remark
from siperb_core.entries.foreign.sniff import MAX_FOREIGN, read_foreign

__all__ = ["MAX_FOREIGN", "ForeignError", "Found", "Reading", "Remark", "read_foreign"]
