"""The gateway registers, stays registered, says goodbye, and never hammers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import attrs
import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from siperb_connection_outbound_reg import OutboundRegistration, RegistrationSettings
from siperb_core import (
    ConnectionAuthFailed,
    ConnectionConfigError,
    ConnectionNotReady,
    Entry,
    OutboundCall,
    Registration,
    Secret,
    Source,
    Target,
)
from siperb_core.sip import DigestServer, Message, response_to

CONTACT = "sip:token@198.51.100.1:5060"
CONFIG = RegistrationSettings(server="pbx.example.com", username="200", password=Secret("pw"), expires=300)
Answer = Callable[[Message], Message]


class FakePbx:
    """The gateway as the connection type sees it, and a registrar behind it that checks the password."""

    def __init__(self, password: str = "pw", granted: int = 120) -> None:
        self.entry = Entry("office", "outbound_registration")
        self.domain = "sip.example.net"
        self.log = structlog.get_logger()
        self.memory: dict[str, Any] = {}
        self.requests: list[tuple[float, Message]] = []
        self.reports: list[Registration] = []
        self.refuse: Answer | None = None
        self.silent = False
        self.granted = granted
        self.bound = False
        self.contact = CONTACT
        self.pings: list[float] = []
        self.lost = trio.Event()
        self._password = password
        self._digest = DigestServer("pbx", b"secret")
        self._tokens = 0

    async def request(self, message: Message, target: Target) -> Message:
        self.requests.append((trio.current_time(), message.copy()))
        await trio.sleep(0.01)
        if self.silent:
            raise ConnectionNotReady("no answer within 32 s")
        if self.refuse is not None:
            return self.refuse(message)
        result = self._digest.verify(
            message.get("Authorization") or "",
            method="REGISTER",
            secret_of=lambda name: self._password if name == "200" else None,
            now=trio.current_time(),
        )
        if not result.ok:
            headers = [("WWW-Authenticate", value) for value in self._digest.challenge(trio.current_time())]
            return response_to(message, 401, headers=headers)
        contact = message.get("Contact")
        headers = [("Service-Route", "<sip:edge.example.com;lr>")]
        if contact is not None:
            self.bound = message.expires != 0
            headers.append(("Contact", f"<{CONTACT}>;expires={self.granted if self.bound else 0}"))
        return response_to(message, 200, headers=headers)

    async def contact_uri(self, target: Target) -> str:
        return self.contact

    async def keep_alive(self, target: Target, interval: float) -> None:
        self.pings.append(interval)
        await self.lost.wait()

    def report(self, registration: Registration) -> None:
        self.reports.append(registration)

    def raise_issue(self, issue_id: str, text: str, mend: str) -> None: ...

    def clear_issue(self, issue_id: str) -> None: ...

    def now(self) -> float:
        return trio.current_time()

    def random_token(self, octets: int = 12) -> str:
        self._tokens += 1
        return f"token{self._tokens}"


async def load(nursery: trio.Nursery, pbx: FakePbx, config: RegistrationSettings = CONFIG) -> Any:
    async def serve(*, task_status: Any) -> None:
        await OutboundRegistration().serve(pbx, config, task_status=task_status)

    return await nursery.start(serve)


async def serve_alone(pbx: FakePbx, config: RegistrationSettings = CONFIG) -> None:
    await OutboundRegistration().serve(pbx, config, task_status=trio.TASK_STATUS_IGNORED)


def invite(uri: str, to: str = "sip:200@pbx.example.com") -> Message:
    return Message.request(
        "INVITE",
        uri,
        [
            ("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"),
            ("From", '"Alice" <sip:laptop@sip.example.net>;tag=1'),
            ("To", f"<{to}>"),
            ("Call-ID", "c"),
            ("CSeq", "1 INVITE"),
        ],
    )


def source(host: str = "203.0.113.7") -> Source:
    return Source(host, 5060, "udp", flow=None)  # type: ignore[arg-type]


async def test_it_is_loaded_once_it_is_registered(nursery: trio.Nursery, autojump_clock: Any) -> None:
    pbx = FakePbx()
    await load(nursery, pbx)
    assert pbx.bound
    assert [message.get("Authorization") is not None for _, message in pbx.requests] == [False, True]
    assert pbx.reports[-1].state == "registered"
    assert pbx.reports[-1].expires_at == pytest.approx(trio.current_time() + 120)


async def test_it_refreshes_before_the_pbx_s_own_expiry(nursery: trio.Nursery, autojump_clock: Any) -> None:
    pbx = FakePbx(granted=120)
    await load(nursery, pbx)
    pbx.requests.clear()
    await trio.sleep(1000)
    times = [when for when, message in pbx.requests if message.get("Authorization")]
    assert len(times) >= 8
    assert all(later - earlier < 120 for earlier, later in itertools.pairwise(times))


async def test_a_lost_connection_is_mended_at_once_and_one_that_never_lasts_is_not_hammered(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    pbx = FakePbx(granted=300)
    await load(nursery, pbx)
    await trio.sleep(70)
    pbx.requests.clear()
    start = trio.current_time()
    pbx.lost.set()  # and every later connection is lost at once, too
    await trio.sleep(100)
    times = [when - start for when, message in pbx.requests if message.get("Authorization")]
    assert times[0] < 1
    assert [round(later - earlier) for earlier, later in itertools.pairwise(times)] == [5, 10, 20, 40]
    assert set(pbx.pings) == {30}


async def test_behind_nat_the_address_the_pbx_sees_takes_the_place_of_our_own(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    pbx = FakePbx()
    seen = "sip:token@203.0.113.9:40001"

    def learns(message: Message) -> Message:
        pbx.contact = seen
        return response_to(message, 200, headers=[("Contact", f"{message.get('Contact')}")])

    pbx.refuse = learns
    await load(nursery, pbx)
    assert [message.get_all("Contact") for _, message in pbx.requests] == [
        [f"<{CONTACT}>;expires=300"],
        [f"<{seen}>;expires=300", f"<{CONTACT}>;expires=0"],
    ]
    await trio.sleep(260)
    assert pbx.requests[-1][1].get_all("Contact") == [f"<{seen}>;expires=300"]


@pytest.mark.parametrize(("realm", "answered"), [("", ("pbx",)), ("pbx", ("pbx",)), ("*", ())])
async def test_the_password_is_for_the_registrar_s_realm(
    nursery: trio.Nursery, autojump_clock: Any, realm: str, answered: tuple[str, ...]
) -> None:
    live = await load(nursery, FakePbx(), attrs.evolve(CONFIG, realm=realm))
    assert live.credentials.realms == answered


async def test_another_realm_gets_nothing(autojump_clock: Any) -> None:
    pbx = FakePbx()
    with pytest.raises(ConnectionConfigError, match="another realm"):
        await serve_alone(pbx, attrs.evolve(CONFIG, realm="elsewhere"))
    assert all(message.get("Authorization") is None for _, message in pbx.requests)


async def test_a_wrong_password_is_sent_once(autojump_clock: Any) -> None:
    pbx = FakePbx(password="another")
    with pytest.raises(ConnectionAuthFailed):
        await serve_alone(pbx)
    assert len(pbx.requests) == 2
    assert (pbx.reports[-1].state, pbx.reports[-1].status) == ("rejected", 401)


async def test_a_403_stops_too(autojump_clock: Any) -> None:
    pbx = FakePbx()
    pbx.refuse = lambda message: response_to(message, 403, "Banned")
    with pytest.raises(ConnectionAuthFailed, match="403 Banned"):
        await serve_alone(pbx)


async def test_an_account_that_does_not_exist_waits_for_an_edit(autojump_clock: Any) -> None:
    pbx = FakePbx()
    pbx.refuse = lambda message: response_to(message, 404)
    with pytest.raises(ConnectionConfigError):
        await serve_alone(pbx)


async def test_an_overloaded_pbx_says_when_to_come_again(autojump_clock: Any) -> None:
    pbx = FakePbx()
    pbx.refuse = lambda message: response_to(message, 503, headers=[("Retry-After", "17")])
    with pytest.raises(ConnectionNotReady) as caught:
        await serve_alone(pbx)
    assert caught.value.retry_after == 17
    assert pbx.reports[-1].state == "rejected"


async def test_silence_is_unreachable(autojump_clock: Any) -> None:
    pbx = FakePbx()
    pbx.silent = True
    with pytest.raises(ConnectionNotReady, match="no answer"):
        await serve_alone(pbx)
    assert pbx.reports[-1].state == "unreachable"


async def test_a_short_outage_costs_nothing_while_the_binding_lasts(nursery: trio.Nursery, autojump_clock: Any) -> None:
    pbx = FakePbx(granted=300)
    await load(nursery, pbx)
    await trio.sleep(200)
    pbx.silent = True
    await trio.sleep(65)
    assert pbx.reports[-1].state == "registered"
    assert "no answer" in pbx.reports[-1].reason
    pbx.silent = False
    await trio.sleep(30)
    assert pbx.reports[-1] == Registration("registered", pbx.reports[-1].expires_at, 200, "OK")
    assert pbx.reports[-1].expires_at > trio.current_time() + 200  # type: ignore[operator]


async def test_unloading_un_registers(autojump_clock: Any) -> None:
    pbx = FakePbx()
    async with trio.open_nursery() as nursery:
        await load(nursery, pbx)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not pbx.bound
    assert pbx.requests[-1][1].expires == 0
    assert pbx.reports[-1].state == "unregistered"


async def test_a_pbx_that_is_gone_does_not_hold_up_unloading(autojump_clock: Any) -> None:
    class Gone(FakePbx):
        async def request(self, message: Message, target: Target) -> Message:
            if self.bound:
                await trio.sleep(3600)
            return await super().request(message, target)

    pbx = Gone()
    async with trio.open_nursery() as nursery:
        await load(nursery, pbx)
        before = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - before == pytest.approx(5)


async def test_probe_checks_the_password_and_leaves_the_bindings_alone(autojump_clock: Any) -> None:
    pbx = FakePbx()
    await OutboundRegistration().probe(pbx, CONFIG)
    assert all(message.get("Contact") is None for _, message in pbx.requests)
    assert not pbx.bound
    assert pbx.reports == []
    with pytest.raises(ConnectionAuthFailed):
        await OutboundRegistration().probe(FakePbx(password="other"), CONFIG)


async def test_calls_go_out_with_our_credentials_by_the_pbx_s_service_route(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    live = await load(nursery, FakePbx())
    leg = live.outbound_leg(OutboundCall("600", "INVITE", "alice", "laptop", invite("sip:600@sip.example.net")))
    assert (leg.request_uri, leg.from_uri) == ("sip:600@pbx.example.com", "sip:200@pbx.example.com")
    assert (live.credentials.username, live.credentials.password) == ("200", "pw")
    assert leg.route == ("<sip:edge.example.com;lr>",)
    assert leg.target == Target("edge.example.com", None, "auto")


async def test_calls_come_in_at_our_contact(nursery: trio.Nursery, autojump_clock: Any) -> None:
    pbx = FakePbx()
    live = await load(nursery, pbx)
    assert live.claims(invite(CONTACT), source()).number == "200"
    assert live.claims(invite(CONTACT, to="sip:%2B4930@pbx.example.com"), source()).number == "+4930"
    assert live.claims(invite(CONTACT, to=CONTACT), source()).number == "200"
    assert live.claims(invite("sip:other@198.51.100.1"), source()) is None


@pytest.mark.parametrize("uri", [CONTACT, "sip:200@pbx.example;gr=urn:uuid:1", "sip:200@198.51.100.1"])
@pytest.mark.parametrize(
    ("server", "proxy"), [("192.0.2.1", ""), ("pbx.example.com", "192.0.2.1:5070"), ("[2001:db8::1]", "192.0.2.1")]
)
async def test_where_the_pbx_s_address_is_known_nobody_else_calls_in(
    nursery: trio.Nursery, autojump_clock: Any, uri: str, server: str, proxy: str
) -> None:
    pbx = FakePbx()
    pbx.entry = Entry("office", "outbound_registration", allow_from=(ip_network("192.0.2.64/26"),))
    live = await load(nursery, pbx, attrs.evolve(CONFIG, server=server, outbound_proxy=proxy))
    for host, welcome in (
        ("192.0.2.1", True),
        ("::ffff:192.0.2.1", True),
        ("192.0.2.77", True),
        ("203.0.113.7", False),
    ):
        assert (live.claims(invite(uri), source(host)) is not None) is welcome
    assert live.addresses == {"192.0.2.1"} | ({"2001:db8::1"} if server == "[2001:db8::1]" else set())


async def test_the_username_counts_from_the_pbx_s_address_alone(nursery: trio.Nursery, autojump_clock: Any) -> None:
    pbx = FakePbx()
    pbx.entry = Entry("office", "outbound_registration", allow_from=(ip_network("192.0.2.0/24"),))
    live = await load(nursery, pbx)
    to_username = invite("sip:200@198.51.100.1")
    assert live.claims(to_username, source("192.0.2.1")) is not None
    assert live.claims(to_username, source("203.0.113.7")) is None


def test_an_account_is_registered_once() -> None:
    type_ = OutboundRegistration()
    assert type_.unique_id(CONFIG) == "200@pbx.example.com:5060"
