"""A request on its way to one leg, and its second try with the PBX's challenge answered (RFC 3261 section 22).

Only the destination a request was sent to can challenge it: a response is matched by a branch nobody else has seen.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from siperb_core.entries.contract import Credentials
from siperb_core.signalling import Signalling
from siperb_core.sip import Flow, Message
from siperb_core.sip.dialog import Leg
from siperb_core.sip.digest import answer_challenge, of_realms
from siperb_core.sip.transaction import ClientTransaction

if TYPE_CHECKING:
    from siperb_core.calls.call import Call
    from siperb_core.calls.strays import SentInvite

log = structlog.get_logger()

LARGEST_DATAGRAM = 1300
"""Octets of a request beyond which it goes by TCP (RFC 3261 section 18.1.1): fragments of datagrams get lost."""
_VIA_OCTETS = 100
"""What the Via that is still missing may add."""
_STREAM_PATIENCE = 4.0
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
        self._patience: float | None = None
        self._stream: Flow | None = None
        self._starts = 0
        self._abandoned = False
        self.asked = 0
        """The CSeq number the request had where it came from."""

    def send(self, message: Message, patience: float | None = None) -> None:
        """Send it. A flow that is known to be dead is reported like any other failure, before this returns.

        After `patience` seconds without any response `silent` is called.
        """
        self._tries += 1
        self._patience = patience
        if message.method == "INVITE":
            self.leg.note_invite(self.asked, message.cseq.number)
        self._stream = self._stream_for(message)
        if self._stream is not None:
            self._start(message, self._stream, _STREAM_PATIENCE)
        else:
            self._start(message, self.flow, patience)

    def _start(self, message: Message, flow: Flow, patience: float | None) -> None:
        self._starts += 1
        starts = self._starts
        self.transaction = None
        transaction = self._signalling.request_patiently(message, flow, self, patience)
        if self._starts == starts:
            self.transaction = transaction

    def _stream_for(self, message: Message) -> Flow | None:
        """The TCP connection for a request that is too large for UDP, where the peer has TCP."""
        ways = self._signalling.ways
        if self.flow.transport != "udp" or ways is None or len(bytes(message)) <= LARGEST_DATAGRAM - _VIA_OCTETS:
            return None
        return ways.stream_beside(self.flow)

    def _by_datagram(self, transaction: ClientTransaction) -> bool:
        """Send a request again that TCP did not carry, by UDP (section 18.1.1); False where it was UDP already."""
        ways = self._signalling.ways
        if self._stream is None or ways is None or transaction.source is not None or self._abandoned:
            return False
        self._stream = None
        ways.no_stream(self.flow)
        request = transaction.request.copy()
        request.pop_first("Via")
        self._signalling.cancel(transaction)
        self._start(request, self.flow, self._patience)
        return True

    def cancel(self, reason: str = "") -> None:
        """CANCEL an INVITE, as soon as that is allowed."""
        self._abandoned = True
        if self.transaction is not None:
            self._signalling.cancel(self.transaction, reason)

    def on_response(self, transaction: ClientTransaction, response: Message) -> None:
        """A response; the challenge we can answer is not seen by anybody else."""
        if self.transaction is not None and transaction is not self.transaction:
            return
        if response.status in (401, 407) and self._answered(transaction, response):
            return
        self.responded(response)

    def on_failure(self, transaction: ClientTransaction, status: int) -> None:
        """No answer will come."""
        if self.transaction is not None and transaction is not self.transaction:
            return
        if not ((status == 503 and self._by_datagram(transaction)) or self._elsewhere(transaction)):
            self.failed(status)

    def on_silence(self, transaction: ClientTransaction) -> None:
        """Nothing was heard yet."""
        if transaction is not self.transaction or self._by_datagram(transaction) or self._elsewhere(transaction):
            return
        self.silent()

    def _elsewhere(self, transaction: ClientTransaction) -> bool:
        """Send a request that nobody answered again by the next way, if there is one."""
        if transaction.source is not None or self._abandoned:
            return False
        flow = self.next_flow()
        if flow is None or flow == self.flow:
            return False
        request = transaction.request.copy()
        request.pop_first("Via")
        self._signalling.cancel(transaction)
        self.flow, self._stream = flow, None
        self._start(request, flow, self._patience)
        return True

    def next_flow(self) -> Flow | None:
        """Another way to the leg, now that this one has failed; None where there is none."""
        return None

    def silent(self) -> None:
        """No response at all within the patience; one may still come."""

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
        if self._abandoned or self._tries >= (_MOST_TRIES if stale else 2):
            return False
        credentials = self._credentials()
        if credentials is None:
            return False
        if credentials.realms:
            challenges = of_realms(challenges, credentials.realms)
            if not challenges:
                log.warning("auth.other_realm", call_id=transaction.request.call_id, realms=credentials.realms)
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


class CallSender(Sender):
    """A request of a call, from one side to the other. Of an INVITE it is kept what a late 2xx needs."""

    def __init__(
        self, call: Call, request: Message, leg: Leg, flow: Flow, credentials: Callable[[], Credentials | None]
    ) -> None:
        super().__init__(call.host.signalling, leg, flow, credentials)
        self.call = call
        self.asked = request.cseq.number
        self._invite: SentInvite | None = None

    def on_response(self, transaction: ClientTransaction, response: Message) -> None:
        """As `Sender.on_response`; a 2xx to a try that was given up for another one is hung up."""
        if response.status < 200 or transaction.request.method != "INVITE":
            super().on_response(transaction, response)
            return
        others = self.transaction is not None and transaction is not self.transaction
        if others and response.status < 300:
            self.call.directory.strays.late(self._keep(transaction), response, transaction.flow)
            return
        if not others and response.status not in (401, 407):
            self._invite = self._keep(transaction)
        super().on_response(transaction, response)

    def on_failure(self, transaction: ClientTransaction, status: int) -> None:
        """As `Sender.on_failure`; the answer to an INVITE may yet come."""
        if transaction.request.method == "INVITE":
            self._keep(transaction)
        super().on_failure(transaction, status)

    def hang_up(self, response: Message, leg: Leg | None = None) -> None:
        """Acknowledge the 2xx that has just come, and send its end one BYE. Raises ParseError."""
        if self._invite is not None:
            self.call.directory.strays.hang_up(self._invite, response, leg)

    def _keep(self, transaction: ClientTransaction) -> SentInvite:
        call = self.call
        return call.directory.strays.keep(
            transaction.request, call.token, call.record.connection, self.leg, transaction.flow, self._credentials
        )


class OwnRequest(Sender):
    """A request of the gateway's own in a dialog; its answer interests nobody, but a challenge is answered."""
