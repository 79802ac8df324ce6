"""The media of one call of the test softphone, as its call sees it: offers, answers, tones, ears."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from aiortc.rtcdtlstransport import RTCCertificate

from siperb_core.rtp.packet import RtpError
from siperb_core.sdp.description import SdpError
from siperb_core.testing import codecs, tones
from siperb_core.testing.ear import DigitHeard, Ear
from siperb_core.testing.outgoing_digit import check_digits
from siperb_core.testing.softphone_peer import AsyncioThread, Peer, Sending
from siperb_core.testing.softphone_sdp import RemoteAudio, Writer, allowed, read


class MediaFailed(Exception):
    """ICE or DTLS did not come about; the text says which."""


class SoftphoneMedia:
    """One call's media. It is a `siperb_core.testing.session.CallMedia`."""

    def __init__(
        self, thread: AsyncioThread, certificate: RTCCertificate, addresses: Sequence[str], offered: Sequence[str]
    ) -> None:
        self.ear = Ear()
        self.codec = ""
        """Agreed on; "" before that."""
        self.direction = "inactive"
        """What we may do."""
        self.offers: list[bytes] = []
        self.answers: list[bytes] = []
        """The other side's descriptions, in order."""
        self._thread = thread
        self._certificate = certificate
        self._addresses = tuple(addresses)
        self._codecs = tuple(offered)
        self._peer: Peer | None = None
        self._writer: Writer | None = None
        self._tone: tuple[int, float] | None = None
        self._held = False
        self._mid = "0"
        self._we_are: str = ""  # our DTLS role, chosen once (RFC 8842 section 5)
        self._settled = trio.Event()
        self._failure = ""
        self._closed = False
        self._sending: Sending | None = None

    @property
    def packets_out(self) -> int:
        """RTP packets sent."""
        return 0 if self._peer is None else self._peer.packets_out

    async def connected(self) -> None:
        """Wait until ICE and DTLS are through. Raises MediaFailed."""
        await self._settled.wait()
        if self._failure:
            raise MediaFailed(self._failure)

    def play(self, hz: int, dbfs: float = tones.LEVEL) -> None:
        """A tone from now on."""
        tones.second(hz, dbfs, 48000)  # tell of a tone that cannot be here, where it was asked for
        self._tone = (hz, dbfs)
        if self._peer is not None:
            self._peer.tone = self._tone

    def stop(self) -> None:
        """Silence from now on."""
        self._tone = None
        if self._peer is not None:
            self._peer.tone = None

    async def send_digits(self, digits: str) -> None:
        """Send digits as telephone-events, wait until they are out. Raises ValueError if that cannot be."""
        check_digits(digits)
        if self._peer is None or self._sending is None or self._sending.events is None or not digits:
            raise ValueError("the other side has no telephone-event")
        await self._thread.run(self._peer.send_digits(digits))

    # CallMedia

    async def offer(self) -> bytes:
        writer = await self._ready(controlling=True)
        return writer.offer(self._codecs, "sendonly" if self._held else "sendrecv", self._mid)

    async def answer(self, offer: bytes) -> bytes:
        self.offers.append(offer)
        remote = read(offer)
        codec = remote.choose(self._codecs)
        writer = await self._ready(controlling=False)
        if not self._we_are:
            self._we_are = "server" if remote.setup == "active" else "client"
        self._mid = remote.mid or "0"
        self._use(remote, codec)
        return writer.answer(remote, codec, self.direction, "active" if self._we_are == "client" else "passive")

    async def accept(self, answer: bytes) -> None:
        self.answers.append(answer)
        remote = read(answer)
        if remote.setup not in ("active", "passive"):
            raise SdpError(f"an answer with a=setup:{remote.setup}")
        role = "server" if remote.setup == "active" else "client"
        if self._we_are and role != self._we_are:
            raise SdpError("the DTLS role has changed")
        self._we_are = role
        self._use(remote, remote.choose(self._codecs))

    def hold(self, held: bool) -> None:
        self._held = held

    def digit_by_info(self, digit: str) -> None:
        self.ear.note_digit(DigitHeard(digit, "info"))

    async def close(self) -> None:
        self._closed = True
        if self._peer is not None:
            await self._thread.run(self._peer.close())

    # Within

    async def _ready(self, *, controlling: bool) -> Writer:
        if self._writer is None:

            async def make() -> Peer:
                peer = Peer(
                    self._certificate,
                    lambda payload: self._thread.tell(self._heard, payload),
                    lambda payload, timestamp: self._thread.tell(self._heard_event, payload, timestamp),
                )
                peer.tone = self._tone
                await peer.gather(self._addresses, controlling=controlling)
                return peer

            self._peer = await self._thread.run(make())
            self._writer = Writer(self._peer, self._addresses[0])
        return self._writer

    def _use(self, remote: RemoteAudio, codec: str) -> None:
        assert self._peer is not None
        first = self._sending is None
        clock = codecs.clock_rate(codec)
        events_clock = clock if clock in remote.events else 8000
        self.codec = codec
        self.direction = allowed(remote.direction, held=self._held)
        self.ear.tune(codec)
        self._sending = Sending(
            codec=codec,
            payload_type=remote.codecs[codec],
            events=remote.events.get(events_clock),
            events_clock=events_clock,
            may_send=self.direction in ("sendrecv", "sendonly"),
            receive=remote.codecs[codec],
            receive_events=frozenset(remote.events.values()),
        )
        self._thread.call(self._peer.use, self._sending)
        if first:
            self._thread.call(self._connect, remote)

    def _connect(self, remote: RemoteAudio) -> None:
        """In the other thread: start the transport."""
        assert self._peer is not None
        self._peer.connect(
            remote.peer,
            dtls="client" if self._we_are == "client" else "server",
            done=lambda failure: self._thread.tell(self._settle, failure),
        )

    def _settle(self, failure: str) -> None:
        self._failure = failure
        self._settled.set()

    def _heard(self, payload: bytes) -> None:
        self.ear.take(payload)

    def _heard_event(self, payload: bytes, timestamp: int) -> None:
        try:
            self.ear.take_event(payload, timestamp)
        except RtpError:
            pass
