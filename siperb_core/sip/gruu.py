"""GRUUs: a URI that leads to one instance of a user agent, wherever that is registered (RFC 5627).

The public one, `sip:DEVICE@DOMAIN;gr=urn:uuid:...`, is made of the AOR and the instance alone (section A.1), so there
is nothing to keep of it. A temporary one, `sip:tgruu.TOKEN@DOMAIN;gr`, tells nobody whose it is, nor that two are of
one phone (section 3.2): its token is the mark of a registration, sealed anew at every REGISTER. The mark is found among
the bindings that are there, so there is nothing to keep of the tokens either (section A.2).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from urllib.parse import quote

from siperb_core.sip.errors import ParseError
from siperb_core.sip.uri import host_port, parse_uri

_USER = "!*'()&=+$,;?/"
"""What stands in a user part unescaped, letters, digits and `-_.~` aside (RFC 3261 section 25.1)."""

_TEMPORARY = "tgruu."
_SALT, _MARK, _SEAL = 10, 10, 10
"""Octets of a token: what makes it another one, whose it is, and that it is ours (80 bits, as in section A.2)."""

_INSTANCE = re.compile(r"<([A-Za-z0-9\-_.!~*'()\[\]/:&+$]{1,256})>")
"""An instance whose URN may stand in a URI's parameter as it is."""


def public_gruu(aor: str, domain: str, instance: str) -> str:
    """The public GRUU of an instance (`<urn:uuid:...>`) of `aor`, a user of `domain`; '' where it can have none."""
    match = _INSTANCE.fullmatch(instance)
    if match is None or not domain:
        return ""
    user = quote(aor.encode("utf-8", "surrogateescape"), safe=_USER)
    return f"sip:{user}@{host_port(domain, None)};gr={match[1]}"


def named_by(uri: str, domain: str) -> tuple[str, str] | None:
    """AOR and instance (`<urn:uuid:...>`) that a public GRUU of `domain` names; None where `uri` is no such GRUU."""
    try:
        parsed = parse_uri(uri)
    except ParseError:
        return None
    urn = parsed.param("gr")
    if not urn or parsed.scheme not in ("sip", "sips") or parsed.host.lower() != domain.lower():
        return None
    return parsed.user_unescaped, f"<{urn}>"


def mark_of(key: bytes, *registration: object) -> bytes:
    """The mark of a registration: its AOR, instance, Call-ID and what else makes it this one."""
    return _mac(key, "mark", *registration)[:_MARK]


def temporary_gruu(key: bytes, mark: bytes, cseq: int, domain: str) -> str:
    """A temporary GRUU of the registration with this mark, another one for each `cseq`."""
    salt = _mac(key, "salt", mark.hex(), cseq)[:_SALT]
    sealed = salt + _masked(key, salt, mark)
    token = base64.b32encode(sealed + _mac(key, "seal", sealed.hex())[:_SEAL]).rstrip(b"=").decode().lower()
    return f"sip:{_TEMPORARY}{token}@{host_port(domain, None)};gr"


def is_temporary(uri: str, domain: str) -> bool:
    """Whether a URI looks like a temporary GRUU of `domain`, be it good or not."""
    try:
        parsed = parse_uri(uri)
    except ParseError:
        return False
    if parsed.scheme not in ("sip", "sips") or parsed.host.lower() != domain.lower():
        return False
    return parsed.param("gr") == "" and parsed.user_unescaped.lower().startswith(_TEMPORARY)


def mark_in(key: bytes, uri: str, domain: str) -> bytes | None:
    """The mark sealed in a temporary GRUU of `domain`; None where it is none, or none that this key has sealed."""
    if not is_temporary(uri, domain):
        return None
    token = parse_uri(uri).user_unescaped[len(_TEMPORARY) :].upper()
    try:
        octets = base64.b32decode(token + "=" * (-len(token) % 8))
    except (binascii.Error, ValueError):
        return None
    sealed, seal = octets[:-_SEAL], octets[-_SEAL:]
    if len(octets) != _SALT + _MARK + _SEAL or not hmac.compare_digest(_mac(key, "seal", sealed.hex())[:_SEAL], seal):
        return None
    return _masked(key, sealed[:_SALT], sealed[_SALT:])


def _masked(key: bytes, salt: bytes, mark: bytes) -> bytes:
    mask = _mac(key, "mask", salt.hex())
    return bytes(one ^ other for one, other in zip(mark, mask, strict=False))


def _mac(key: bytes, what: str, *values: object) -> bytes:
    text = "\n".join(("gruu", what, *map(repr, values)))
    return hmac.digest(key, text.encode("utf-8", "surrogateescape"), "sha256")


def same_instance(one: str, other: str) -> bool:
    """Whether two instances are one: a UUID's digits are of any case (RFC 4122 section 3)."""
    return bool(one) and one.lower() == other.lower()
