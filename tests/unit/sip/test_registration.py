"""Our registration with a PBX: RFC 3261 section 10.2, like a good desk phone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.sip import Message, response_to
from siperb_core.sip.digest import DigestServer
from siperb_core.sip.registrar import Registrar
from siperb_core.sip.registration import (
    RefreshFailed,
    Registered,
    RegistrationClient,
    RegistrationEffect,
    RegistrationSettings,
    Rejected,
    SendRegister,
    Unregistered,
    WakeAt,
)

SETTINGS = RegistrationSettings(
    registrar="sip:pbx.example.com",
    aor="sip:200@pbx.example.com",
    contact="sip:k3y@192.0.2.1:5060",
    username="200",
    password="secret",
    display="Alice",
    route=("<sip:proxy.example.com;lr>",),
    user_agent="Siperb",
)


def make(settings: RegistrationSettings = SETTINGS) -> RegistrationClient:
    tokens = itertools.count(1)
    return RegistrationClient(settings, lambda: f"t{next(tokens)}")


def sent(effects: Sequence[RegistrationEffect]) -> Message:
    """The REGISTER, and nothing beside it."""
    (effect,) = effects
    assert isinstance(effect, SendRegister)
    return effect.message


def ok(request: Message, *headers: tuple[str, str]) -> Message:
    return response_to(request, 200, headers=headers or [("Contact", request.get("Contact") or "")])


def challenge(request: Message, nonce: str, *, stale: bool = False, status: int = 401, realm: str = "pbx") -> Message:
    value = f'Digest realm="{realm}", nonce="{nonce}", qop="auth", algorithm=MD5' + (", stale=true" if stale else "")
    name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    return response_to(request, status, headers=[(name, value)])


def registered(client: RegistrationClient, now: float = 1000) -> Message:
    request = sent(client.start(now))
    client.response(ok(request), now)
    assert client.state == "registered"
    return request


def test_the_request() -> None:
    request = sent(make().start(1000))
    assert request.method == "REGISTER"
    assert request.uri == "sip:pbx.example.com"
    assert request.get("From") == '"Alice" <sip:200@pbx.example.com>;tag=t2'
    assert request.get("To") == '"Alice" <sip:200@pbx.example.com>'
    assert request.get("Contact") == "<sip:k3y@192.0.2.1:5060>;expires=300"
    assert request.get("Expires") == "300"
    assert request.get("Route") == "<sip:proxy.example.com;lr>"
    assert request.get("User-Agent") == "Siperb"
    assert request.get("Via") is None, "the transaction layer's"
    assert request.get("Authorization") is None


class TestExpiry:
    @pytest.mark.parametrize(
        ("contacts", "expires", "granted"),
        [
            (["<sip:k3y@192.0.2.1:5060>;expires=120"], None, 120),
            (["<sip:k3y@192.0.2.1:5060>;expires=120"], "200", 120),
            (["<sip:k3y@192.0.2.1:5060>"], "200", 200),
            (["<sip:other@192.0.2.9>;expires=10", "<sip:k3y@192.0.2.1:5060>;expires=120"], None, 120),
            (["<sip:k3y@203.0.113.5:1024>;expires=90"], None, 90),
            (["<sip:k3y@198.51.100.1>;expires=10", "<sip:k3y@192.0.2.1:5060>;expires=120"], None, 120),
            (["<sip:other@192.0.2.9>;expires=10"], "150", 150),
            (["<sip:other@192.0.2.9>;expires=10"], None, 300),
            ([], None, 300),
            (["<sip:k3y@192.0.2.1:5060>;expires=soon"], None, 300),
            (["<broken"], "100", 300),
        ],
    )
    def test_the_registrar_decides(self, contacts: list[str], expires: str | None, granted: int) -> None:
        client = make()
        headers = [("Contact", contact) for contact in contacts]
        headers += [] if expires is None else [("Expires", expires)]
        effects = client.response(response_to(sent(client.start(1000)), 200, headers=headers), 1000)
        assert isinstance(effects[0], Registered)
        assert effects[0].expires_at == 1000 + granted == client.expires_at

    @pytest.mark.parametrize(("granted", "after"), [(300, 255), (3600, 255), (60, 30), (90, 45), (100, 55), (2, 1)])
    def test_refreshed_before_it_runs_out(self, granted: int, after: int) -> None:
        client = make()
        request = sent(client.start(1000))
        effects = client.response(ok(request, ("Contact", f"<sip:k3y@192.0.2.1:5060>;expires={granted}")), 1000)
        assert effects == [Registered(1000 + granted), WakeAt(1000 + after)]
        assert client.tick(1000 + after - 0.5) == [WakeAt(1000 + after)]
        refresh = sent(client.tick(1000 + after))
        assert refresh.call_id == request.call_id
        assert refresh.cseq.number == request.cseq.number + 1
        assert client.state == "refreshing"
        assert client.tick(1000 + after + 1) == []

    def test_no_time_at_all_is_a_failure(self) -> None:
        client = make()
        effects = client.response(ok(sent(client.start(0)), ("Contact", "<sip:k3y@192.0.2.1:5060>;expires=0")), 0)
        assert [type(effect) for effect in effects] == [Rejected]

    def test_service_route_and_path(self) -> None:
        client = make()
        headers = (("Service-Route", "<sip:a;lr>, <sip:b;lr>"), ("Path", "<sip:p;lr>"))
        effects = client.response(ok(sent(client.start(0)), *headers), 0)
        assert effects[0] == Registered(300, ("<sip:a;lr>", "<sip:b;lr>"), ("<sip:p;lr>",))


class TestChallenge:
    def test_answered_once(self) -> None:
        client = make()
        first = sent(client.start(0))
        second = sent(client.response(challenge(first, "n1"), 0))
        assert second.cseq.number == first.cseq.number + 1
        assert second.call_id == first.call_id
        assert 'username="200"' in (second.get("Authorization") or "")
        assert 'uri="sip:pbx.example.com"' in (second.get("Authorization") or "")
        (rejected,) = client.response(challenge(second, "n1"), 0)
        assert rejected == Rejected("auth", 401, "Unauthorized: wrong username or password")
        assert client.state == "idle"

    def test_a_new_nonce_is_no_reason_to_hammer(self) -> None:
        client = make()
        second = sent(client.response(challenge(sent(client.start(0)), "n1"), 0))
        (rejected,) = client.response(challenge(second, "n2"), 0)
        assert isinstance(rejected, Rejected)
        assert rejected.kind == "auth"

    def test_a_stale_nonce_is_answered_again_but_not_for_ever(self) -> None:
        client = make()
        request = sent(client.start(0))
        for i in range(3):
            request = sent(client.response(challenge(request, f"n{i}", stale=i > 0), 0))
        (rejected,) = client.response(challenge(request, "n9", stale=True), 0)
        assert isinstance(rejected, Rejected)

    def test_stale_with_the_same_nonce_is_a_refusal(self) -> None:
        client = make()
        second = sent(client.response(challenge(sent(client.start(0)), "n1"), 0))
        (rejected,) = client.response(challenge(second, "n1", stale=True), 0)
        assert isinstance(rejected, Rejected)

    def test_every_refresh_may_be_challenged_and_counts_a_known_nonce_on(self) -> None:
        client = make()
        second = sent(client.response(challenge(sent(client.start(0)), "n1"), 0))
        assert "nc=00000001" in (second.get("Authorization") or "")
        client.response(ok(second), 0)
        refresh = sent(client.tick(255))
        assert refresh.get("Authorization") is None
        again = sent(client.response(challenge(refresh, "n1"), 255))
        assert "nc=00000002" in (again.get("Authorization") or "")

    def test_a_proxy_and_the_registrar_may_both_ask(self) -> None:
        client = make()
        second = sent(client.response(challenge(sent(client.start(0)), "n1", status=407, realm="proxy"), 0))
        third = sent(client.response(challenge(second, "n2"), 0))
        assert 'realm="proxy"' in (third.get("Proxy-Authorization") or "")
        assert 'realm="pbx"' in (third.get("Authorization") or "")
        assert [type(effect) for effect in client.response(ok(third), 0)] == [Registered, WakeAt]

    def test_nothing_to_answer_with(self) -> None:
        client = make(RegistrationSettings("sip:p", "sip:a@p", "sip:c@h"))
        (rejected,) = client.response(challenge(sent(client.start(0)), "n1"), 0)
        assert isinstance(rejected, Rejected)
        assert rejected.kind == "auth"

    def test_nothing_that_can_be_answered(self) -> None:
        client = make()
        response = response_to(sent(client.start(0)), 401, headers=[("WWW-Authenticate", 'Basic realm="x"')])
        (rejected,) = client.response(response, 0)
        assert isinstance(rejected, Rejected)
        assert rejected.kind == "config"

    def test_realms_without_end_come_to_an_end(self) -> None:
        client = make()
        effects = client.start(0)
        for i in range(20):
            if isinstance(effects[0], Rejected):
                break
            effects = client.response(challenge(sent(effects), f"n{i}", realm=f"r{i}"), 0)
        assert isinstance(effects[0], Rejected)


class TestTooBrief:
    def test_asked_again_for_as_long_as_the_registrar_wants(self) -> None:
        client = make()
        second = sent(client.response(response_to(sent(client.start(0)), 423, headers=[("Min-Expires", "600")]), 0))
        assert second.get("Contact") == "<sip:k3y@192.0.2.1:5060>;expires=600"
        assert second.get("Expires") == "600"
        (rejected,) = client.response(response_to(second, 423, headers=[("Min-Expires", "900")]), 0)
        assert isinstance(rejected, Rejected)
        assert rejected.kind == "config"

    @pytest.mark.parametrize("value", ["", "x", "300", "10", "99999999999999"])
    def test_an_answer_that_makes_no_sense(self, value: str) -> None:
        client = make()
        (rejected,) = client.response(response_to(sent(client.start(0)), 423, headers=[("Min-Expires", value)]), 0)
        assert isinstance(rejected, Rejected)


class TestRefusal:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [(403, "auth"), (404, "config"), (302, "config"), (400, "temporary"), (500, "temporary"), (603, "temporary")],
    )
    def test_kinds(self, status: int, kind: str) -> None:
        client = make()
        (rejected,) = client.response(response_to(sent(client.start(0)), status), 0)
        assert isinstance(rejected, Rejected)
        assert (rejected.kind, rejected.status) == (kind, status)
        assert client.expires_at is None

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [("120 (maintenance);duration=60", 120), ("5", 5), ("99999999999", 86400), ("soon", None), ("", None)],
    )
    def test_retry_after(self, value: str, seconds: float | None) -> None:
        client = make()
        response = response_to(sent(client.start(0)), 503, headers=[("Retry-After", value)])
        (rejected,) = client.response(response, 0)
        assert isinstance(rejected, Rejected)
        assert rejected.retry_after == seconds

    def test_nobody_answers(self) -> None:
        client = make()
        client.start(0)
        assert client.timeout(32) == [Rejected("temporary", None, "no answer")]
        assert client.timeout(32) == []
        request = sent(client.start(40))
        assert request.cseq.number == 2

    def test_a_failed_refresh_is_tried_again_while_the_contact_lasts(self) -> None:
        client = make()
        registered(client)
        client.tick(1255)
        assert client.timeout(1287) == [RefreshFailed(None, "no answer", 1292), WakeAt(1292)]
        assert client.expires_at == 1300
        request = sent(client.tick(1292))
        assert client.response(response_to(request, 503), 1293) == [
            Rejected("temporary", 503, "Service Unavailable", None)
        ]
        assert client.expires_at is None

    def test_a_refused_refresh_is_not_tried_again(self) -> None:
        client = make()
        registered(client)
        (rejected,) = client.response(response_to(sent(client.tick(1255)), 403), 1255)
        assert isinstance(rejected, Rejected)
        assert rejected.kind == "auth"


class TestStop:
    def test_takes_the_contact_back(self) -> None:
        client = make()
        request = registered(client)
        goodbye = sent(client.stop(1100))
        assert goodbye.get("Contact") == "<sip:k3y@192.0.2.1:5060>;expires=0"
        assert goodbye.get("Expires") == "0"
        assert goodbye.call_id == request.call_id
        again = sent(client.response(challenge(goodbye, "n5"), 1100))
        assert again.get("Expires") == "0"
        assert client.response(response_to(again, 200), 1100) == [Unregistered()]
        assert client.stop(1100) == [Unregistered()]

    @pytest.mark.parametrize("status", [403, 404, 423, 500])
    def test_ends_whatever_the_registrar_says(self, status: int) -> None:
        client = make()
        registered(client)
        assert client.response(response_to(sent(client.stop(1100)), status), 1100) == [Unregistered()]

    def test_ends_when_nobody_answers(self) -> None:
        client = make()
        registered(client)
        client.stop(1100)
        assert client.timeout(1132) == [Unregistered()]

    def test_before_the_first_answer(self) -> None:
        """The registrar may have bound the contact already."""
        client = make()
        first = sent(client.start(0))
        goodbye = sent(client.stop(1))
        assert client.response(ok(first), 1) == [], "the answer to an earlier REGISTER"
        assert client.response(response_to(goodbye, 200), 1) == [Unregistered()]

    def test_with_nothing_to_take_back(self) -> None:
        assert make().stop(0) == [Unregistered()]


def test_the_password_is_not_in_the_repr() -> None:
    assert "secret" not in repr(SETTINGS)


def test_against_our_own_registrar() -> None:
    """A day of registration with digest, 255 s between refreshes; then goodbye."""
    digest = DigestServer("pbx", b"key", nonce_seconds=300)
    registrar = Registrar()
    client = make()
    now = 0.0
    effects = client.start(now)
    refreshes = 0
    while now < 86_400 or client.state != "idle":
        effect = effects[-1]
        if isinstance(effect, SendRegister):
            request = effect.message
            value = request.get("Authorization")
            if (
                value is None
                or not digest.verify(value, method="REGISTER", secret_of={"200": "secret"}.get, now=now).ok
            ):
                headers = [("WWW-Authenticate", text) for text in digest.challenge(now)]
                effects = client.response(response_to(request, 401, headers=headers), now)
            else:
                effects = client.response(registrar.register(request, "200", None, now).response, now)
        elif isinstance(effect, WakeAt):
            assert len(registrar.bindings("200")) == 1
            assert registrar.expire(effect.time) == []
            now = effect.time
            refreshes += 1
            effects = client.stop(now) if now >= 86_400 else client.tick(now)
        else:
            assert effect == Unregistered()
            break
    assert refreshes == 339
    assert registrar.bindings("200") == []


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("response"), st.sampled_from([100, 200, 302, 401, 403, 407, 423, 486, 500, 503, 603])),
        st.tuples(st.sampled_from(["start", "tick", "stop", "timeout"]), st.just(0)),
    ),
    max_size=40,
)


@given(EVENTS, st.data())
def test_no_sequence_of_events_breaks_it(events: list[tuple[str, int]], data: st.DataObject) -> None:
    """It never has two REGISTERs under way by its own will, never reuses a CSeq, and is never stuck: it waits for an
    answer, for a time to come, or is idle."""
    client = make()
    now = 0.0
    request: Message | None = None
    last_cseq = 0
    for name, status in events:
        now += data.draw(st.sampled_from([0.0, 1.0, 100.0, 400.0]))
        if name == "response":
            if request is None:
                continue
            headers = [("Min-Expires", "600"), ("Retry-After", "7"), ("Contact", request.get("Contact") or "")]
            text = f'Digest realm="{data.draw(st.sampled_from("ab"))}", nonce="{data.draw(st.sampled_from("123"))}"'
            headers += [("WWW-Authenticate", text), ("Proxy-Authenticate", text)]
            effects = client.response(response_to(request, status, headers=headers), now)
        else:
            effects = getattr(client, name)(now)
        for effect in effects:
            if isinstance(effect, SendRegister):
                request = effect.message
                assert request.cseq.number == last_cseq + 1
                last_cseq += 1
        if client.state == "registered" and effects:
            assert isinstance(effects[-1], WakeAt)
        if client.expires_at is not None:
            assert client.state in ("registered", "refreshing", "unregistering")
