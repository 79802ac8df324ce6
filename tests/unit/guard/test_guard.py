"""Who can have whom locked out: nobody another, and a brute forcer himself."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.entries.contract import Credentials
from siperb_core.entries.live import LoadedConnection
from siperb_core.entries.loaded import LoadedConnections
from siperb_core.entries.model import Entry
from siperb_core.guard import Guard
from siperb_core.lockout import source_of
from siperb_core.sip import Message
from siperb_core.sip.digest import DigestServer, answer_challenge

PBX, LISTED, ALICE_HOME, ATTACKER = "192.0.2.10", "192.0.2.200", "198.51.100.20", "203.0.113.66"
TYPE: Any = SimpleNamespace(allow_from_required=False)
PASSWORDS = {"branch": "right", "alice": "right"}


@attrs.frozen
class FakeFlow:
    remote: tuple[str, int]
    transport: str = "udp"

    @property
    def reliable(self) -> bool:
        return self.transport != "udp"


class Registered:
    """A live connection whose PBX has registered from `host`."""

    def __init__(self, host: str, raises: bool = False) -> None:
        self.host, self.raises = host, raises
        self.credentials = Credentials("branch", "right")

    @property
    def addresses(self) -> frozenset[str]:
        if self.raises:
            raise RuntimeError
        return frozenset((self.host,))


class Gateway:
    """The guard's host, and the one thing it guards: a digest server."""

    def __init__(self) -> None:
        self.signalling: Any = SimpleNamespace(rejected=Counter())
        self.time = 1_000_000.0
        self.digest = DigestServer("gw.example", b"secret")
        self.guard = Guard(self)
        self.connections: list[LoadedConnection] = []
        self.connect("branch", Registered(PBX))
        self.connect("carrier", SimpleNamespace(credentials=None), allow_from=(ip_network("192.0.2.200/32"),))

    def connect(self, name: str, live: Any, **more: Any) -> None:
        self.connections.append(LoadedConnection(Entry(name, "fake", **more), TYPE, live))

    def loaded(self) -> LoadedConnections:
        return LoadedConnections(self.connections)

    def now(self) -> float:
        return self.time

    def is_known(self, flow: Any, request: Message) -> bool:
        return False

    def challenge(self, host: str) -> tuple[str, ...]:
        return self.digest.challenge(self.time, source=source_of(host))

    def receive(self, flow: FakeFlow, user: str, password: str, challenges: tuple[str, ...]) -> str:
        """A REGISTER with credentials: `ignored`, `ok`, `stale` or `refused`."""
        value = answer_challenge(
            challenges, method="REGISTER", uri="sip:gw.example", username=user, password=password, cnonce="c"
        )
        request = register(user, value or "")
        if self.guard.ignores(request, flow):  # type: ignore[arg-type]
            return "ignored"
        result = self.digest.verify(
            value or "", method="REGISTER", secret_of=PASSWORDS.get, now=self.time, source=source_of(flow.remote[0])
        )
        if result.ok:
            self.guard.proved(flow, user)  # type: ignore[arg-type]
            return "ok"
        self.guard.refused(flow, result)  # type: ignore[arg-type]
        return "stale" if result.stale else "refused"

    def log_in(self, host: str, user: str, transport: str = "udp") -> str:
        """With the right password and a nonce of its own."""
        return self.receive(FakeFlow((host, 5060), transport), user, "right", self.challenge(host))


def register(user: str, authorization: str = "") -> Message:
    headers = [("From", f"<sip:{user}@gw.example>;tag=1"), ("To", f"<sip:{user}@gw.example>"), ("CSeq", "1 REGISTER")]
    return Message.request("REGISTER", "sip:gw.example", [*headers, ("Authorization", authorization)])


@pytest.mark.parametrize("victim", [PBX, ALICE_HOME, "2001:db8::7"])
@pytest.mark.parametrize("nonce_of", [ATTACKER, "nobody", "victim, but old"])
def test_nobody_is_locked_out_by_forged_datagrams(victim: str, nonce_of: str) -> None:
    gateway = Gateway()
    challenges = gateway.challenge(victim if nonce_of.startswith("victim") else nonce_of)
    if nonce_of.startswith("victim"):
        gateway.time += 3600
    for _ in range(200):
        assert gateway.receive(FakeFlow((victim, 5060)), "alice", "guess", challenges) == "stale"
    assert gateway.signalling.rejected == {"unproven": 200}
    assert gateway.log_in(victim, "alice") == "ok"


def test_the_same_over_a_connection_or_with_its_own_nonces_locks_out() -> None:
    for transport, nonce_of in (("tcp", "nobody"), ("wss", "nobody"), ("udp", ATTACKER)):
        gateway = Gateway()
        for _ in range(10):
            flow = FakeFlow((ATTACKER, 5060), transport)
            assert gateway.receive(flow, "alice", "guess", gateway.challenge(nonce_of)) != "ignored"
        assert gateway.log_in(ATTACKER, "alice", transport) == "ignored"
        assert gateway.log_in(ALICE_HOME, "alice") == "ok"


def test_a_phone_that_has_changed_networks_has_not_failed() -> None:
    gateway = Gateway()
    challenges = gateway.challenge(ALICE_HOME)
    for _ in range(50):
        assert gateway.receive(FakeFlow((ATTACKER, 1), "wss"), "alice", "right", challenges) == "stale"
    assert not gateway.signalling.rejected
    assert gateway.log_in(ATTACKER, "alice", "wss") == "ok"


@pytest.mark.parametrize("host", [PBX, LISTED])
def test_a_pbx_s_own_address_is_never_locked_out_but_others_names_are(host: str) -> None:
    gateway = Gateway()
    for user in ("branch", "alice"):
        for _ in range(150):
            gateway.receive(FakeFlow((host, 5060)), user, "guess", gateway.challenge(host))
    assert gateway.log_in(host, "alice") == "ignored"
    assert not gateway.guard.shuts_out(host)
    if host == PBX:
        assert gateway.log_in(host, "branch") == "ok"
    call = Message.request("INVITE", "sip:1@gw.example", [("From", "<sip:alice@pbx>;tag=1"), ("To", "<sip:1@gw>")])
    assert not gateway.guard.ignores(call, FakeFlow((host, 5060))), "its callers are whoever they are"  # type: ignore[arg-type]


def test_an_address_that_becomes_a_pbx_s_is_listened_to_again() -> None:
    gateway = Gateway()
    for _ in range(10):
        gateway.receive(FakeFlow((ATTACKER, 5060)), "alice", "guess", gateway.challenge(ATTACKER))
    assert gateway.guard.shuts_out(ATTACKER)
    gateway.connect("new", Registered(ATTACKER))
    assert not gateway.guard.shuts_out(ATTACKER)
    assert gateway.log_in(ATTACKER, "branch") == "ok"


HOSTS = st.sampled_from([PBX, LISTED, ALICE_HOME, ATTACKER, "2001:db8::1", "2001:db8::2"])
ATTEMPT = st.tuples(
    st.sampled_from(["forged", "own nonce", "connection"]),
    HOSTS,
    st.sampled_from(["alice", "branch", "nobody", "carrier"]),
    st.sampled_from([0.0, 1.0, 20.0, 100.0]),
)


@given(st.lists(ATTEMPT, max_size=80))
def test_whatever_is_tried_the_right_ones_get_in_and_brute_force_does_not(
    attempts: list[tuple[str, str, str, float]],
) -> None:
    """Forged attempts may come from every address; real ones only from where the attacker is."""
    gateway = Gateway()
    real: list[float] = []
    for how, host, user, pause in attempts:
        gateway.time += pause
        if how == "forged":
            gateway.receive(
                FakeFlow((host, 5060)), user, "guess", gateway.challenge(ATTACKER if host != ATTACKER else PBX)
            )
            continue
        flow = FakeFlow((ATTACKER, 5060), "udp" if how == "own nonce" else "tcp")
        if gateway.receive(flow, user, "guess", gateway.challenge(ATTACKER)) != "ignored":
            real.append(gateway.time)
        else:
            assert len(real) >= 10
            assert real[-1] - real[-10] <= 300, "nobody is locked out for less"
    assert gateway.log_in(PBX, "branch") == "ok"
    assert gateway.log_in(ALICE_HOME, "alice") == "ok"
    assert gateway.log_in("2001:db8::1", "alice") == "ok"
    tenth = [end for start, end in zip(real, real[9:], strict=False) if end - start <= 300]
    locked = any(gateway.time < end + 600 for end in tenth)
    assert (gateway.log_in(ATTACKER, "alice") == "ignored") == locked
