"""What can be wrong with a message from the network, and the status owed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siperb_core.sip.message import Message


class ParseError(ValueError):
    """The peer's mistake: octets that are no SIP message, or a header field that breaks its grammar.

    `status` is the answer owed (RFC 3261 section 21.4: 400; 413 and 513 for what exceeds a limit) and `reason` says
    what is wrong, fit for a reason phrase. `message` is what could be read of a broken request, good for building
    the answer with `response_to` and for nothing else; None when no answer is owed (a response, an ACK) or possible.
    """

    def __init__(self, reason: str, status: int = 400, message: Message | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.message = message
