"""Public GRUUs: a URI that leads to one instance of a user agent, wherever that is registered (RFC 5627).

`sip:DEVICE@DOMAIN;gr=urn:uuid:...` is made of the AOR and the instance alone (section A.1), so there is nothing to keep
of it. Temporary GRUUs are not given: they would hide a caller from its peer, who sees no Contact but the gateway's.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from siperb_core.sip.errors import ParseError
from siperb_core.sip.uri import host_port, parse_uri

_USER = "!*'()&=+$,;?/"
"""What stands in a user part unescaped, letters, digits and `-_.~` aside (RFC 3261 section 25.1)."""

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


def same_instance(one: str, other: str) -> bool:
    """Whether two instances are one: a UUID's digits are of any case (RFC 4122 section 3)."""
    return bool(one) and one.lower() == other.lower()
