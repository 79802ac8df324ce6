"""The settings and addresses of a PBX at a fixed place: what connection types that dial out to a server have in
common.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import attrs

from siperb_core.entries import fields
from siperb_core.entries.contract import Credentials, OutboundCall, OutboundLeg, Target
from siperb_core.entries.model import Secret
from siperb_core.sip import ParseError, parse_name_addr

_USER_UNRESERVED = "-_.!~*'()&=+$,;?/"
"""What may stand in a user part as it is, beside letters and digits (RFC 3261 section 25.1)."""


def _proxy(instance: object, attribute: object, value: str) -> None:
    if value and proxy_address(value) is None:
        raise ValueError(f'"{value[:70]}" is not a proxy: write host or host:port')


def proxy_address(value: str) -> tuple[str, int | None] | None:
    """Host and port of an outbound proxy, written as `host`, `host:port` or `sip:host:port;lr`; None where it is
    none.
    """
    text = value.removeprefix("sip:").partition(";")[0]
    found = fields.host_port(text)
    if found is None or not fields.is_host(found[0]) or found[1] == 0:
        return None
    return found


@attrs.frozen(kw_only=True)
class PeerSettings:
    """`[connection.settings]` of a PBX that is reached at a fixed name or address."""

    server: str = attrs.field(validator=fields.host)
    port: int | None = attrs.field(default=None, validator=fields.port)  # None: as DNS says (RFC 3263)
    transport: Literal["auto", "udp", "tcp", "tls"] = "auto"  # auto: as DNS says, UDP where it says nothing
    username: str = attrs.field(default="", validator=fields.user_or_empty)
    auth_username: str = ""
    password: Secret = attrs.field(factory=lambda: Secret(""))
    outbound_proxy: str = attrs.field(default="", validator=_proxy)
    ca: Path | None = None
    verify: bool = True
    from_user: str = attrs.field(default="", validator=fields.user_or_empty)
    from_domain: str = attrs.field(default="", validator=fields.host_or_empty)
    realm: str = ""  # the only one whose challenges are answered; "*": any

    @property
    def domain(self) -> str:
        """The domain we speak for in From."""
        return bracketed(self.from_domain or self.server)

    @property
    def target(self) -> Target:
        """Where requests are sent: to the outbound proxy, else the server."""
        host, port = self.server, self.port
        if self.outbound_proxy:
            host, port = proxy_address(self.outbound_proxy) or (host, port)
        transport = self.transport
        if transport == "auto" and (port is not None or _is_address(host)):
            transport = "udp"  # RFC 3263 section 4.1: nothing is looked up that could say otherwise
        return Target(host.strip("[]"), port, transport, ca=str(self.ca) if self.ca else "", verify=self.verify)

    @property
    def credentials(self) -> Credentials | None:
        """What a digest challenge is answered with; None where there is no password."""
        if not self.password:
            return None
        realms = (self.realm,) if self.realm not in ("", "*") else ()
        return Credentials(self.auth_username or self.username, self.password.reveal(), realms)

    @property
    def route(self) -> tuple[str, ...]:
        """The Route header through the outbound proxy (RFC 3261 section 8.1.2); none without one."""
        if not self.outbound_proxy:
            return ()
        host, port = proxy_address(self.outbound_proxy) or ("", None)
        transport = "" if self.transport in ("auto", "udp") else f";transport={self.transport}"
        return (f"<sip:{with_port(host, port)}{transport};lr>",)

    def uri(self, number: str) -> str:
        """The server's address of a number."""
        return f"sip:{escape_user(number)}@{with_port(self.server, self.port)}"

    def outbound_leg(self, call: OutboundCall, route: tuple[str, ...] = ()) -> OutboundLeg:
        """How a softphone's request goes to this PBX; `route` is the PBX's Service-Route (RFC 3608), where it gave
        one: without an outbound proxy of ours in front, its first hop is where the request is sent (RFC 3261 section
        8.1.2).
        """
        uri = self.uri(call.number)
        user = self.from_user or self.username or escape_user(call.user)
        return OutboundLeg(
            target=self._first_hop(route[0]) if route and not self.outbound_proxy else self.target,
            request_uri=uri,
            from_uri=f"sip:{user}@{self.domain}",
            to_uri=uri,
            from_display=call.request.from_.display,
            route=self.route + route,
        )

    def _first_hop(self, route: str) -> Target:
        """Where a Route value leads, by our transport; to the server where it cannot be read."""
        try:
            uri = parse_name_addr(route).parsed_uri
        except ParseError:
            return self.target
        return attrs.evolve(self.target, host=uri.host.strip("[]"), port=uri.port)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def escape_user(text: str) -> str:
    """A text as the user part of a URI.

    >>> escape_user("*98#")
    '*98%23'
    """
    return quote(text.encode("utf-8", "surrogateescape"), safe=_USER_UNRESERVED)


def bracketed(host: str) -> str:
    """A host as it stands in a URI: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def with_port(host: str, port: int | None) -> str:
    """`host` or `host:port`, as it stands in a URI.

    >>> with_port("pbx.example.com", None), with_port("2001:db8::1", 5061)
    ('pbx.example.com', '[2001:db8::1]:5061')
    """
    return bracketed(host) if port is None else f"{bracketed(host)}:{port}"
