"""What a call of a test peer needs beside SIP: the media it drives, changes under way, digits in an INFO."""

from __future__ import annotations

from typing import Protocol

import trio

from siperb_core.sip import Message


class CallMedia(Protocol):
    """The media of one call. Descriptions are SDP; methods raise SdpError on one that cannot be used."""

    async def offer(self) -> bytes:
        """Our offer, for a new call or a running one."""

    async def answer(self, offer: bytes) -> bytes:
        """Take their offer and give our answer."""

    async def accept(self, answer: bytes) -> None:
        """Take their answer to our offer."""

    def hold(self, held: bool) -> None:
        """Whether our next offer puts the other side on hold (RFC 3264 section 8.4)."""

    def digit_by_info(self, digit: str) -> None:
        """A digit came in a SIP INFO."""

    async def close(self) -> None:
        """The call is over."""


class Change:
    """A re-INVITE of ours that somebody waits for."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.response: Message | None = None

    def finish(self, response: Message) -> None:
        self.response = response
        self.done.set()


async def first_of(*events: trio.Event) -> None:
    """Wait for the first of several events."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


def info_digit(request: Message) -> str:
    """The digit in an INFO: application/dtmf-relay (`Signal=5`) or application/dtmf (`5`); "" where there is none."""
    kind = (request.get("Content-Type") or "").partition(";")[0].strip().lower()
    text = request.body[:200].decode("ascii", "replace")
    if kind == "application/dtmf-relay":
        for line in text.splitlines():
            name, _, value = line.partition("=")
            if name.strip().lower() == "signal":
                text = value
                break
        else:
            return ""
    elif kind != "application/dtmf":
        return ""
    text = text.strip().upper()
    return text if len(text) == 1 and text in "0123456789*#ABCD" else ""
