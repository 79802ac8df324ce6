"""How a target becomes a flow: resolver, listeners, and destinations that are dead put aside (RFC 3263).

A name leads to several destinations, tried one after the other; whoever sends says which have failed, and those are
left out for a while. Requests inside a dialog do not come here for a choice: they stay with the destination that
answered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog
import trio

from siperb_core.entries.contract import ConnectionNotReady, Target
from siperb_core.entries.model import Listen
from siperb_core.sip import KEEPALIVE, Flow, Message
from siperb_core.sip.dialog import Leg
from siperb_core.sip.headers import Via
from siperb_core.sip.transaction import ClientTransaction
from siperb_core.transport.address import host_port, literal
from siperb_core.transport.contract import Listener, TlsOptions
from siperb_core.transport.resolver import AUTO, DEFAULT_PORT, Destination, ResolveError, Resolver
from siperb_core.transport.stream import StreamFlow

log = structlog.get_logger()

PATIENCE_SECONDS = 4.0
"""How long a destination may stay silent before the next one is tried; the last one has the RFC's 32 s."""
ASIDE_SECONDS = 45.0
"""How long a destination that did not answer is left out, unless all are."""
NO_STREAM_SECONDS = 600.0
"""How long large requests go by UDP again where TCP was tried and did not work."""
_MOST_REMEMBERED = 4096

K = TypeVar("K")
V = TypeVar("V")


class Ways:
    """The destinations of one target in the order to try; a connection is opened only when its turn has come."""

    def __init__(self, openers: Sequence[Callable[[], Flow | None]]) -> None:
        self._openers = list(reversed(openers))

    @property
    def more(self) -> bool:
        """Whether there is another destination."""
        return bool(self._openers)

    def next(self) -> Flow | None:
        """The flow to the next destination; None when none is left."""
        while self._openers:
            flow = self._openers.pop()()
            if flow is not None:
                return flow
        return None


class Targets:
    """Finds flows. Nothing here waits but `find`."""

    def __init__(
        self,
        resolver: Resolver,
        listeners: dict[str, list[Listener]],
        listen: Callable[[Listen], Awaitable[Listener]],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._resolver = resolver
        self._listeners = listeners
        self._listen = listen
        self._clock = clock
        self._opening = trio.Lock()
        self._aside: OrderedDict[Destination, float] = OrderedDict()
        self._no_stream: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._answered: OrderedDict[Target, Flow] = OrderedDict()
        self._seen: OrderedDict[Flow, str] = OrderedDict()
        self._peers: OrderedDict[str, None] = OrderedDict()
        self._led_to: OrderedDict[str, frozenset[str]] = OrderedDict()

    # ---- destinations

    def at_once(self, target: Target) -> Ways | None:
        """The ways to a target that need not be looked up: an open flow, or an address; None for all others.

        A flow that has ended is as good as none: then host and port count.
        """
        flow = target.flow
        if flow is not None and not ended(flow):
            _remember(self._peers, flow.remote[0], None)
            return Ways([lambda: flow])
        transport = "udp" if target.transport == AUTO else target.transport
        if not is_address(target.host) or self._listener(transport, target.host) is None:
            return None
        port = target.port or DEFAULT_PORT[transport]
        return self._ways([(literal(target.host).compressed, port, transport)], tls_options(target))

    async def find(self, target: Target) -> Ways:
        """The ways to a target, of which there is at least one. Raises ConnectionNotReady."""
        ways = self.at_once(target)
        if ways is None:
            try:
                found = await self._resolver.resolve(target.host, target.port, target.transport)
            except ResolveError as error:
                raise ConnectionNotReady(f"{target.host} cannot be resolved: {error}") from None
            reachable = [destination for destination in found if await self._can_reach(destination)]
            if not reachable:
                by = ", ".join(dict.fromkeys(transport for _, _, transport in found))
                raise ConnectionNotReady(f"no way to {target.host} by {by}")
            ways = self._ways(reachable, tls_options(target))
            _remember(self._led_to, target.host.lower(), frozenset(host for host, _, _ in found))
        return ways

    async def first(self, target: Target) -> Flow:
        """The flow a request to this target would take now: the one that answered last, else the first choice.

        Raises ConnectionNotReady.
        """
        known = self._answered.get(target)
        if known is not None and not ended(known):
            return known
        flow = (await self.find(target)).next()
        if flow is None:
            raise ConnectionNotReady(f"no way to {target.host} by {target.transport}")
        return flow

    def _ways(self, destinations: Sequence[Destination], tls: TlsOptions | None) -> Ways:
        now = self._clock()
        for host, _, _ in destinations:
            _remember(self._peers, host, None)
        alive = [destination for destination in destinations if self._aside.get(destination, 0.0) <= now]
        return Ways([partial(self._open, *destination, tls) for destination in alive or destinations])

    def _open(self, host: str, port: int, transport: str, tls: TlsOptions | None) -> Flow | None:
        listener = self._listener(transport, host)
        if listener is None:
            return None
        try:
            return listener.flow_to(host, port, tls if transport == "tls" else None)
        except (OSError, ValueError) as error:
            log.warning("target.not_opened", host=host, transport=transport, reason=str(error))
            return None

    def _listener(self, transport: str, host: str) -> Listener | None:
        """The socket this address is reached from; where several are, one that is not bound to loopback alone."""
        remote = literal(host)
        fitting = [
            listener
            for listener in self._listeners.get(transport, ())
            if (":" in listener.local[0]) == (remote.version == 6)
        ]
        for listener in fitting:
            bound = literal(listener.local[0])
            if bound.is_unspecified or bound.is_loopback == remote.is_loopback:
                return listener
        return fitting[0] if fitting else None

    async def _can_reach(self, destination: Destination) -> bool:
        """A transport nobody listens on is opened on any free port the first time something goes out by it."""
        host, _, transport = destination
        async with self._opening:
            if self._listener(transport, host) is None:
                v6 = ":" in host
                beside = self._listener("udp", host)
                bound = beside.local[0] if beside is not None else "::" if v6 else "0.0.0.0"
                try:
                    await self._listen(Listen(transport, (bound, 0)))
                except OSError as error:
                    log.warning("target.no_listener", host=host, transport=transport, reason=str(error))
                    return False
        return True

    # ---- what became of them

    def answered(self, target: Target, flow: Flow) -> None:
        """A request to this target was answered over this flow."""
        if target.flow is None:
            _remember(self._answered, target, flow)
        self._aside.pop((*flow.remote, flow.transport), None)

    def answered_by(self, target: Target) -> Flow | None:
        """The flow over which a request to this target was answered last."""
        return self._answered.get(target)

    def put_aside(self, flow: Flow, seconds: float = ASIDE_SECONDS) -> None:
        """A destination did not answer, or asked to be left alone (503 with Retry-After)."""
        log.warning("target.put_aside", host=flow.remote[0], transport=flow.transport, seconds=seconds)
        _remember(self._aside, (*flow.remote, flow.transport), self._clock() + seconds)

    def is_aside(self, destination: Destination) -> bool:
        """Whether a destination did not answer a short while ago."""
        return self._aside.get(destination, 0.0) > self._clock()

    def led_to(self, name: str) -> frozenset[str]:
        """The addresses a configured server's name stood for when it was looked up last; an address is its own."""
        if is_address(name):
            return frozenset((literal(name).compressed,))
        return self._led_to.get(name.lower(), frozenset())

    async def make_reachable(self, destinations: Sequence[Destination]) -> None:
        """See to it that these can be opened: a transport nobody listens on is opened on any free port."""
        for destination in destinations:
            await self._can_reach(destination)

    def open(self, destination: Destination, tls: TlsOptions) -> Flow | None:
        """The flow to a destination, verified like this where it is TLS; None where there is no way."""
        return self._open(*destination, tls)

    def is_peer(self, flow: Flow) -> bool:
        """Whether the other end is one of the addresses that requests of ours are sent to."""
        return flow.remote[0] in self._peers

    # ---- large requests (RFC 3261 section 18.1.1)

    def stream_beside(self, flow: Flow) -> Flow | None:
        """A TCP connection to where this UDP flow leads, for what is too large for a datagram."""
        if self._no_stream.get(flow.remote, 0.0) > self._clock():
            return None
        return self._open(*flow.remote, "tcp", None)

    def no_stream(self, flow: Flow) -> None:
        """TCP does not work there: use UDP for a while."""
        log.info("target.no_tcp", host=flow.remote[0], seconds=NO_STREAM_SECONDS)
        _remember(self._no_stream, flow.remote, self._clock() + NO_STREAM_SECONDS)

    # ---- requests in dialogs

    def reopened(self, leg: Leg) -> Flow | None:
        """The flow to the destination of a dialog's leg; a connection that has ended is opened anew where that was
        ours. Where the dialog's next hop is another one, `siperb_core.hops` knows.
        """
        flow = leg.flow
        if flow is None:
            if leg.address is None:
                return None
            transport, host, port = leg.address
            return self._open(host, port, transport, None if leg.tls is None else TlsOptions(*leg.tls))
        if not isinstance(flow, StreamFlow) or flow.ended is None:
            return flow
        # What the peer had opened itself cannot be opened by us: nobody listens on the port it came from.
        return self._open(*flow.remote, flow.transport, flow.tls) if flow.outgoing else None

    def tls_of(self, leg: Leg) -> tuple[str, str, bool] | None:
        """With what a TLS connection to this leg is verified: server name, file of trusted certificates, whether."""
        flow = leg.flow
        if isinstance(flow, StreamFlow) and flow.tls is not None:
            return (flow.tls.server_name, flow.tls.ca, flow.tls.verify)
        return leg.tls

    async def keep_alive(self, target: Target, interval: float, closed: Callable[[Flow], Awaitable[None]]) -> None:
        """Keep the path to a target open; see `EntryContext.keep_alive`. `closed` waits for the end of a flow."""
        flow = self._answered.get(target) or await self.first(target)
        if ended(flow):
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ping, flow, interval)
            if isinstance(flow, StreamFlow):
                await closed(flow)
                nursery.cancel_scope.cancel()

    # ---- how we are seen (RFC 3581)

    def seen_as(self, flow: Flow, via: Via) -> None:
        """A response's topmost Via says from where our request came: behind NAT not from our own address."""
        received, rport = via.param("received"), via.param("rport") or ""
        own_host, own_port = flow.local
        host = received or via.host.strip("[]")
        port = int(rport) if rport.isascii() and rport.isdigit() and 0 < int(rport[:6]) < 65536 else own_port
        # A connection's own port is never the one we listen on: only another host tells of a NAT there.
        behind_nat = is_address(host) and (host != own_host or (flow.transport == "udp" and port != own_port))
        if behind_nat:
            _remember(self._seen, flow, host_port(host, port))
        else:
            self._seen.pop(flow, None)

    def address_on(self, flow: Flow) -> str:
        """Our `host:port` as the peer sees it, as far as it has told."""
        return self._seen.get(flow) or flow.sent_by


class Awaited:
    """A request outside any dialog that somebody waits for, at one destination."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.response: Message | None = None
        self.via: Via | None = None
        self.status = 408

    def on_response(self, transaction: ClientTransaction, response: Message) -> None:
        """Keep the final one."""
        if response.status >= 200 and not self.done.is_set():
            self.response, self.via = response, transaction.via
            self.done.set()

    def on_failure(self, transaction: ClientTransaction, status: int) -> None:
        """No response will come."""
        self.status = status
        self.done.set()

    def on_silence(self, transaction: ClientTransaction) -> None:
        """Not waited for any longer; what still comes is of no use."""
        self.done.set()


def tls_options(target: Target) -> TlsOptions | None:
    """How the connection to a target is to be secured: its certificate has to be for the name that was configured,
    wherever DNS led (RFC 5922 section 4). None where TLS is out of the question.
    """
    if target.transport not in ("tls", AUTO):
        return None
    return TlsOptions(server_name=target.host, ca=target.ca, verify=target.verify)


def ended(flow: Flow) -> str:
    """Why a connection has ended; empty while it lasts, and for what is no connection."""
    return (flow.ended or "") if isinstance(flow, StreamFlow) else ""


async def _ping(flow: Flow, interval: float) -> None:
    """Two line ends every so often (RFC 5626 section 3.5.1, 4.4.1): whoever forgets idle paths sees one in use."""
    while True:
        await trio.sleep(interval)
        try:
            flow.send(KEEPALIVE)
        except OSError as error:
            log.debug("target.keepalive_failed", host=flow.remote[0], reason=str(error))


def is_address(host: str) -> bool:
    """Whether a host is a literal address."""
    try:
        literal(host)
    except ValueError:
        return False
    return True


def _remember(memory: OrderedDict[K, V], key: K, value: V) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _MOST_REMEMBERED:
        memory.popitem(last=False)


__all__ = ["ASIDE_SECONDS", "PATIENCE_SECONDS", "Awaited", "Targets", "Ways", "ended", "is_address", "tls_options"]
