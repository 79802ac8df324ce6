"""Who calls, and who is told: network-asserted identity (RFC 3325) and privacy (RFC 3323).

An identity is asserted to, and believed from, trusted connections alone; so is whom a call was for before it was
diverted (RFC 5806, RFC 7044), which names people as well. A caller who asks for privacy is named to nobody else.
"""

from __future__ import annotations

from siperb_core.sip.headers import NameAddr
from siperb_core.sip.message import Message

ANONYMOUS = NameAddr("Anonymous", "sip:anonymous@anonymous.invalid", ())
"""From of a caller who is not to be known (RFC 3323 section 4.1.1.3)."""

_ASSERTED = ("P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Diversion", "History-Info")
_TELLING = ("Reply-To", "Call-Info", "Organization", "Subject", "User-Agent", "In-Reply-To", "Referred-By")
"""What else tells who somebody is (RFC 3323 section 4.1, RFC 3892 section 2.1)."""
_PRIVATE = frozenset({"id", "user", "header"})


def wants_privacy(message: Message) -> bool:
    """Whether the caller asks not to be named (RFC 3323 section 4.2, RFC 3325 section 9.3)."""
    wishes = {
        part.strip().lower() for value in message.get_all("Privacy") for part in value.replace(",", ";").split(";")
    }
    return "none" not in wishes and bool(wishes & _PRIVATE)


def forget_assertions(message: Message) -> None:
    """Take out what a sender who is not trusted says of himself and of who was called before (RFC 3325 section 5)."""
    for name in _ASSERTED:
        message.remove(name)


def name_caller(message: Message, caller: NameAddr, asked: Message, *, trusted: bool) -> NameAddr:
    """Say in a request who calls, as far as the next hop may know; the From it is to have.

    `caller` is the identity the gateway vouches for, `asked` the request as the caller sent it. What `message` has of
    assertions has to be the gateway's own.
    """
    if trusted:
        if message.get(_ASSERTED[0]) is None:
            message.set(_ASSERTED[0], str(caller))
        return caller
    forget_assertions(message)
    if not wants_privacy(asked):
        return caller
    _tell_nothing(message)
    return ANONYMOUS


def pass_caller(message: Message, caller: NameAddr, asked: Message, *, trusted: bool) -> NameAddr:
    """As `name_caller`, for a request of a PBX on its way to a softphone, which is nobody to be trusted with a name
    that is to be withheld. What a trusted PBX asserts is passed on.
    """
    private = wants_privacy(asked)
    if private or not trusted:
        forget_assertions(message)
    if private:
        _tell_nothing(message)
    return ANONYMOUS if private else caller


def _tell_nothing(message: Message) -> None:
    for name in _TELLING:
        message.remove(name)
