"""What plugins decide about a call, as plain data: how it goes on, who rings for it, and whether it may be made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import attrs

if TYPE_CHECKING:
    from siperb_core.entries.contract import Refusal
    from siperb_core.rtp.events import Digit
    from siperb_core.sip import Message

SAMPLE_RATE = 8000
"""Samples a second of what a `MediaEndpoint` hears and says."""


@attrs.frozen
class RingUsers:
    """The call stays in the house: the softphones of these users ring, all at once; no PBX has a part in it.

    `caller` and `display` are who they see calling, a user part of the gateway's domain and a name; empty for what the
    softphone calls itself.
    """

    users: tuple[str, ...]
    caller: str = ""
    display: str = ""


@attrs.frozen
class DialNumber:
    """The call goes on as if this number had been dialled: routing is asked again, once."""

    number: str


@attrs.frozen
class AnswerWith:
    """The gateway answers the call by itself, and this endpoint listens and speaks."""

    endpoint: MediaEndpoint


class Audio(Protocol):
    """The caller's voice and ear, as an endpoint has them: 16-bit linear samples, little-endian, mono, `SAMPLE_RATE`
    a second.
    """

    async def receive(self) -> bytes:
        """The samples of the next packet, usually 20 ms. Waits until one comes."""

    async def send(self, samples: bytes) -> None:
        """Say this; returns when it has been said, but for the last 20 ms. Silence is what is not said."""

    async def receive_digit(self) -> Digit:
        """The next key the caller has pressed, once it is let go: each once, be it told by telephone-event (RFC 4733),
        SIP INFO, both, or a tone. Waits until one comes.
        """

    async def send_digit(self, digit: Digit) -> None:
        """Press a key, of 0123456789*#ABCD, for 60 to 6000 ms; returns a short pause after it was let go. What is said
        meanwhile is not heard. The softphone gets it as its connection has digits. Raises ValueError for no key.
        """


class MediaEndpoint(Protocol):
    """Who answers a call that the gateway takes by itself. One object serves one call."""

    async def run(self, audio: Audio) -> None:
        """Listen and speak. Returning hangs up; the caller's hanging up cancels; an exception ends this call alone."""


@attrs.frozen
class CallAttempt:
    """A request that opens a call, before anybody has rung.

    `user` and `device` are the softphone's that calls, empty for a PBX's. `connection` is the one that takes the call,
    or that it came through; empty where none has a part in it. `users` are those it is for (`*`: everyone) and
    `devices` those that are to ring, where softphones are called. `caller` is the URI in From.
    """

    call_id: str
    direction: Literal["outbound", "inbound"]
    method: str
    number: str
    caller: str
    request: Message = attrs.field(repr=False, eq=False)
    connection: str = ""
    user: str = ""
    device: str = ""
    users: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


class CallGate(Protocol):
    """Says whether a call may be made, where that takes time: a database, a service, a softphone that has to be woken.

    Gates are asked one after the other, in the order of their plugins. Emergency calls pass without being asked.
    """

    name: str
    seconds: float
    """How long it may take, 30 at most. A caller waits for so long without hearing anything."""
    admits_when_failing: bool
    """What becomes of a call when the gate raises or takes too long: True lets it pass, False refuses it (503)."""

    def concerns(self, call: CallAttempt) -> bool:
        """Whether it has to be asked about this call. Pure and quick: the others go on without waiting."""

    async def admit(self, call: CallAttempt) -> Refusal | None:
        """None lets the call pass. Cancelled when the caller gives up."""
