"""Media that only keep count of offers and answers, and are strict about their order (RFC 3264)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from siperb_core.sdp import SdpError
from siperb_core.sip import Message

SDP = ("Content-Type", "application/sdp")


class FakeMedia:
    """In place of `CallMedia`: SDP comes out with the name of the leg it is for in front of it."""

    def __init__(self) -> None:
        self.on_dead: Callable[[str], None] = lambda cause: None
        self.on_digit: Callable[..., None] = lambda leg, digit: None
        self.diagnosis = ""
        self.answered_by: object | None = None
        self.log: list[tuple[str, str, bytes]] = []
        self.offerer = ""
        self.answered = True
        self.closed = False

    def offer(self, origin: str, branch: str, sdp: bytes) -> bytes:
        if not self.answered and (origin == "client" or self.offerer != "peer"):
            raise SdpError("another offer is still unanswered", status=491)
        self.offerer, self.answered = origin, False
        self.log.append(("offer", origin, sdp))
        return (b"peer:" if origin == "client" else b"client:") + sdp

    def answer(self, origin: str, branch: str, sdp: bytes) -> bytes:
        if self.offerer in ("", origin):
            raise SdpError("an answer to no offer", status=400)
        self.answered = True
        self.log.append(("answer", origin, sdp))
        return (b"peer:" if origin == "client" else b"client:") + sdp

    def reject(self) -> None:
        if not self.answered:
            self.answered, self.offerer = True, ""
            self.log.append(("reject", "", b""))

    def withdraw(self) -> None:
        self.reject()

    def learn_allow(self, message: Message) -> None:
        pass

    def take_info(self, origin: str, request: Message) -> bool:
        return False

    def drop_branch(self, branch: str) -> None:
        self.log.append(("drop", branch, b""))

    def statistics(self) -> dict[str, Any]:
        return {}

    def diagnose(self, seconds: float) -> str:
        return ""

    def close(self, then: Callable[[], None] = lambda: None) -> None:
        self.closed = True
        then()
