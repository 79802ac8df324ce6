"""Our end of the wire while the doctor looks: sockets of its own, beside those of the gateway that may run."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import dns.asyncresolver
import dns.exception
import trio

from siperb_core.entries.contract import ConnectionNotReady, Target
from siperb_core.entries.model import GatewayConfig, Listen
from siperb_core.plugins import Plugins
from siperb_core.sip import Flow, Message, response_to
from siperb_core.sip.headers import Via
from siperb_core.sip.transaction import ClientTransaction, ServerTransaction
from siperb_core.targets import Targets, ended
from siperb_core.testing.user_agent import ALLOW, UserAgent, background, token
from siperb_core.transport.contract import Listener
from siperb_core.transport.resolver import Resolver

if TYPE_CHECKING:
    from siperb_core.media.contract import TranscoderType
    from siperb_core.testing.softphone_media import SoftphoneMedia
    from siperb_core.testing.softphone_peer import AsyncioThread

ANSWER_SECONDS = 8.0
"""A PBX that has not answered by then is not going to: UDP repeats a request four times before."""
_KEPT = 100
_CLOSING = 5.0


class Asked:
    """Asks DNS (`siperb_core.transport.resolver.Lookup`), and remembers what was asked and what came back."""

    def __init__(self) -> None:
        self.answers: list[str] = []

    async def resolve(self, qname: str, rdtype: str, *, lifetime: float, search: bool) -> Any:
        """As dnspython's resolver."""
        try:
            answer = await dns.asyncresolver.Resolver().resolve(qname, rdtype, lifetime=lifetime, search=search)
        except dns.exception.DNSException as error:
            self._note(f"{rdtype} {qname}: {type(error).__name__}")
            raise
        self._note(f"{rdtype} {qname}: " + ", ".join(str(record) for record in list(answer)[:4]))
        return answer

    def _note(self, text: str) -> None:
        if len(self.answers) < _KEPT:
            self.answers.append(" ".join(text.split())[:300])


class Answer:
    """What became of one request: the user of its transaction."""

    def __init__(self) -> None:
        self.response: Message | None = None
        self.via: Via | None = None
        self.done = trio.Event()

    def on_response(self, transaction: ClientTransaction, response: Message) -> None:
        """Keep the final one; a 408 or 503 of the transaction itself has no Call-ID."""
        if response.status >= 200 and not self.done.is_set():
            if response.get("Call-ID") is not None:
                self.response, self.via = response, transaction.via
            self.done.set()


class OurEnd:
    """Sends as the gateway would. It is an `entries.outside.Outside`, so that a connection type's own `probe` runs on
    it.
    """

    def __init__(
        self, config: GatewayConfig, plugins: Plugins, nursery: trio.Nursery, resolver: Resolver | None
    ) -> None:
        self.domain = config.gateway.domain
        self.asked = Asked()
        self.resolver = resolver or Resolver(random.random, self.asked)
        external = config.gateway.external_address
        self.external = None if external == "auto" else external
        self.agent = UserAgent("siperb doctor", self, lambda uri, fallback: fallback)
        self.heard: list[tuple[Message, Flow, Via | None]] = []
        """Final responses, in order."""
        self.memories: dict[str, MutableMapping[str, Any]] = {}
        self._thread: AsyncioThread | None = None
        self._config = config
        self._plugins = plugins
        self._nursery = nursery
        self._listeners: dict[str, list[Listener]] = {}
        self.targets = Targets(self.resolver, self._listeners, self._listen)

    async def open(self) -> None:
        """Have a UDP socket on each address the gateway has one on, so that the PBX sees the address it knows."""
        hosts = {listen.bind[0] for listen in self._config.listen if listen.transport == "udp"} or {"0.0.0.0"}
        for host in sorted(hosts):
            try:
                await self._listen(Listen("udp", (host, 0)))
            except OSError:  # told as a finding about that port; what can be looked at from elsewhere is
                await self._listen(Listen("udp", ("::" if ":" in host else "0.0.0.0", 0)))

    @property
    def transcoders(self) -> Sequence[TranscoderType]:
        """Those of the plugins."""
        return self._plugins.transcoders

    def softphone_media(self, address: str, codecs: tuple[str, ...]) -> SoftphoneMedia:
        """Media as a softphone has them: ICE, DTLS-SRTP."""
        # Not at the top: ICE and DTLS take half a second to import.
        from aiortc.rtcdtlstransport import RTCCertificate

        from siperb_core.testing.softphone_media import SoftphoneMedia
        from siperb_core.testing.softphone_peer import AsyncioThread

        if self._thread is None:
            self._thread = AsyncioThread()
        return SoftphoneMedia(self._thread, RTCCertificate.generateCertificate(), [address], codecs)

    async def close(self) -> None:
        """After the calls, whose media needs its thread to close."""
        if self._thread is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSING):
                await self._thread.close()

    async def _listen(self, listen: Listen) -> Listener:
        transport = self._plugins.transports[listen.transport]
        start = partial(transport.listen, listen, self.agent, external_address=self.external)
        listener: Listener = await self._nursery.start(start)
        self._listeners.setdefault(listen.transport, []).append(listener)
        return listener

    # ---- entries.outside.Outside

    async def request(self, message: Message, target: Target) -> Message:
        """Send a request to the first destination that answers. Raises ConnectionNotReady."""
        if message.max_forwards is None:
            message.set("Max-Forwards", "70")
        ways = await self.targets.find(target)
        reason = f"no way to {target.host} by {target.transport}"
        while (flow := ways.next()) is not None:
            answer = Answer()
            with trio.move_on_after(ANSWER_SECONDS):
                self.agent.start(message.copy(), flow, answer)
                await answer.done.wait()
            if answer.response is not None:
                self.targets.answered(target, flow)
                if answer.via is not None:
                    self.targets.seen_as(flow, answer.via)
                self.heard.append((answer.response, flow, answer.via))
                return answer.response
            reason = ended(flow) or f"no answer within {ANSWER_SECONDS:g} s from {flow.remote[0]} port {flow.remote[1]}"
            self.targets.put_aside(flow)
        raise ConnectionNotReady(reason)

    async def contact_uri(self, entry: str, target: Target) -> str:
        """An address of ours; nothing is ever registered with it."""
        flow = await self.targets.first(target)
        parameter = "" if flow.transport == "udp" else f";transport={flow.transport}"
        return f"sip:doctor@{self.targets.address_on(flow)}{parameter}"

    async def keep_alive(self, target: Target, interval: float) -> None:
        """Nothing lasts that long here."""
        await trio.sleep_forever()

    def memory(self, entry: str) -> MutableMapping[str, Any]:
        """A copy of what the gateway has told of its own; nothing is remembered here."""
        return self.memories.setdefault(entry, {})

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def random_token(self, octets: int = 12) -> str:
        """Random letters and digits."""
        return secrets.token_hex(octets)

    # ---- testing.user_agent.Handler

    def on_invite(self, transaction: ServerTransaction, invite: Message) -> None:
        """Nobody is here to be called."""
        self.agent.respond(transaction, response_to(invite, 480, to_tag=token()))

    def on_request(self, transaction: ServerTransaction, request: Message) -> None:
        """A PBX that looks whether we are there finds us."""
        status = 200 if request.method == "OPTIONS" else 405
        self.agent.respond(transaction, response_to(request, status, to_tag=token(), headers=[("Allow", ALLOW)]))


@asynccontextmanager
async def open_our_end(
    config: GatewayConfig, plugins: Plugins, *, resolver: Resolver | None = None
) -> AsyncIterator[OurEnd]:
    """Our end, as long as the block lasts. Raises OSError where no socket can be had."""
    end: OurEnd | None = None
    try:
        async with background() as nursery:
            end = OurEnd(config, plugins, nursery, resolver)
            await nursery.start(end.agent.run)
            await end.open()
            yield end
    finally:
        if end is not None:
            await end.close()
