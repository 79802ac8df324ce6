"""A live connection that does wrong: it costs the request, then its entry, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trio
from structlog.testing import capture_logs

from siperb_core import Claim, Credentials, OutboundLeg, Refusal, Target
from siperb_core.entries.lifecycle import Entries
from siperb_core.entries.live import ConnectionFault, LoadedConnection, lacks
from siperb_core.entries.model import Entry
from siperb_core.faults import FAULT_SECONDS, MOST_FAULTS
from siperb_core.sip import Message, ParseError

from .test_lifecycle import FakeOutside, FakeType, Live, start

URI = "sip:1@pbx.example"
GOOD = OutboundLeg(Target("pbx.example"), URI, URI, URI)
NOTHING: Any = None


@pytest.fixture(autouse=True)
def no_tracebacks() -> Iterator[None]:
    """Printing every one with its locals takes longer than all else here."""
    with capture_logs():
        yield


class Faulty(Live):
    """Does to every question what the test says."""

    def __init__(self, does: Any) -> None:
        self.does = does

    def outbound_leg(self, call: Any) -> Any:
        if isinstance(self.does, BaseException):
            raise self.does
        return self.does

    def claims(self, request: Any, source: Any) -> Any:
        return self.outbound_leg(request)

    def answer(self, request: Any, source: Any) -> Any:
        return self.outbound_leg(request)

    @property
    def credentials(self) -> Any:
        return self.outbound_leg(None)

    @credentials.setter
    def credentials(self, value: Any) -> None:
        raise AssertionError


def loaded(does: Any) -> tuple[LoadedConnection, list[str]]:
    told: list[str] = []
    return LoadedConnection(Entry("office", "fake"), FakeType(), Faulty(does), told.append), told


@pytest.mark.parametrize("asked", ["outbound_leg", "claims", "answer", "credentials"])
@pytest.mark.parametrize(
    "does", [ZeroDivisionError("x"), 5, "text", object(), [], GOOD.target], ids=lambda value: type(value).__name__
)
def test_what_raises_or_is_nonsense_is_a_fault(asked: str, does: Any) -> None:
    connection, told = loaded(does)
    with pytest.raises(ConnectionFault):
        if asked == "credentials":
            connection.credentials  # noqa: B018
        elif asked == "outbound_leg":
            connection.outbound_leg(NOTHING)
        else:
            getattr(connection, asked)(NOTHING, NOTHING)
    assert len(told) == 1
    assert asked in told[0]


NONSENSE = [
    attrs.evolve(GOOD, target=None),
    attrs.evolve(GOOD, target=Target(5)),  # type: ignore[arg-type]
    attrs.evolve(GOOD, request_uri="not a uri"),
    attrs.evolve(GOOD, from_uri=None),
    attrs.evolve(GOOD, to_uri=b"sip:1@x"),
    attrs.evolve(GOOD, from_display="a\r\nX: y"),
    attrs.evolve(GOOD, route="<sip:x;lr>"),
    attrs.evolve(GOOD, headers=(("X", "a\nb"),)),
    attrs.evolve(GOOD, headers=(("X",),)),
    Refusal(200, "OK"),
    Refusal("503", "x"),  # type: ignore[arg-type]
    None,
]


@pytest.mark.parametrize("leg", NONSENSE, ids=str)
def test_a_leg_that_cannot_be_used_is_a_fault(leg: Any) -> None:
    connection, told = loaded(leg)
    with pytest.raises(ConnectionFault, match="outbound_leg returned"):
        connection.outbound_leg(NOTHING)
    assert told


@pytest.mark.parametrize("wrong", [Claim(5), Claim("1", "secret"), Claim("1", Credentials("u", None))])  # type: ignore[arg-type]
def test_a_claim_that_cannot_be_used_is_a_fault(wrong: Claim) -> None:
    with pytest.raises(ConnectionFault):
        loaded(wrong)[0].claims(NOTHING, NOTHING)


def test_what_is_right_passes() -> None:
    answer = Message.response(200, "OK", [])
    for asked, does in (("claims", Claim("1")), ("claims", None), ("answer", answer), ("answer", None)):
        connection, told = loaded(does)
        assert getattr(connection, asked)(NOTHING, NOTHING) is does
        assert not told
    assert loaded(GOOD)[0].outbound_leg(NOTHING) is GOOD
    assert loaded(Refusal(480, "no"))[0].outbound_leg(NOTHING) == Refusal(480, "no")
    assert loaded(None)[0].credentials is None


def test_a_request_that_cannot_be_read_is_its_sender_s_fault() -> None:
    connection, told = loaded(ParseError("bad"))
    for ask in (lambda: connection.outbound_leg(NOTHING), lambda: connection.claims(NOTHING, NOTHING)):
        with pytest.raises(ParseError):
            ask()
    assert not told, "or a stranger could bring a connection down"


def test_what_serve_hands_out_is_looked_at() -> None:
    assert lacks(Live()) == ""
    assert lacks(None) == "outbound_leg"
    assert lacks(Faulty(ZeroDivisionError())) == "", "nothing of it is called"


async def test_nonsense_from_serve_is_a_crash(nursery: trio.Nursery, autojump_clock: Any) -> None:
    async def gives_nothing(ctx: Any, task_status: Any) -> None:
        task_status.started(None)
        await trio.sleep_forever()

    entries = Entries({"fake": FakeType(gives_nothing)}, FakeOutside())
    await start(nursery, entries, Entry("office", "fake"))
    assert entries.status("office")["state"] == "retry"
    assert "has no outbound_leg" in entries.status("office")["reason"]
    assert [issue.id for issue in entries.issues.all()] == ["crashed"]
    nursery.cancel_scope.cancel()


async def serves_faulty(ctx: Any, task_status: Any) -> None:
    task_status.started(Faulty(ZeroDivisionError("x")))
    await trio.sleep_forever()


def ask(entries: Entries, times: int) -> int:
    """Ask for a way out so often; how often there was somebody to ask."""
    asked = 0
    for _ in range(times):
        connection = entries.get("bad")
        if connection is not None:
            asked += 1
            with pytest.raises(ConnectionFault):
                connection.outbound_leg(NOTHING)
    return asked


async def test_too_many_faults_take_down_that_entry_alone(nursery: trio.Nursery, autojump_clock: Any) -> None:
    types = {"bad": FakeType(serves_faulty), "fine": FakeType()}
    entries = Entries(types, FakeOutside(), jitter=lambda: 0.0)
    await start(nursery, entries, Entry("bad", "bad"), Entry("fine", "fine"))
    assert ask(entries, MOST_FAULTS + 5) == MOST_FAULTS
    assert [item.entry.name for item in entries.loaded()] == ["fine"]
    await trio.sleep(1)
    status = entries.status("bad")
    assert status["state"] == "retry"
    assert status["reason"] == "switched off after 10 faults in 0 s, the last: ZeroDivisionError in outbound_leg"
    assert entries.down("bad")
    assert [(issue.connection, issue.id) for issue in entries.issues.all()] == [("bad", "faults")]
    begin = types["bad"].started[0]
    for _ in range(3):  # each time it waits longer
        await trio.sleep(50)
        ask(entries, MOST_FAULTS)
    assert [round(when - begin) for when in types["bad"].started] == [0, 5, 61, 121]
    assert len(types["fine"].started) == 1
    nursery.cancel_scope.cancel()


async def test_the_issue_is_gone_once_it_has_done_well_for_a_while(nursery: trio.Nursery, autojump_clock: Any) -> None:
    entries = Entries({"bad": FakeType(serves_faulty)}, FakeOutside())
    await start(nursery, entries, Entry("bad", "bad"))
    ask(entries, MOST_FAULTS)
    await trio.sleep(10)
    assert entries.status("bad")["state"] == "loaded"
    assert entries.issues.all(), "not before it has proved well"
    await trio.sleep(FAULT_SECONDS)
    assert entries.issues.all() == []
    nursery.cancel_scope.cancel()


async def test_a_fault_now_and_then_takes_nothing_down(nursery: trio.Nursery, autojump_clock: Any) -> None:
    entries = Entries({"bad": FakeType(serves_faulty)}, FakeOutside())
    await start(nursery, entries, Entry("bad", "bad"))
    for _ in range(3 * MOST_FAULTS):
        assert ask(entries, 1) == 1
        await trio.sleep(FAULT_SECONDS / (MOST_FAULTS - 2))
    assert entries.issues.all() == []
    nursery.cancel_scope.cancel()
