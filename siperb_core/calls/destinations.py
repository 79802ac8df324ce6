"""Where a request goes: out through one connection after the other, or to all softphones of a connection at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import structlog

from siperb_core.calls.call import CLIENT_BRANCH
from siperb_core.calls.media import is_sdp, passed_through
from siperb_core.calls.referral import refer_to_peer, refer_to_softphone
from siperb_core.calls.setup import CallSetup
from siperb_core.entries.contract import OutboundCall, OutboundLeg, Refusal, Target, WayOut
from siperb_core.entries.decisions import AnswerWith, CallAttempt, DialNumber, RingUsers
from siperb_core.entries.live import ConnectionFault, LoadedConnection
from siperb_core.entries.model import Entry
from siperb_core.entries.peer import escape_user
from siperb_core.routing import fails_over
from siperb_core.sip import Flow, Message, NameAddr, ParseError, Uri, identity, parse_uri
from siperb_core.sip.dialog import Leg, carry_request
from siperb_core.sip.proxy import MOST_REDIRECTIONS, redirections, shares_of
from siperb_core.sip.registrar import Binding
from siperb_core.sip.registration import retry_after
from siperb_core.targets import PATIENCE_SECONDS, Ways

log = structlog.get_logger()

_LONGEST_ASIDE = 300.0
"""Seconds of a Retry-After that are respected; a PBX that asks for more is tried again all the same."""

_INSIDE = "between softphones, which send media to each other"


@attrs.frozen
class Instance:
    """What a GRUU names: one softphone of a user; `reach` says where it can be reached when it is asked."""

    user: str
    reach: Callable[[], Sequence[Binding]]


class ThroughConnections:
    """A softphone's request: the first connection takes it; the others are for failover, where the entry wants that.

    A connection may lead to several destinations (RFC 3263 section 4.3): the next is tried, in a transaction of its
    own, where one stays silent, cannot be reached, or answers 503.

    For an `instance` the connections are asked as if its user had been called, and have to ring softphones.
    """

    def __init__(
        self,
        call: CallSetup,
        candidates: Sequence[LoadedConnection],
        *,
        emergency: bool = False,
        instance: Instance | None = None,
    ) -> None:
        self._call = call
        self._instance = instance
        self._candidates = deque(candidates)
        self._emergency = emergency
        self._current: Entry | None = None
        self._outbound: OutboundLeg
        self._ways = Ways(())
        self._flow: Flow | None = None
        self._contacts: deque[Uri] = deque()  # of redirections, still to be tried
        self._redirected: set[str] = set()
        self._inside = False  # other softphones ring
        self._redialled = False

    def start(self) -> None:
        """Dial through the next connection that can take the request."""
        call = self._call
        while self._candidates:
            loaded = self._candidates.popleft()
            entry = self._current = call.entry = loaded.entry
            call.record.connection = entry.name
            call.trusted = entry.trusted
            refusal = self._go(self._way_out(loaded), loaded)
            if refusal is None:
                return
            call.failed_without_branch(refusal.status, refusal.reason)
            if not self._fails_over(refusal.status):
                break
        if self._emergency:
            call.host.emergency_failed(call.record.number, call.record.user)
        call.finish()

    def _go(self, way: WayOut, loaded: LoadedConnection) -> Refusal | None:
        """Start the call on its way; None once that is done, a refusal where it cannot be."""
        call = self._call
        if self._instance is not None and not isinstance(way, RingUsers):
            return Refusal(404, "Not Found")  # a PBX decides who may call this user, or nobody may
        match way:
            case OutboundLeg():
                call.host.flows_to(way.target, partial(self._found, way))
            case RingUsers():
                return self._ring(way)
            case DialNumber():
                return self._dial_instead(way.number)
            case AnswerWith():
                flow = call.host.choices.answer(loaded.entry.name, way.endpoint, loaded.fault)
                if flow is None:
                    return Refusal(503, "Too Many Calls Are Answered Here")
                uri = f"sip:{escape_user(call.record.number)}@{call.host.domain}"
                caller = call.request.from_.uri
                self._found(OutboundLeg(Target(flow.remote[0], flow=flow), uri, caller, uri), Ways([lambda: flow]))
            case Refusal():
                return way
        return None

    def _ring(self, way: RingUsers) -> Refusal | None:
        """Other softphones: from here on it is a call to them, through no PBX."""
        call, record = self._call, self._call.record
        bindings = call.host.choices.ring(
            CallAttempt(
                call_id=record.call_id, direction="inbound", method=call.method, number=record.number,
                caller=record.caller, request=call.request, connection=record.connection, user=record.user,
                device=record.device, users=way.users,
            )
        )  # fmt: skip
        if isinstance(bindings, Refusal):
            return bindings
        if self._instance is not None:
            bindings = [binding for binding in self._instance.reach() if binding in bindings]
        if not bindings:
            return Refusal(480, "Temporarily Unavailable")
        self._candidates.clear()  # the answer of a person is the last word
        call.internal, self._inside = True, True
        ToSoftphones(call, None, bindings, connection=record.connection, caller=way).start()
        return None

    def _dial_instead(self, number: str) -> Refusal | None:
        """Route anew, once: two connections could send a call back and forth for ever."""
        call = self._call
        if self._redialled:
            return Refusal(482, "Loop Detected")
        self._redialled = True
        found = call.host.choices.connections(number, call.record.user, call.method)
        if not found:
            return Refusal(404, "No Connection Takes This Number")
        call.record.number = number
        self._candidates = deque(found)
        self.start()
        return None

    def next_after(self, response: Message, *, reached: bool) -> bool:
        """The connection's next destination, or the next connection.

        The latter is opt-in, and for failures of the connection, not for the answer of a person.
        """
        if self._inside:
            return False
        if response.status < 600 and self._follow(response):
            return True
        if not reached or response.status == 503:
            self._note_failure(response, reached)
            if self._dial_next():
                return True
        return self._next_connection(response.status)

    def _follow(self, response: Message) -> bool:
        """The next Contact of a redirection, where the entry wants them followed (section 16.7 step 4).

        Only to the connection's own host: nobody can be sent elsewhere with our credentials.
        """
        if self._current is None or self._current.redirects != "follow" or self._flow is None:
            return False
        if response.status < 400:
            found = [uri for uri in redirections(response) if self._is_home(uri)]
            for uri in found:
                if len(self._redirected) < MOST_REDIRECTIONS and str(uri) not in self._redirected:
                    self._redirected.add(str(uri))
                    self._contacts.append(uri)
            if self._contacts:
                self._call.superseded(response)
        if not self._contacts:
            return False
        uri = self._contacts.popleft().with_(headers=())
        outbound = attrs.evolve(self._outbound, request_uri=str(uri))
        if uri.port in (None, parse_uri(self._outbound.request_uri).port, self._flow.remote[1]):
            self._dial(outbound, self._flow)
            return True
        target = attrs.evolve(outbound.target, port=uri.port, flow=None)
        self._call.host.flows_to(target, partial(self._found, outbound))
        return True

    def _is_home(self, uri: Uri) -> bool:
        assert self._flow is not None
        homes = {self._outbound.target.host, parse_uri(self._outbound.request_uri).host, self._flow.remote[0]}
        return uri.host.lower() in {home.strip("[]").lower() for home in homes}

    def _note_failure(self, response: Message, reached: bool) -> None:
        if self._flow is None:
            return
        if not reached:
            self._call.host.put_aside(self._flow)
        elif (seconds := retry_after(response)) is not None:
            # A 503 without Retry-After says nothing of the next request (RFC 3261 section 21.5.4).
            self._call.host.put_aside(self._flow, min(seconds, _LONGEST_ASIDE))

    def _next_connection(self, status: int) -> bool:
        if not self._fails_over(status):
            return False
        log.info(
            "call.failover", call_id=self._call.request.call_id, connection=self._call.record.connection, status=status
        )
        self.start()
        return True

    def _fails_over(self, status: int) -> bool:
        if self._emergency:
            return status < 600  # any way that is left is better than none
        return self._current is not None and self._current.failover and fails_over(status)

    def _way_out(self, loaded: LoadedConnection) -> WayOut:
        call = self._call
        dialled = call.record.number if self._instance is None else self._instance.user
        number = loaded.entry.route.dials(dialled)
        asked = OutboundCall(number, call.method, call.record.user, call.record.device, call.request)
        try:
            return loaded.outbound_leg(asked)
        except ConnectionFault as error:
            log.info("call.fault", connection=loaded.entry.name, call_id=call.request.call_id, fault=str(error))
            return Refusal(500, "Connection Failed")
        except ParseError as error:
            return Refusal(error.status, error.reason)

    def _found(self, outbound: OutboundLeg, ways: Ways) -> None:
        call = self._call
        if call.over:
            return
        self._outbound, self._ways = outbound, ways
        try:
            if not self._dial_next():
                call.failed_without_branch(503, "PBX Not Reachable")
                if not self._next_connection(503):
                    call.finish()
        except ParseError as error:
            call.abandon(error.status, error.reason)
        except Exception:  # ours, in one call; where DNS was asked first nobody is left to catch it
            log.exception("call.not_dialled", call_id=call.request.call_id)
            call.abandon(500, "Internal Error")

    def _dial_next(self) -> bool:
        flow = self._flow = self._ways.next()
        if flow is None:
            return False
        self._dial(self._outbound, flow)
        return True

    def _dial(self, outbound: OutboundLeg, flow: Flow) -> None:
        call = self._call
        leg = Leg(
            local=NameAddr(self._display(outbound), outbound.from_uri, ()),
            remote=NameAddr("", outbound.to_uri, ()),
            contact=call.host.contact(call.token, flow),
            target=outbound.request_uri,
            routes=outbound.route,
            offset=call.next_offset,
            flow=flow,
        )
        message = carry_request(call.request, leg)
        identity.forget_assertions(message)
        if call.breadth < 1:
            call.refuse(440, "Max-Breadth Exceeded")
            return
        message.set("Max-Breadth", str(call.breadth))
        try:
            refer_to_peer(message, leg, call.host.domain, call.record.device, call.peer_target)
        except ParseError as error:
            call.refuse(error.status, error.reason)
            return
        for header, value in outbound.headers:
            message.set(header, value)
        trusted = self._current is not None and self._current.trusted
        leg.local = identity.name_caller(message, leg.local, call.request, trusted=trusted)
        message.set("From", str(leg.local.with_param("tag", call.request.from_tag)))
        if call.open_media(call.caller.flow, flow) and call.map_offer(message, "client", CLIENT_BRANCH):
            others = self._ways.more or (self._candidates and self._fails_over(408))
            call.start_branch(leg, flow, message, patience=PATIENCE_SECONDS if others else None)

    def _display(self, outbound: OutboundLeg) -> str:
        """The caller's name: the connection's, where it has one, else the one its type gives."""
        return (self._current.display_name if self._current is not None else "") or outbound.from_display


class ToSoftphones:
    """A PBX's request: all contacts of the connection's users ring at once.

    Without entry it is a softphone's request for another: no PBX has a part in it, and no media are bridged.
    """

    def __init__(
        self,
        call: CallSetup,
        entry: Entry | None,
        bindings: Sequence[Binding],
        *,
        connection: str = "",
        caller: RingUsers | None = None,
    ) -> None:
        """`connection` is to be shown where there is no entry, `caller` who is to be seen calling."""
        call.entry = entry
        call.record.connection = connection if entry is None else entry.name
        self._call = call
        self._caller = caller
        self._trusted = call.trusted = entry is not None and entry.trusted
        self._reachable = [(binding, binding.flow) for binding in bindings if binding.flow is not None]

    def start(self) -> None:
        """Ring them, each with an offer of its own."""
        call = self._call
        if not self._reachable:
            call.refuse(480, "Temporarily Unavailable")
            return
        breadths = shares_of(call.breadth, len(self._reachable))
        if breadths is None:
            call.refuse(440, "Max-Breadth Exceeded")
            return
        if not call.open_media(self._reachable[0][1], call.caller.flow):
            return
        if call.entry is None and call.method == "INVITE":
            call.record.media = passed_through(_INSIDE, call.request.body if is_sdp(call.request) else b"")
        # All at once: one that fails while it is being sent is not to be taken for the last.
        call.expect_branches(f"{number}" for number in range(len(self._reachable)))
        for number, (binding, flow) in enumerate(self._reachable):
            leg = self._leg(binding, flow)
            message = carry_request(call.request, leg)
            message.set("Max-Breadth", str(breadths[number]))
            leg.local = identity.pass_caller(message, leg.local, call.request, trusted=self._trusted)
            tag = call.request.from_tag  # none where the caller speaks RFC 2543: an empty one breaks the grammar
            message.set("From", str(leg.local.with_param("tag", tag) if tag else leg.local))
            refer_to_softphone(message, call.host.domain)
            if call.over or not call.map_offer(message, "peer", f"{number}"):
                return
            call.start_branch(leg, flow, message, f"{number}")

    def next_after(self, response: Message, *, reached: bool) -> bool:
        """There is nobody else to ring."""
        return False

    def _leg(self, binding: Binding, flow: Flow) -> Leg:
        call = self._call
        caller, domain = call.request.from_, call.host.domain
        display, user = caller.display, caller.parsed_uri.user or "anonymous"
        if self._caller is not None:
            display, user = self._caller.display or display, escape_user(self._caller.caller) or user
        return Leg(
            local=NameAddr(display, f"sip:{user}@{domain}", ()),
            remote=NameAddr("", f"sip:{binding.aor}@{domain}", ()),
            contact=call.host.contact(call.token, flow),
            target=binding.contact,
            routes=binding.path,
            flow=flow,
            device=binding.aor,
            instance=binding.instance,
        )
