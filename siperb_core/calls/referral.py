"""URIs in a request that name somebody in the sender's world, as the other side has to write them.

The gateway hides each side from the other (RFC 3261 section 12 per leg), so what a softphone calls `603@gw.example` the
PBX knows as `603@pbx.example`. In From, To and Contact the dialog sees to that; here are the headers of a transfer:
Refer-To (RFC 3515), Referred-By (RFC 3892), and what else carries them on. Call-ID and tags are the same on both
legs: Replaces (RFC 3891) matches as it is, in the header and inside Refer-To.
"""

from __future__ import annotations

from collections.abc import Callable

from siperb_core.sip import Message, NameAddr, ParseError, Uri, parse_name_addr, parse_uri
from siperb_core.sip.dialog import Leg
from siperb_core.sip.headers import split_list

_REFERRING = ("Refer-To", "Referred-By")
_NO_IDENTITY = ("P-Asserted-Identity", "Remote-Party-ID")
"""What a softphone might say of itself: only the connection says who calls (RFC 3325 section 5)."""

_TRANSPORT = frozenset({"transport", "maddr", "ttl"})
"""How the sender would reach the URI: no concern of the other side's."""

Target = Callable[[str], str]
"""A token of ours, the user part of a Contact, to the URI the far end of that dialog is reached at; '' for none."""


def refer_to_peer(message: Message, leg: Leg, domain: str, device: str, target_of: Target) -> None:
    """Rewrite a softphone's request for the PBX's leg: the softphones' domain becomes the PBX's.

    The softphone itself becomes who it is on that leg. A Contact of ours, to which an attended transfer points, becomes
    the PBX's own Contact in that other dialog.
    """
    for name in _NO_IDENTITY:
        message.remove(name)
    if all(message.get(name) is None for name in _REFERRING):
        return
    local = parse_uri(leg.local.uri)
    place = parse_uri(leg.remote.uri)

    def rewrite(uri: Uri) -> Uri:
        target = target_of(uri.user or "")
        if target:
            return parse_uri(target).with_(headers=uri.headers)
        if uri.scheme == "tel" or uri.host.lower() != domain.lower():
            return uri
        if uri.user == device:
            return local.with_(headers=uri.headers)
        return _moved(uri, place)

    _apply(message, rewrite)


def refer_to_softphone(message: Message, domain: str) -> None:
    """Rewrite a PBX's request for a softphone: whoever it names is dialled through the gateway."""
    if all(message.get(name) is None for name in _REFERRING):
        return
    home = Uri("sip", None, domain)

    def rewrite(uri: Uri) -> Uri:
        return uri if uri.scheme == "tel" or uri.user is None else _moved(uri, home)

    _apply(message, rewrite)


def referred_to(message: Message) -> str:
    """The URI a REFER sends its receiver to, as it is called: without the headers of the request to be made."""
    try:
        return str(parse_uri(parse_name_addr(message.get("Refer-To") or "").uri).with_(headers=()))
    except ParseError:
        return ""


def replaced(request: Message) -> tuple[str, frozenset[str]] | None:
    """Call-ID and tags of the dialog whose place a request is to take (RFC 3891 section 3); None where it is none's."""
    if request.count("Replaces") != 1:
        return None
    call_id, *params = (part.strip() for part in (request.get("Replaces") or "").split(";"))
    tags = [value for name, _, value in (param.partition("=") for param in params) if name.lower().endswith("-tag")]
    return (call_id, frozenset(tags)) if len(tags) == 2 else None


def _moved(uri: Uri, place: Uri) -> Uri:
    params = tuple(pair for pair in uri.params if pair[0].lower() not in _TRANSPORT)
    return uri.with_(scheme="sip", host=place.host, port=place.port, params=params)


def _apply(message: Message, rewrite: Callable[[Uri], Uri]) -> None:
    for name in _REFERRING:
        value = message.get(name)
        if value is None:
            continue
        if len(split_list(value)) != 1 or message.count(name) != 1:
            raise ParseError(f"Several {name}")  # RFC 3515 section 2.4.2: one, or 400
        address = parse_name_addr(value)
        uri = rewrite(parse_uri(address.uri))
        if str(uri) != address.uri:
            message.set(name, str(NameAddr(address.display, str(uri), address.params)))
