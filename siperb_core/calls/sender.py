"""A request on its way to one leg, and its second try with the PBX's challenge answered (RFC 3261 section 22)."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from siperb_core.entries.contract import Credentials
from siperb_core.signalling import Signalling
from siperb_core.sip import Flow, Message
from siperb_core.sip.dialog import Leg
from siperb_core.sip.digest import answer_challenge
from siperb_core.sip.transaction import ClientTransaction

_MOST_TRIES = 3
"""First try, the answered challenge, and one more when the nonce was stale."""


class Sender:
    """Sends one request to a leg and, when challenged, again with credentials. Subclasses hear of everything else."""

    def __init__(
        self, signalling: Signalling, leg: Leg, flow: Flow, credentials: Callable[[], Credentials | None]
    ) -> None:
        self._signalling = signalling
        self.leg = leg
        self.flow = flow
        self._credentials = credentials
        self.transaction: ClientTransaction | None = None
        self._tries = 0

    def send(self, message: Message) -> None:
        """Send it. A flow that is known to be dead is reported like any other failure, before this returns."""
        tries = self._tries = self._tries + 1
        if message.method == "INVITE":
            self.leg.invite_cseq = message.cseq.number
        self.transaction = None
        transaction = self._signalling.request(message, self.flow, self)
        if self._tries == tries:
            self.transaction = transaction

    def on_response(self, transaction: ClientTransaction, response: Message) -> None:
        """A response; the challenge we can answer is not seen by anybody else."""
        if self.transaction is not None and transaction is not self.transaction:
            return
        if response.status in (401, 407) and self._answered(transaction, response):
            return
        self.responded(response)

    def on_failure(self, transaction: ClientTransaction, status: int) -> None:
        """No answer will come."""
        if self.transaction is None or transaction is self.transaction:
            self.failed(status)

    def responded(self, response: Message) -> None:
        """A response that is not an answered challenge."""

    def failed(self, status: int) -> None:
        """No response: 408 or 503."""

    def _answered(self, transaction: ClientTransaction, response: Message) -> bool:
        challenge, answer = (
            ("WWW-Authenticate", "Authorization")
            if response.status == 401
            else ("Proxy-Authenticate", "Proxy-Authorization")
        )
        challenges = response.get_all(challenge)
        stale = any("stale=true" in value.lower().replace('"', "") for value in challenges)
        if self._tries >= (_MOST_TRIES if stale else 2):
            return False
        credentials = self._credentials()
        if credentials is None:
            return False
        request = transaction.request.copy()
        value = answer_challenge(
            challenges,
            method=request.method,
            uri=request.uri,
            username=credentials.username,
            password=credentials.password,
            cnonce=secrets.token_hex(8),
            body=request.body,
        )
        if value is None:
            return False
        request.pop_first("Via")
        request.set(answer, value)
        self.leg.offset += 1
        self.leg.last_cseq += 1
        request.set("CSeq", f"{self.leg.last_cseq} {request.method}")
        if request.method == "INVITE":
            self.leg.authorization = (answer, value)
        self.send(request)
        return True
