"""A WebRTC softphone without a browser: SIP over a real WebSocket (RFC 7118), Opus over real ICE and DTLS-SRTP.

async with open_softphone("ws://127.0.0.1:8088/ws", "alice", "example.net", "secret") as phone:
    call = await phone.call("601")
    await call.answered()
    assert (await call.listen()).is_tone(1000)
"""

from __future__ import annotations

import ssl
import uuid
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import attrs
import trio
import trio_websocket
from aiortc.rtcdtlstransport import RTCCertificate

from siperb_core.sip import Message, NameAddr, ParseError, parse_uri, response_to
from siperb_core.sip.transaction import ServerTransaction
from siperb_core.testing.audible import AudibleCall
from siperb_core.testing.registering import Registration
from siperb_core.testing.session import CallFailed, Direction
from siperb_core.testing.softphone_media import SoftphoneMedia
from siperb_core.testing.softphone_peer import AsyncioThread
from siperb_core.testing.user_agent import ALLOW, Credentials, UserAgent, background, token

_QUEUE = 256  # messages waiting for the WebSocket
_KEPT = 1000
_MOST_CALLS = 50
_CLOSING = 5.0  # seconds


class WebSocketFlow:
    """The phone's end of its WebSocket, as a flow."""

    reliable = True

    def __init__(self, transport: str, remote: tuple[str, int], host: str) -> None:
        self.transport = transport
        self.remote = remote
        self.local = ("0.0.0.0", 0)
        self.sent_by = host
        """A name that leads nowhere: a browser is reached over its own connection only (RFC 7118 section 5.1)."""
        self._outgoing, self.queue = trio.open_memory_channel[bytes](_QUEUE)

    def send(self, data: bytes) -> None:
        try:
            self._outgoing.send_nowait(data)
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError) as error:
            raise OSError("the WebSocket is closed, or too slow") from error

    def close(self) -> None:
        """Nothing can be sent any more."""
        self._outgoing.close()


@attrs.frozen(kw_only=True)
class SoftphoneSettings:
    """What kind of softphone to be."""

    url: str
    device: str
    domain: str
    password: str = attrs.field(repr=False)
    codecs: tuple[str, ...] = ("opus",)
    """In order of preference: opus, G722, PCMA, PCMU."""
    addresses: tuple[str, ...] = ("127.0.0.1",)
    """Of the ICE candidates."""
    expires: int = 300
    origin: str = ""
    """The Origin header; none where it is empty, as from anything but a browser."""
    ssl_context: ssl.SSLContext | None = None
    instance: str = attrs.field(factory=lambda: f"urn:uuid:{uuid.uuid4()}")
    """The device for good (RFC 5626): the same after a reload."""
    tone_hz: int | None = 440
    """What is said in a call until `play` says otherwise; None: silence."""
    answers: bool = False
    """Whether incoming calls are answered at once."""


class PhoneCall(AudibleCall):
    """A call of the softphone."""

    media: SoftphoneMedia

    async def connected(self) -> None:
        """Wait until audio can flow: ICE and DTLS are through. Raises MediaFailed."""
        await self.media.connected()


class Softphone:
    """A running softphone. It is a `siperb_core.testing.user_agent.Handler`."""

    def __init__(self, settings: SoftphoneSettings) -> None:
        self.settings = settings
        self.agent = UserAgent("test softphone", self, lambda uri, flow: self.flow)
        self.calls: deque[PhoneCall] = deque(maxlen=_KEPT)
        """All calls, running and past, in the order they began."""
        self.messages: deque[Message] = deque(maxlen=_KEPT)
        """MESSAGE and NOTIFY requests outside calls that came in."""
        self.disconnected = trio.Event()
        """The WebSocket has ended."""
        self.registration: Registration | None = None
        self._user = token()
        self._host = f"{token()}.invalid"
        self._credentials = Credentials(settings.device, settings.password)
        self._certificate = RTCCertificate.generateCertificate()
        self._thread: AsyncioThread | None = None
        self._flow: WebSocketFlow | None = None
        self._news = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[Softphone] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect and serve until cancelled. Raises OSError or trio_websocket's HandshakeError."""
        async with self._opened() as websocket:
            self._thread = AsyncioThread()
            try:
                async with trio.open_nursery() as calls:
                    calls.start_soon(self._read, websocket, self.flow)
                    calls.start_soon(self._write, websocket, self.flow)
                    await calls.start(self.agent.run)
                    task_status.started(self)
            finally:
                # After the calls, whose media needs it to close.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSING):
                    await self._thread.close()

    async def reconnect(self, *, register: bool = True) -> None:
        """Open another WebSocket in place of one that has ended, as a browser does; running calls go on over it.

        Raises CallFailed when the registration is refused, and as `run` does.
        """
        await self.agent.nursery.start(self._serve_another)
        if register:
            self.registration = None
            registration = await self.register()
            if registration.status != 200:
                raise CallFailed(registration.status, registration.reason, registration.response)

    async def _serve_another(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with self._opened() as websocket, trio.open_nursery() as nursery:
            nursery.start_soon(self._read, websocket, self.flow)
            nursery.start_soon(self._write, websocket, self.flow)
            task_status.started()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[trio_websocket.WebSocketConnection]:
        """A WebSocket to the gateway, which `flow` is from now on."""
        settings = self.settings
        url = urlsplit(settings.url)
        secure = url.scheme == "wss"
        host, port = url.hostname or "", url.port or (443 if secure else 80)
        tcp = await trio.open_tcp_stream(host, port)
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = tcp
        if secure:
            context = settings.ssl_context or ssl.create_default_context()
            stream = trio.SSLStream(tcp, context, server_hostname=host, https_compatible=True)
        # The connection is closed here in any case: a WebSocket cancelled in the middle of closing would leave it open.
        async with stream, trio.open_nursery() as nursery:
            websocket = await trio_websocket.wrap_client_stream(
                nursery,
                stream,
                url.netloc,
                url.path or "/",
                subprotocols=["sip"],
                extra_headers=[(b"Origin", settings.origin.encode())] if settings.origin else [],
                message_queue_size=64,
            )
            self._flow = WebSocketFlow(url.scheme, tcp.socket.getpeername()[:2], self._host)
            self.disconnected = trio.Event()
            yield websocket

    async def close(self) -> None:
        """Hang up all calls and close the WebSocket in good order."""
        for call in list(self.agent.calls.values()):
            call.abandon()
        self.flow.close()
        with trio.move_on_after(_CLOSING):
            await self.disconnected.wait()

    async def _read(self, websocket: trio_websocket.WebSocketConnection, flow: WebSocketFlow) -> None:
        try:
            while True:
                data = await websocket.get_message()
                self.agent.received(data.encode() if isinstance(data, str) else data, flow)
        except trio_websocket.ConnectionClosed:
            pass
        flow.close()
        self.disconnected.set()
        self.agent.closed(flow, "the WebSocket was closed")

    async def _write(self, websocket: trio_websocket.WebSocketConnection, flow: WebSocketFlow) -> None:
        try:
            async for data in flow.queue:
                try:
                    await websocket.send_message(data.decode())
                except UnicodeDecodeError:
                    await websocket.send_message(data)
            await websocket.aclose()
        except trio_websocket.ConnectionClosed:
            flow.close()

    @property
    def flow(self) -> WebSocketFlow:
        """The WebSocket. Raises RuntimeError when the phone does not run."""
        if self._flow is None:
            raise RuntimeError("the softphone does not run")
        return self._flow

    @property
    def contact(self) -> str:
        """Our Contact, as JsSIP writes it."""
        return f"<sip:{self._user}@{self._host};transport=ws>"

    async def register(self, expires: int | None = None) -> Registration:
        """Register and stay registered; the outcome is in the registration's `status`."""
        settings = self.settings
        contact = f'{self.contact};+sip.instance="<{settings.instance}>";reg-id=1'
        registration = Registration(self.agent, self.flow, self._credentials, settings.domain, contact)
        await registration.register(settings.expires if expires is None else expires)
        if self.registration is None:
            self.agent.nursery.start_soon(registration.keep)
        self.registration = registration
        return registration

    async def call(
        self, number: str, *, play_hz: int | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> PhoneCall:
        """Call a number of the domain, or a SIP URI; returns when the INVITE is out: see `PhoneCall.answered`."""
        domain = self.settings.domain
        uri = number if number.startswith(("sip:", "sips:")) else f"sip:{number}@{domain}"
        call = self._new_call(
            direction="outgoing",
            local=NameAddr("", f"sip:{self.settings.device}@{domain}"),
            remote=NameAddr("", uri),
            call_id=token(),
        )
        if play_hz is not None:
            call.play(play_hz)
        await call.begin_outgoing(uri, [("Supported", "outbound"), *headers])
        return call

    async def next_call(self) -> PhoneCall:
        """Wait for the next call that comes in. It rings already: `accept` or `reject` it."""
        while True:
            known = len(self.calls)
            await self._news.wait()
            new = list(self.calls)[known:]
            if new:
                return new[0]

    async def request(
        self, method: str, number: str, headers: Sequence[tuple[str, str]] = (), body: str = ""
    ) -> Message:
        """Send a request outside any call (MESSAGE, SUBSCRIBE, OPTIONS ...) and give its final response."""
        domain = self.settings.domain
        address = NameAddr("", f"sip:{self.settings.device}@{domain}")
        uri = number if number.startswith(("sip:", "sips:")) else f"sip:{number}@{domain}"
        fields = [
            ("Max-Forwards", "70"),
            ("From", str(address.with_param("tag", token()))),
            ("To", str(NameAddr("", uri))),
            ("Call-ID", token()),
            ("CSeq", f"1 {method}"),
            ("Contact", self.contact),
        ]
        request = Message.request(method, uri, [*fields, *headers], body.encode())
        return await self.agent.request(request, self.flow, self._credentials)

    # Handler

    def on_invite(self, transaction: ServerTransaction, invite: Message) -> None:
        """It rings."""
        try:
            parse_uri(invite.uri)
            local, remote = invite.to, invite.from_.without_param("tag")
        except ParseError:
            self.agent.respond(transaction, response_to(invite, 400, to_tag=token()))
            return
        if len(self.agent.calls) >= _MOST_CALLS:
            self.agent.respond(transaction, response_to(invite, 486, to_tag=token()))
            return
        call = self._new_call(direction="incoming", local=local, remote=remote, call_id=invite.call_id)
        call.begin_incoming(transaction, invite)
        call.ring()
        if self.settings.answers:
            self.agent.nursery.start_soon(call.accept)

    def on_request(self, transaction: ServerTransaction, request: Message) -> None:
        """Anything outside a call."""
        if request.method in ("MESSAGE", "NOTIFY"):
            self.messages.append(request)
        status = 200 if request.method in ("MESSAGE", "NOTIFY", "OPTIONS") else 405
        self.agent.respond(transaction, response_to(request, status, to_tag=token(), headers=[("Allow", ALLOW)]))

    def _new_call(self, *, direction: Direction, local: NameAddr, remote: NameAddr, call_id: str) -> PhoneCall:
        if self._thread is None:
            raise RuntimeError("the softphone does not run")
        settings = self.settings
        media = SoftphoneMedia(self._thread, self._certificate, settings.addresses, settings.codecs)
        call = PhoneCall(
            self.agent,
            media,
            direction=direction,
            flow=self.flow,
            contact=f"{self.contact[:-1]};ob>",
            local=local,
            remote=remote,
            call_id=call_id,
            credentials=self._credentials,
        )
        if settings.tone_hz is not None:
            call.play(settings.tone_hz)
        self.calls.append(call)
        self._news.set()
        self._news = trio.Event()
        return call


@asynccontextmanager
async def open_softphone(
    url: str, device: str, domain: str, password: str, *, register: bool = True, **settings: Any
) -> AsyncIterator[Softphone]:
    """A softphone that runs as long as the context, registered unless told otherwise.

    `settings` are fields of `SoftphoneSettings`. Raises CallFailed when the registration is refused.
    """
    phone = Softphone(SoftphoneSettings(url=url, device=device, domain=domain, password=password, **settings))
    async with background() as nursery:
        await nursery.start(phone.run)
        if register:
            registration = await phone.register()
            if registration.status != 200:
                raise CallFailed(registration.status, registration.reason, registration.response)
        yield phone
        await phone.close()
