"""Calls and their legs: what becomes of a request once it is known whose it is and where it goes."""

from siperb_core.calls.call import Call
from siperb_core.calls.directory import Calls
from siperb_core.calls.host import CallHost
from siperb_core.calls.media import CallMedia

__all__ = ["Call", "CallHost", "CallMedia", "Calls"]
