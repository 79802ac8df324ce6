"""Dialogs as the gateway stands in them: two legs, one Call-ID (RFC 3261 section 12, RFC 7092 section 3.2).

The gateway is a proxy that hides each side's topology from the other. Call-ID and tags are the same on both legs; Via,
Contact, Record-Route, the URIs in From and To, and CSeq numbers belong to a leg. The functions here carry a message
from one leg to the other: they take a message, return a new one, and change nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import attrs

from siperb_core.sip.flow import Flow
from siperb_core.sip.headers import NameAddr, parse_name_addr
from siperb_core.sip.message import Message
from siperb_core.sip.uri import parse_uri

Side = Literal["caller", "callee"]

INTERNAL_HEADERS = "x-siperb-"
"""Headers whose names begin like this (in any case) never cross the gateway."""

_PER_LEG = frozenset({"via", "record-route", "route", "proxy-authorization", "authorization"})
_PER_HOP = frozenset({"via", "record-route"})

_MOST_INVITES = 4
"""INVITEs of one dialog whose ACKs may still be under way."""


@attrs.define(eq=False)
class Leg:
    """One side of a dialog: how the gateway appears there, and how that side is reached."""

    local: NameAddr
    """Who the gateway speaks as on this leg, without tag."""
    remote: NameAddr
    """The far end's From or To, without tag."""
    contact: str
    """Our Contact on this leg: `<sip:TOKEN@host:port>`."""
    target: str = ""
    """The far end's Contact URI: the Request-URI of what we send (its remote target, section 12.1)."""
    routes: tuple[str, ...] = ()
    """The far end's Record-Route set in the order in which Route wants it."""
    offset: int = 0
    """What is added to the CSeq number of requests carried to this leg: one for every challenge answered here."""
    last_cseq: int = 0
    """The highest CSeq number sent to this leg."""
    invite_cseq: int = 0
    """The CSeq number of the last INVITE sent to this leg: its ACK has the same (section 13.2.2.4)."""
    invites: tuple[tuple[int, int], ...] = ()
    """The last INVITEs sent to this leg: the CSeq number each had where it came from, and the one it has here."""
    acked: int = 0
    """The CSeq number of the last ACK sent to this leg."""
    ack_body: bytes = b""
    """The answer that stood in it, if any."""
    flow: Flow | None = None
    address: tuple[str, str, int] | None = None
    """After a restart, until a flow is known again: transport, host and port of the flow that was."""
    tls: tuple[str, str, bool] | None = None
    """After a restart: how a TLS connection to `address` is verified (server name, trusted certificates, whether)."""
    device: str = ""
    """A softphone's leg: the device whose present flow is used when `flow` is gone."""
    instance: str = ""
    """Which of the device's instances it is (`+sip.instance`, RFC 5626 section 4.1); empty where that is not known."""
    authorization: tuple[str, str] | None = None
    """Header and value that the last INVITE was let in with; its ACK repeats it (section 22.1)."""

    def learn(self, message: Message) -> None:
        """Take the remote target from a message of the far end that refreshes it (section 12.2)."""
        contacts = message.contacts
        if contacts and contacts[0].uri != "*":
            self.target = contacts[0].uri

    def note_invite(self, asked: int, number: int) -> None:
        """An INVITE is sent to this leg, with `number` in CSeq; it came with `asked`."""
        self.invite_cseq = number
        self.invites = (*(pair for pair in self.invites if pair[0] != asked), (asked, number))[-_MOST_INVITES:]

    def number_of(self, asked: int) -> int | None:
        """The CSeq number here of the INVITE that came with `asked`; None for one that was never sent to this leg."""
        if not self.invites:
            return self.invite_cseq or None  # of before an upgrade
        return dict(self.invites).get(asked)

    def as_json(self) -> dict[str, Any]:
        """The leg as the store keeps it; the flow is written as transport, host and port."""
        flow = self.flow
        return {
            "local": str(self.local),
            "remote": str(self.remote),
            "contact": self.contact,
            "target": self.target,
            "routes": list(self.routes),
            "offset": self.offset,
            "last_cseq": self.last_cseq,
            "invite_cseq": self.invite_cseq,
            "invites": [list(pair) for pair in self.invites],
            "device": self.device,
            "instance": self.instance,
            "flow": None if flow is None else [flow.transport, *flow.remote],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Leg:
        """The leg out of `as_json`, without its flow."""
        return cls(
            local=parse_name_addr(data["local"]),
            remote=parse_name_addr(data["remote"]),
            contact=data["contact"],
            target=data["target"],
            routes=tuple(data["routes"]),
            offset=data["offset"],
            last_cseq=data["last_cseq"],
            invite_cseq=data["invite_cseq"],
            invites=tuple((asked, number) for asked, number in data.get("invites", ())),
            device=data["device"],
            instance=data.get("instance", ""),
            address=tuple(data["flow"]) if data["flow"] else None,
            tls=tuple(data["tls"]) if data.get("tls") else None,
        )


@attrs.define(eq=False)
class Dialog:
    """A dialog between two legs. A fork has one for every callee's tag, all with the same caller leg."""

    call_id: str
    caller_tag: str
    callee_tag: str
    caller: Leg
    callee: Leg
    confirmed: bool = False

    def side_of(self, request: Message) -> Side | None:
        """Which side sent this request; None when Call-ID and tags are not this dialog's (section 12.2.2)."""
        if request.call_id != self.call_id:
            return None
        tags = (request.from_tag, request.to_tag)
        if tags == (self.caller_tag, self.callee_tag):
            return "caller"
        if tags == (self.callee_tag, self.caller_tag):
            return "callee"
        return None

    def leg(self, side: Side) -> Leg:
        """The leg of that side."""
        return self.caller if side == "caller" else self.callee


def other(side: Side) -> Side:
    """The side across the gateway."""
    return "callee" if side == "caller" else "caller"


def carry_request(request: Message, to: Leg) -> Message:
    """A request of one leg as the other leg gets it; one that is to create a dialog has no To tag yet.

    The CSeq number runs ahead by the leg's offset, RAck with it. Everything not named per leg stays byte for byte.
    """
    hops = request.max_forwards
    cseq = request.cseq
    number, method = cseq.number, cseq.method
    values = {
        "from": _tagged(to.local, request.from_tag),
        "to": _tagged(to.remote, request.to_tag),
        "max-forwards": str(70 if hops is None else max(hops - 1, 0)),
    }
    if request.count("Contact"):
        values["contact"] = to.contact
    if method == "ACK":
        number = to.number_of(number) or to.invite_cseq
        if to.authorization is not None:
            header, value = to.authorization
            values[header.lower()] = value
    else:
        number += to.offset
        to.last_cseq = max(to.last_cseq, number)
        rack = request.get("RAck")
        if rack is not None and to.invite_cseq:
            values["rack"] = _rack_of(rack, to.invite_cseq)
    values["cseq"] = f"{number} {method}"
    uri, routes = routed(to)
    carried = request.edited(_PER_LEG, INTERNAL_HEADERS, values, [("route", route) for route in routes])
    carried.uri = uri
    return carried


def carry_response(response: Message, request: Message, contact: str) -> Message:
    """A response of one leg as the answer to `request`, which came in on the other leg.

    Via, From, To, CSeq and Record-Route are the request's own (section 8.2.6); the tag in To is the far end's.
    `contact` is our Contact on the leg of the request. A redirection keeps its Contacts: they are its content.
    """
    to = request.to
    values = {
        "from": request.get("From") or "",
        "to": str(to) if to.param("tag") is not None else _tagged(to, response.to_tag),
        "cseq": request.get("CSeq") or "",
    }
    in_dialog = 100 < response.status < 300
    if in_dialog and response.count("Contact"):
        values["contact"] = contact
    top = [("via", value) for value in request.get_all("Via")]
    if in_dialog:
        top += [("record-route", value) for value in request.get_all("Record-Route")]
    return response.edited(_PER_HOP, INTERNAL_HEADERS, values, top)


def own_request(method: str, dialog: Dialog, to: Side, headers: Iterable[tuple[str, str]] = ()) -> Message:
    """A request the gateway itself sends in a dialog, as if the other side had sent it: a BYE, say."""
    leg = dialog.leg(to)
    from_tag, to_tag = dialog.caller_tag, dialog.callee_tag
    if to == "caller":
        from_tag, to_tag = to_tag, from_tag
    leg.last_cseq += 1
    uri, routes = routed(leg)
    message = Message.request(
        method,
        uri,
        [
            ("Max-Forwards", "70"),
            ("From", _tagged(leg.local, from_tag)),
            ("To", _tagged(leg.remote, to_tag)),
            ("Call-ID", dialog.call_id),
            ("CSeq", f"{leg.last_cseq} {method}"),
            *headers,
        ],
    )
    for route in reversed(routes):
        message.prepend("Route", route)
    return message


def own_ack(dialog: Dialog, to: Side = "callee", number: int = 0, body: bytes = b"") -> Message:
    """The ACK of a 2xx that the gateway gives by itself, because nobody waits for that (section 13.2.2.4).

    `number` is the CSeq number of the INVITE, the last one's unless given; `body` an SDP answer.
    """
    leg = dialog.leg(to)
    from_tag, to_tag = dialog.caller_tag, dialog.callee_tag
    if to == "caller":
        from_tag, to_tag = to_tag, from_tag
    uri, routes = routed(leg)
    message = Message.request(
        "ACK",
        uri,
        [
            ("Max-Forwards", "70"),
            ("From", _tagged(leg.local, from_tag)),
            ("To", _tagged(leg.remote, to_tag)),
            ("Call-ID", dialog.call_id),
            ("CSeq", f"{number or leg.invite_cseq} ACK"),
        ],
    )
    if leg.authorization is not None:
        message.set(*leg.authorization)
    if body:
        message.set_body(body, "application/sdp")
    for route in reversed(routes):
        message.prepend("Route", route)
    return message


def routed(leg: Leg) -> tuple[str, tuple[str, ...]]:
    """Request-URI and Route headers of a request to this leg (section 12.2.1.1).

    As a rule the remote target and the route set. A first hop without `lr` is a strict router of RFC 2543, which wants
    to find itself in the Request-URI, and the target as the last Route.
    """
    routes = leg.routes
    if not routes or routes[0].endswith(";lr>"):
        return leg.target, routes
    hop = parse_uri(parse_name_addr(routes[0]).uri)
    if hop.scheme not in ("sip", "sips") or hop.param("lr") is not None:
        return leg.target, routes
    # Section 19.1.1: neither `method` nor headers may stand in a Request-URI.
    kept = tuple((name, value) for name, value in hop.params if name.lower() != "method")
    return str(hop.with_(params=kept, headers=())), (*routes[1:], f"<{leg.target}>")


def route_set(message: Message) -> tuple[str, ...]:
    """The Record-Route values of a message in their order. Raises ParseError: what is kept of them is read again with
    every request of the dialog, also where nobody is left to be told that it cannot be read.
    """
    values = tuple(message.values("Record-Route"))
    for value in values:
        parse_uri(parse_name_addr(value).uri)
    return values


def untagged(address: NameAddr) -> NameAddr:
    """A From or To without its tag and other parameters."""
    return NameAddr(address.display, address.uri)


def _tagged(address: NameAddr, tag: str) -> str:
    return f"{address};tag={tag}" if tag else str(address)


def _rack_of(value: str, invite_cseq: int) -> str:
    """RAck repeats the CSeq number of the INVITE it belongs to, which is this leg's own (RFC 3262 section 7.2)."""
    rseq, _, rest = value.partition(" ")
    number, _, method = rest.strip().partition(" ")
    return f"{rseq} {invite_cseq} {method.strip()}" if number.isdigit() and method.strip() == "INVITE" else value
