"""The registrar: RFC 3261 section 10.3, RFC 5626, RFC 3327."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.sip import Message, parse
from siperb_core.sip.gruu import is_temporary, mark_in, named_by
from siperb_core.sip.registrar import Binding, RegisterResult, Registrar

JSSIP = '<sip:x7@ab12cd.invalid;transport=ws>;+sip.ice;reg-id=1;+sip.instance="<urn:uuid:1>";expires=600'


@attrs.frozen
class FakeFlow:
    transport: str = "ws"
    reliable: bool = True
    remote: tuple[str, int] = ("192.0.2.2", 40000)
    local: tuple[str, int] = ("192.0.2.1", 8088)
    sent_by: str = "192.0.2.1:8088"

    def send(self, data: bytes) -> None:
        raise AssertionError("the core does not send")


FLOW = FakeFlow()


def register(*contacts: str, cseq: int = 1, call_id: str = "c1", headers: tuple[str, ...] = ()) -> Message:
    lines = [
        "REGISTER sip:sip.example.net SIP/2.0",
        "Via: SIP/2.0/WS x.invalid;branch=z9hG4bK1",
        "From: <sip:alice@sip.example.net>;tag=f",
        "To: <sip:alice@sip.example.net>",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} REGISTER",
        *(f"Contact: {contact}" for contact in contacts),
        *headers,
    ]
    return parse("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode())


def what(result: RegisterResult) -> list[tuple[str, str]]:
    return [(change.what, change.binding.contact) for change in result.changed]


@pytest.fixture
def registrar() -> Registrar:
    return Registrar()


def test_a_contact_is_bound_and_echoed_as_written(registrar: Registrar) -> None:
    result = registrar.register(register(JSSIP, headers=("User-Agent: JsSIP 3",)), "alice", FLOW, 1000)
    assert result.response.status == 200
    assert result.response.get("Contact") == JSSIP
    assert result.response.to_tag
    (binding,) = registrar.bindings("alice")
    assert what(result) == [("added", binding.contact)]
    assert attrs.asdict(binding, recurse=False, filter=attrs.filters.exclude("written")) == {
        "aor": "alice",
        "contact": "sip:x7@ab12cd.invalid;transport=ws",
        "instance": "<urn:uuid:1>",
        "reg_id": 1,
        "call_id": "c1",
        "cseq": 1,
        "expires_at": 1600,
        "flow": FLOW,
        "user_agent": "JsSIP 3",
        "path": (),
        "registered_at": 1000,
        "since": 1000,
    }
    assert registrar.next_expiry == 1600


def test_the_answer_lists_every_binding_with_what_is_left_of_it(registrar: Registrar) -> None:
    registrar.register(register("<sip:a@h1>;expires=100"), "alice", FLOW, 1000)
    result = registrar.register(
        register("sip:a@h2;q=0.5", call_id="c2", headers=("Expires: 200",)), "alice", FLOW, 1030
    )
    assert result.response.get_all("Contact") == ["<sip:a@h1>;expires=70", "<sip:a@h2>;q=0.5;expires=200"]
    asked = registrar.register(register(call_id="c3"), "alice", FLOW, 1040)
    assert asked.changed == []
    assert asked.response.get_all("Contact") == ["<sip:a@h1>;expires=60", "<sip:a@h2>;q=0.5;expires=190"]
    assert registrar.register(register(), "bob", FLOW, 1040).response.get("Contact") is None


@pytest.mark.parametrize(
    ("contact", "headers", "granted"),
    [
        ("<sip:a@h>", (), 300),
        ("<sip:a@h>", ("Expires: 120",), 120),
        ("<sip:a@h>;expires=90", ("Expires: 120",), 90),
        ("<sip:a@h>;expires=999999999999", (), 3600),
        ("<sip:a@h>", ("Expires: 86400",), 3600),
        ("<sip:a@h>;expires=soon", (), 3600),
        ("<sip:a@h>;expires=60", (), 60),
    ],
)
def test_expiry(registrar: Registrar, contact: str, headers: tuple[str, ...], granted: int) -> None:
    result = registrar.register(register(contact, headers=headers), "alice", FLOW, 1000)
    assert result.response.get("Contact") == f"<sip:a@h>;expires={granted}"
    assert registrar.next_expiry == 1000 + granted


def test_too_brief(registrar: Registrar) -> None:
    result = registrar.register(register("<sip:a@h1>", "<sip:a@h2>;expires=59"), "alice", FLOW, 1000)
    assert result.response.status == 423
    assert result.response.get("Min-Expires") == "60"
    assert result.changed == []
    assert registrar.bindings("alice") == [], "all contacts or none"


def test_refresh_by_uri(registrar: Registrar) -> None:
    registrar.register(register("<sip:a@Host.example;transport=UDP>"), "alice", FLOW, 1000)
    same = registrar.register(register("<sip:a@Host.example;transport=UDP>", cseq=2), "alice", FLOW, 1100)
    assert what(same) == [("refreshed", "sip:a@Host.example;transport=UDP")]
    respelt = registrar.register(register("<sip:%61@host.example;transport=udp>", cseq=3), "alice", FLOW, 1200)
    assert what(respelt) == [
        ("removed", "sip:a@Host.example;transport=UDP"),
        ("added", "sip:%61@host.example;transport=udp"),
    ]
    other = registrar.register(register("<sip:a@host.example:5070;transport=udp>", cseq=4), "alice", FLOW, 1200)
    assert [kind for kind, _ in what(other)] == ["added"]
    assert len(registrar.bindings("alice")) == len(registrar) == 2
    assert registrar.next_expiry == 1500


def test_a_nul_in_a_user_part_counts(registrar: Registrar) -> None:
    """RFC 4475 section 3.1.1.6: %00 and %00%00 are different users."""
    result = registrar.register(register("<sip:%00@host5.example.com>", "<sip:%00%00@host5.example.com>"), "a", FLOW, 0)
    assert len(result.response.get_all("Contact")) == 2


def test_a_reload_of_the_page_replaces_its_instance(registrar: Registrar) -> None:
    other_flow = FakeFlow(remote=("192.0.2.2", 40001))
    registrar.register(register(JSSIP), "alice", FLOW, 1000)
    result = registrar.register(register(JSSIP.replace("x7", "y8"), call_id="c2"), "alice", other_flow, 1010)
    assert what(result) == [("refreshed", "sip:y8@ab12cd.invalid;transport=ws")]
    assert len(result.response.get_all("Contact")) == 1
    assert registrar.drop_flow(FLOW) == [], "the binding has moved on"
    assert registrar.bindings("alice")[0].flow is other_flow


def test_two_flows_of_one_instance(registrar: Registrar) -> None:
    """RFC 5626: the same instance with another reg-id is another binding."""
    registrar.register(register(JSSIP), "alice", FLOW, 1000)
    registrar.register(register(JSSIP.replace("reg-id=1", "reg-id=2"), cseq=2), "alice", FLOW, 1000)
    assert [binding.reg_id for binding in registrar.bindings("alice")] == [1, 2]


def test_a_closed_flow_drops_its_bindings(registrar: Registrar) -> None:
    other_flow = FakeFlow(remote=("192.0.2.3", 40001))
    registrar.register(register(JSSIP), "alice", FLOW, 1000)
    registrar.register(register("<sip:b@h.invalid>"), "bob", FLOW, 1000)
    registrar.register(register("<sip:a@h2.invalid>", call_id="c2"), "alice", other_flow, 1000)
    assert sorted(change.binding.aor for change in registrar.drop_flow(FLOW)) == ["alice", "bob"]
    assert registrar.bindings("bob") == []
    assert [binding.flow for binding in registrar.bindings("alice")] == [other_flow]
    assert registrar.drop_flow(FLOW) == []


@pytest.mark.parametrize("contacts", [("<sip:a@h1>;expires=0",), ("*",)])
def test_unregister(registrar: Registrar, contacts: tuple[str, ...]) -> None:
    registrar.register(register("<sip:a@h1>"), "alice", FLOW, 1000)
    result = registrar.register(register(*contacts, cseq=2, headers=("Expires: 0",)), "alice", FLOW, 1001)
    assert result.response.status == 200
    assert result.response.get("Contact") is None
    assert what(result) == [("removed", "sip:a@h1")]
    assert registrar.next_expiry is None
    again = registrar.register(register(*contacts, cseq=3, headers=("Expires: 0",)), "alice", FLOW, 1001)
    assert (again.response.status, again.changed) == (200, [])


@pytest.mark.parametrize(
    "request_",
    [
        register("*", headers=("Expires: 10",)),
        register("*"),
        register("*", "<sip:a@h1>", headers=("Expires: 0",)),
        register("<sip:a@h1"),
        register("<sip:a@h1>", headers=("Expires: later",)),
        register("<sip:" + "a" * 2000 + "@h1>"),
        register(*(f"<sip:a@h{i}>" for i in range(11))),
        register("<sip:a@h1>", headers=('Path: "<sip:x',)),
    ],
)
def test_nonsense(registrar: Registrar, request_: Message) -> None:
    result = registrar.register(request_, "alice", FLOW, 1000)
    assert (result.response.status, result.changed) == (400, [])
    assert len(registrar) == 0


class TestOrder:
    """Section 10.3: within a Call-ID, only what is newer counts."""

    @pytest.mark.parametrize("cseq", [4, 5])
    @pytest.mark.parametrize("contact", ["<sip:a@h1>;expires=100", "<sip:a@h1>;expires=0", "*"])
    def test_an_overtaken_register_fails(self, registrar: Registrar, contact: str, cseq: int) -> None:
        registrar.register(register("<sip:a@h1>", cseq=5), "alice", FLOW, 1000)
        result = registrar.register(register(contact, cseq=cseq, headers=("Expires: 0",)), "alice", FLOW, 1001)
        assert (result.response.status, result.changed) == (500, [])
        assert registrar.bindings("alice")[0].expires_at == 1300

    def test_another_call_id_counts_whatever_its_number(self, registrar: Registrar) -> None:
        registrar.register(register("<sip:a@h1>", cseq=5), "alice", FLOW, 1000)
        result = registrar.register(register("<sip:a@h1>", cseq=1, call_id="c2"), "alice", FLOW, 1001)
        assert what(result) == [("refreshed", "sip:a@h1")]


def test_bindings_run_out(registrar: Registrar) -> None:
    registrar.register(register("<sip:a@h1>;expires=100"), "alice", FLOW, 1000)
    registrar.register(register("<sip:a@h2>;expires=200", call_id="c2"), "alice", FLOW, 1000)
    assert registrar.expire(1099) == []
    assert [change.binding.contact for change in registrar.expire(1100)] == ["sip:a@h1"]
    late = registrar.register(register("<sip:b@h>", call_id="c3"), "bob", FLOW, 1201)
    assert what(late) == [("removed", "sip:a@h2"), ("added", "sip:b@h")]


def test_one_more_than_the_most_pushes_out_the_longest_unrefreshed() -> None:
    registrar = Registrar(max_bindings=3)
    for i in range(3):
        registrar.register(register(f"<sip:a@h{i}>", call_id=f"c{i}"), "alice", FLOW, 1000 + i)
    registrar.register(register("<sip:a@h0>", call_id="c0", cseq=2), "alice", FLOW, 1010)
    result = registrar.register(register("<sip:a@h9>", call_id="c9"), "alice", FLOW, 1011)
    assert what(result) == [("added", "sip:a@h9"), ("removed", "sip:a@h1")]
    assert [binding.contact for binding in registrar.bindings("alice")] == ["sip:a@h2", "sip:a@h0", "sip:a@h9"]


def test_path_is_kept_and_told_to_who_asks(registrar: Registrar) -> None:
    path = ("Path: <sip:edge1.example.com;lr>, <sip:edge2.example.com;lr>",)
    silent = registrar.register(register("<sip:a@h1>", headers=path), "alice", FLOW, 1000)
    assert silent.response.get("Path") is None
    assert registrar.bindings("alice")[0].path == ("<sip:edge1.example.com;lr>", "<sip:edge2.example.com;lr>")
    told = registrar.register(register("<sip:a@h1>", cseq=2, headers=(*path, "Supported: path")), "alice", FLOW, 1000)
    assert told.response.get("Path") == "<sip:edge1.example.com;lr>, <sip:edge2.example.com;lr>"


def test_outbound_is_confirmed_to_who_asks(registrar: Registrar) -> None:
    plain = registrar.register(register(JSSIP), "alice", FLOW, 1000)
    assert plain.response.get("Require") is None
    asked = registrar.register(register(JSSIP, cseq=2, headers=("Supported: path, outbound",)), "alice", FLOW, 1000)
    assert asked.response.get("Require") == "outbound"


def test_restored_bindings_stand_in_order_and_in_the_list(registrar: Registrar) -> None:
    stored = Binding("alice", "sip:x7@ab12cd.invalid;transport=ws", "<urn:uuid:1>", 1, "c1", 5, 1500)
    registrar.restore([stored, Binding("bob", "sip:b@h", expires_at=900)])
    assert [change.binding.aor for change in registrar.expire(1000)] == ["bob"]
    assert registrar.register(register(JSSIP, cseq=5), "alice", FLOW, 1000).response.status == 500
    asked = registrar.register(register(call_id="c2"), "alice", FLOW, 1000).response.get("Contact")
    assert asked == '<sip:x7@ab12cd.invalid;transport=ws>;+sip.instance="<urn:uuid:1>";reg-id=1;expires=500'
    result = registrar.register(register(JSSIP, cseq=6), "alice", FLOW, 1000)
    assert what(result) == [("refreshed", "sip:x7@ab12cd.invalid;transport=ws")]
    assert registrar.bindings("alice")[0].flow is FLOW
    assert len(registrar) == 1


def test_the_same_request_gets_the_same_tag(registrar: Registrar) -> None:
    tags = [registrar.register(register("<sip:a@h>", cseq=n), "alice", FLOW, 0).response.to_tag for n in (1, 1, 2)]
    assert tags[0] == tags[1] != tags[2]


UUID = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
PHONE = f'<sip:x7@ab12cd.invalid;transport=ws>;+sip.ice;reg-id=1;+sip.instance="<{UUID}>";expires=600'
GRUU = ("Supported: path,gruu,outbound",)


def test_who_asks_for_a_gruu_gets_that_of_its_own_instance(registrar: Registrar) -> None:
    """RFC 5627 section 5.3."""
    other = PHONE.replace("f81d", "0000").replace("x7", "y8")
    registrar.register(register(other, call_id="c2", headers=GRUU), "alice web", FLOW, 1000, "gw.example")
    result = registrar.register(register(PHONE, headers=GRUU), "alice web", FLOW, 1000, "gw.example")
    gruu = f"sip:alice%20web@gw.example;gr={UUID}"
    assert result.response.get_all("Contact") == [other, f'{PHONE};pub-gruu="{gruu}"']
    assert named_by(gruu, "GW.example") == ("alice web", f"<{UUID}>")
    asked = registrar.register(register(call_id="c3", headers=GRUU), "alice web", FLOW, 1000, "gw.example")
    assert asked.response.get_all("Contact") == [other, PHONE]


@pytest.mark.parametrize(
    ("contact", "headers", "domain"),
    [
        (PHONE, (), "gw.example"),
        (PHONE, GRUU, ""),
        ("<sip:x7@ab12cd.invalid>;expires=600", GRUU, "gw.example"),
        ('<sip:x7@ab12cd.invalid>;+sip.instance="<urn:a b>";expires=600', GRUU, "gw.example"),
        ('<sip:x7@ab12cd.invalid>;+sip.instance="<urn:a;lr>";expires=600', GRUU, "gw.example"),
        ('<sip:x7@ab12cd.invalid>;+sip.instance="none";expires=600', GRUU, "gw.example"),
    ],
)
def test_no_gruu(registrar: Registrar, contact: str, headers: tuple[str, ...], domain: str) -> None:
    result = registrar.register(register(contact, headers=headers), "alice", FLOW, 1000, domain)
    assert result.response.get_all("Contact") == [contact]


def test_a_gruu_of_the_phones_own_making_is_not_echoed(registrar: Registrar) -> None:
    """RFC 5627 section 5.1."""
    made_up = f'{PHONE};pub-gruu="sip:bob@gw.example;gr=1";temp-gruu="sip:t@gw.example;gr"'
    result = registrar.register(register(made_up), "alice", FLOW, 1000, "gw.example")
    assert result.response.get_all("Contact") == [PHONE]


@pytest.mark.parametrize(
    "uri",
    [
        "sip:alice@gw.example",
        "sip:alice@gw.example;gr",
        f"sip:alice@pbx.example;gr={UUID}",
        "tel:+49301234",
        "tel:+49301234;gr=1",
        "sip:",
    ],
)
def test_what_is_no_gruu_of_ours(uri: str) -> None:
    assert named_by(uri, "gw.example") is None


class TestTemporaryGruus:
    """RFC 5627 sections 3.2 and 5.3: unlinkable, and good as long as the contact keeps its Call-ID."""

    @pytest.fixture
    def registrar(self) -> Registrar:
        return Registrar(gruu_key=b"key")

    def given(
        self, registrar: Registrar, now: float = 1000, contact: str = JSSIP, aor: str = "alice", **more: Any
    ) -> str:
        request = register(contact, headers=("Supported: gruu",), **more)
        result = registrar.register(request, aor, FLOW, now, "gw.example")
        assert result.response.status == 200
        return next((contact.param("temp-gruu") or "" for contact in result.response.contacts), "")

    def test_another_at_every_register_and_all_of_them_lead_to_the_contact(self, registrar: Registrar) -> None:
        gruus = [self.given(registrar, cseq=cseq, now=1000 + cseq) for cseq in range(1, 30)]
        assert len(set(gruus)) == 29
        (binding,) = registrar.bindings("alice")
        assert all(registrar.temporarily(gruu, "gw.example") is binding for gruu in gruus)
        assert (
            registrar.temporarily(gruus[0].upper().replace("SIP:", "sip:").replace(";GR", ";gr"), "GW.example")
            is binding
        )
        for gruu in gruus:
            assert is_temporary(gruu, "gw.example")
            assert named_by(gruu, "gw.example") is None
            assert "alice" not in gruu

    def test_nothing_of_two_shows_that_they_are_of_one_phone(self, registrar: Registrar) -> None:
        tokens = [self.given(registrar, cseq=cseq).partition(".")[2].partition("@")[0] for cseq in range(1, 200)]
        for place in range(len(tokens[0])):
            assert len({token[place] for token in tokens}) > 1

    def test_a_new_call_id_is_their_end_and_so_is_going_away(self, registrar: Registrar) -> None:
        first = self.given(registrar)
        second = self.given(registrar, call_id="c2")
        assert registrar.temporarily(first, "gw.example") is None
        assert registrar.temporarily(second, "gw.example") is not None
        assert self.given(registrar, contact=JSSIP.replace("600", "0"), call_id="c2", cseq=2, now=1001) == ""
        assert registrar.temporarily(second, "gw.example") is None
        again = self.given(registrar, call_id="c2", cseq=3, now=1002)
        assert registrar.temporarily(second, "gw.example") is None, "not even where the Call-ID comes back"
        assert registrar.temporarily(again, "gw.example") is not None
        registrar.expire(2000)
        assert registrar.temporarily(again, "gw.example") is None
        assert not registrar._marks

    def test_they_are_good_over_a_restart(self, registrar: Registrar) -> None:
        gruu = self.given(registrar)
        other = Registrar(gruu_key=b"key")
        other.restore(registrar.bindings("alice"))
        assert other.temporarily(gruu, "gw.example") is not None

    def test_what_is_none(self, registrar: Registrar) -> None:
        gruu = self.given(registrar)
        token = gruu.partition(".")[2].partition("@")[0]
        flipped = ("b" if token[0] == "a" else "a") + token[1:]
        tokens = (flipped, "", "1", "a" * 48)
        others = (gruu.replace(";gr", ""), gruu.replace(";gr", ";gr=x"), gruu.replace("gw.example", "other"))
        for uri in (*(gruu.replace(token, other) for other in tokens), *others, "", "tel:1"):
            assert registrar.temporarily(uri, "gw.example") is None
        assert mark_in(b"another key", gruu, "gw.example") is None
        assert Registrar().temporarily(gruu, "gw.example") is None


@given(st.text(max_size=60))
def test_noise_is_no_temporary_gruu(text: str) -> None:
    assert mark_in(b"key", f"sip:tgruu.{text}@gw.example;gr", "gw.example") is None
