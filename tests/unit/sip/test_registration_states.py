"""The table of the registration machine, which the documentation is drawn from, says what the machine does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from siperb_core.sip import Message, response_to
from siperb_core.sip.registration import RegistrationClient, RegistrationEffect, SendRegister

from .test_registration import SETTINGS, challenge, make, ok

NOW = 1000.0
GRANTED = 300


class Driven:
    """A machine, what it has sent last, and what time it is for it."""

    def __init__(self) -> None:
        self.client: RegistrationClient = make()
        self.now = NOW
        self.last: Message | None = None

    def take(self, effects: list[RegistrationEffect]) -> list[RegistrationEffect]:
        for effect in effects:
            if isinstance(effect, SendRegister):
                self.last = effect.message
        return effects

    def answer(self, make_response: Callable[[Message], Message]) -> list[RegistrationEffect]:
        if self.last is None:  # what comes before anything was sent
            other = RegistrationClient(SETTINGS, lambda: "t")
            (effect,) = other.start(self.now)
            assert isinstance(effect, SendRegister)
            return self.take(self.client.response(make_response(effect.message), self.now))
        return self.take(self.client.response(make_response(self.last), self.now))

    def status(self, status: int, *headers: tuple[str, str]) -> list[RegistrationEffect]:
        return self.answer(lambda request: response_to(request, status, headers=headers))

    def once_more(self, make_response: Callable[[Message], Message]) -> list[RegistrationEffect] | None:
        """The response twice; None where the first has ended it already."""
        before = self.client.state
        self.answer(make_response)
        return self.answer(make_response) if self.client.state == before else None

    def tick(self, seconds: float) -> list[RegistrationEffect]:
        self.now += seconds
        return self.take(self.client.tick(self.now))

    def silence(self, seconds: float) -> list[RegistrationEffect]:
        self.now += seconds
        return self.take(self.client.timeout(self.now))


def too_brief(request: Message) -> Message:
    return response_to(request, 423, headers=[("Min-Expires", "600")])


EVENTS: dict[str, tuple[Callable[[Driven], list[RegistrationEffect] | None], ...]] = {
    "start": (lambda it: it.take(it.client.start(it.now)),),
    "stop": (lambda it: it.take(it.client.stop(it.now)),),
    "refresh is due": (lambda it: it.tick(GRANTED - 45),),
    "connection lost": (lambda it: it.take(it.client.refresh(it.now)),),
    "2xx": (lambda it: it.answer(ok),),
    "challenge": (lambda it: it.answer(lambda request: challenge(request, "n")),),
    "challenged again": (lambda it: it.once_more(lambda request: challenge(request, "n")),),
    "423": (lambda it: it.answer(too_brief),),
    "423 again": (lambda it: it.once_more(too_brief),),
    "3xx, 403, 404": tuple(lambda it, status=status: it.status(status) for status in (302, 403, 404)),  # type: ignore[misc]
    "503 or silence": (
        lambda it: it.status(503, ("Retry-After", "5")),
        lambda it: it.silence(5),
        lambda it: it.answer(lambda request: ok(request, ("Contact", f"<{SETTINGS.contact}>;expires=0"))),
    ),
    "503 or silence, and the binding runs out": (
        lambda it: it.silence(GRANTED) if it.client.expires_at else [],
        lambda it: it.status(503, ("Retry-After", str(GRANTED))) if it.client.expires_at else [],
    ),
}


def in_state(state: str) -> Driven:
    it = Driven()
    if state != "idle":
        it.take(it.client.start(it.now))
    if state in ("registered", "refreshing"):
        it.answer(ok)
    if state == "refreshing":
        it.take(it.client.refresh(it.now))
    if state == "unregistering":
        it.take(it.client.stop(it.now))
    assert it.client.state == state
    return it


@pytest.mark.parametrize("state", ["idle", "registering", "registered", "refreshing", "unregistering"])
def test_every_event_does_what_the_table_says_and_no_other_does_anything(state: str) -> None:
    listed = {(event, target) for source, event, target in RegistrationClient.TRANSITIONS if source == state}
    seen = set()
    for event, ways in EVENTS.items():
        for happen in ways:
            it = in_state(state)
            effects = happen(it)
            if effects or (effects is not None and it.client.state != state):
                seen.add((event, it.client.state))
    assert seen == listed
