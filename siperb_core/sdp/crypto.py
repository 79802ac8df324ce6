"""SRTP keys in SDP, `a=crypto` (RFC 4568; AES-GCM: RFC 7714), for the PBX's leg.

They stand there as they are, so the signalling that carries them has to be TLS.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from siperb_core.sdp.description import Media, SdpError
from siperb_core.sdp.plan import SrtpSuite

KEY_OCTETS: Final[dict[SrtpSuite, int]] = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AEAD_AES_256_GCM": 44,
    "AEAD_AES_128_GCM": 28,
    "AES_CM_128_HMAC_SHA1_32": 30,
}
"""Octets of master key and salt, in the order we offer: first the one every device has (RFC 4568 section 6.2)."""

MAX_CRYPTO: Final = 16

_TAG: Final = re.compile(r"[1-9][0-9]{0,8}")
_LIFETIME: Final = re.compile(r"(2\^)?[0-9]{1,20}")


@attrs.frozen
class Crypto:
    """One line: a key under its tag. `key` is master key and salt in base64."""

    tag: str
    suite: SrtpSuite
    key: str = attrs.field(repr=False)

    def __str__(self) -> str:
        return f"{self.tag} {self.suite} inline:{self.key}"


def new_keys(random: Callable[[int], bytes]) -> tuple[Crypto, ...]:
    """Our keys of one call, one for every suite; `random` gives that many octets nobody can guess."""
    return tuple(
        Crypto(str(tag), suite, b64encode(random(octets)).decode())
        for tag, (suite, octets) in enumerate(KEY_OCTETS.items(), 1)
    )


def read_crypto(media: Media) -> tuple[Crypto, ...]:
    """The keys of a media section that can be used here, in its order.

    Left out are unknown suites, more than one key, a master key identifier, and session parameters that change what is
    sent (section 6.3): an offer has other lines, an answer that has nothing else cannot be used.
    """
    found = (_parse(value) for value in media.get_all("crypto")[:MAX_CRYPTO])
    return tuple(line for line in found if line is not None)


def _parse(value: str) -> Crypto | None:
    tag, _, rest = value.partition(" ")
    name, _, rest = rest.strip().partition(" ")
    parameters, *session = rest.split() or [""]
    suite = next((known for known in KEY_OCTETS if known == name.upper()), None)
    method, _, text = parameters.partition(":")
    if suite is None or not _TAG.fullmatch(tag) or method.lower() != "inline":
        return None
    if any(not parameter.startswith(("-", "WSH=")) for parameter in session):
        return None
    key, *rest_of_key = text.split("|")
    if any(not _LIFETIME.fullmatch(part) for part in rest_of_key):
        return None
    try:
        octets = b64decode(key + "=" * (-len(key) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(octets) != KEY_OCTETS[suite]:
        return None
    return Crypto(tag, suite, b64encode(octets).decode())


def chosen(offered: Sequence[Crypto], ours: Iterable[Crypto], who: str) -> tuple[Crypto, Crypto]:
    """As an answerer: the first key of the offer whose suite we have, and our own for it, under the offer's tag."""
    by_suite = {line.suite: line for line in ours}
    for line in offered:
        if line.suite in by_suite:
            return line, attrs.evolve(by_suite[line.suite], tag=line.tag)
    raise _refused(who)


def accepted(answered: Sequence[Crypto], ours: Iterable[Crypto], who: str) -> tuple[Crypto, Crypto]:
    """As an offerer: the key of the answer, and ours that it accepts, by tag and suite (section 5.1.3)."""
    sent = {(line.tag, line.suite): line for line in ours}
    for line in answered[:1]:
        if (line.tag, line.suite) in sent:
            return line, sent[line.tag, line.suite]
    raise _refused(who)


def _refused(who: str) -> SdpError:
    return SdpError(f"{who} has no a=crypto that can be used; here are {', '.join(KEY_OCTETS)}", warning_code=302)
