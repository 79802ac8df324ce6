"""Foreign configurations, read: what becomes of each kind of section, what is remarked on, and garbage."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.cli.importing import as_toml, mistakes_of
from siperb_core.entries.foreign import ForeignError, Reading, read_foreign
from siperb_core.plugins import load_plugins

TYPES = load_plugins(only=("siperb_connection_types",)).connection_types

PJSIP = r"""
; the carrier, as FreePBX writes it
#include pjsip_custom.conf
[trunk](!)
type = endpoint
context = from-trunk      ; where calls go
dtmf_mode = info
disallow = all
allow = g722,alaw
allow = g729

[tls]
type = transport
protocol = tls
bind = 0.0.0.0:5061

[carrier]
type = registration
transport = tls
server_uri = sip:sip.carrier.example\;lr
client_uri = sip:4930123@carrier.example
outbound_auth = carrier
expiration = 20
retry_interval = 60

[carrier]
type = auth
username = account-77
password = pass\;word;the comment

[carrier](trunk)
outbound_auth = carrier
aors = carrier
media_encryption = sdes
[carrier]
type = aor
contact = sip:sip.carrier.example
[carrier]
type = identify
endpoint = carrier
match = 192.0.2.1/24,203.0.113.7

;-- all of this is a comment
[ghost]
type = endpoint
;-- even this --; --;

[door](trunk)
aors = door
from_user = 99
[door]
type = aor
contact = sip:10.0.0.1:5080
[door](+)
qualify_frequency = 30

[200](trunk)
auth = 200
aors = 200
[200]
type = auth
auth_type = userpass
username = 200
password = two-hundred-secret
[200]
type = aor
max_contacts = 1

[unused]
type = auth
username = x
[global]
type = global
"""

FREESWITCH = """<include>
  <X-PRE-PROCESS cmd="set" data="carrier=sip.carrier.example:5070"/>
  <gateway name="carrier">
    <param name="username" value="200"/>
    <param name="password" value="sec&amp;ret"/>
    <param name="realm" value="carrier.example"/>
    <param name="proxy" value="$${carrier}"/>
    <param name="expire-seconds" value="600"/>
    <param name="register-transport" value="tcp"/>
    <param name="context" value="public"/>
  </gateway>
  <gateway name="door station">
    <param name="proxy" value="10.0.0.1"/>
    <param name="register" value="false"/>
  </gateway>
</include>
"""

SIPERB = [
    {
        "Name": "Office A",
        "Type": "Outbound Registration",
        "DialPattern": "^2d{2}$",
        "Weight": "10",
        "AllowSrc": ["192.168.0.1/24"],
        "Method": "INVITE, MESSAGE",
        "Registration": {"Server": "pbx.example.com", "Port": 5060, "Username": "200", "Password": "two", "Foo": 1},
        "Enabled": False,
    },
    {"Name": "ISP", "Type": "Outbound Trunk", "DialPattern": ".", "Server": "203.0.113.1", "Transport": "tls"},
    {"Name": "Branch", "Type": "Inbound Registration", "Username": "b", "Password": "branch-secret"},
    {"Name": "Odd", "Type": "Carrier Pigeon"},
]


def by_name(reading: Reading) -> dict[str, Any]:
    return {found.name: found for found in reading.connections}


def remarks(reading: Reading) -> str:
    return "\n".join(f"{remark.line}: {remark.text}" for remark in reading.remarks)


def test_pjsip_registration_with_its_endpoint_and_identify() -> None:
    found = by_name(read_foreign(PJSIP.encode()))
    assert list(found) == ["carrier", "door", "200"]
    carrier = found["carrier"]
    assert carrier.type == "outbound_registration"
    assert carrier.settings == {
        "server": "sip.carrier.example",
        "transport": "tls",
        "username": "4930123",
        "from_domain": "carrier.example",
        "auth_username": "account-77",
        "password": "pass;word",
        "expires": 30,
    }
    assert carrier.keys == {
        "codecs": ["G722", "PCMA"],
        "allow_from": ["192.0.2.1/24", "203.0.113.7"],
        "dtmf": "info",
        "srtp": "sdes",
    }


def test_pjsip_endpoint_with_a_fixed_address_is_a_trunk() -> None:
    door = by_name(read_foreign(PJSIP.encode()))["door"]
    assert (door.type, door.keys["allow_from"]) == ("outbound_trunk", ["10.0.0.1"])
    assert door.settings == {"server": "10.0.0.1", "port": 5080, "from_user": "99"}


def test_pjsip_endpoint_that_registers_is_left_switched_off() -> None:
    phone = by_name(read_foreign(PJSIP.encode()))["200"]
    assert (phone.type, phone.keys["enabled"]) == ("inbound_registration", False)
    assert phone.settings == {"username": "200", "password": "two-hundred-secret"}


@pytest.mark.parametrize(
    ("stands", "remark"),
    [
        ("#include pjsip", "#include pjsip_custom.conf is not followed"),
        ("context = ", "context = from-trunk is not carried over: dial_pattern, weight and users decide"),
        ("allow = g729", 'codec "g729" is not carried over'),
        ("bind = ", "bind = 0.0.0.0:5061 is not carried over: listeners are [[listen]]"),
        ("expiration = ", "expiration 20 became 30"),
        ("retry_interval = ", "retry_interval = 60 is not carried over"),
        ("qualify_frequency = ", "qualify_frequency = 30 is not carried over"),
        ("[unused]", "[unused] (auth) is not carried over"),
        ("[global]", "[global] is not carried over"),
    ],
)
def test_pjsip_says_line_by_line_what_was_left(stands: str, remark: str) -> None:
    number = next(n for n, line in enumerate(PJSIP.splitlines(), 1) if line.startswith(stands))
    assert f"{number}: {remark}" in remarks(read_foreign(PJSIP.encode()))


def test_comments_over_several_lines_are_none_of_the_file() -> None:
    assert "ghost" not in remarks(read_foreign(PJSIP.encode()))


def test_freeswitch() -> None:
    reading = read_foreign(FREESWITCH.encode())
    found = by_name(reading)
    assert found["carrier"].type == "outbound_registration"
    assert found["carrier"].settings == {
        "server": "sip.carrier.example",
        "port": 5070,
        "transport": "tcp",
        "username": "200",
        "password": "sec&ret",
        "from_domain": "carrier.example",
        "expires": 600,
    }
    assert found["door-station"].type == "outbound_trunk"
    assert found["door-station"].keys["allow_from"] == ["10.0.0.1"]
    assert "10: context = public is not carried over" in remarks(reading)
    assert "12: the name" in remarks(reading)


def test_siperb_json() -> None:
    reading = read_foreign(json.dumps(SIPERB).encode())
    found = by_name(reading)
    office = found["Office-A"]
    assert office.type == "outbound_registration"
    assert office.keys == {
        "dial_pattern": "^2d{2}$",
        "weight": 10,
        "allow_from": ["192.168.0.1/24"],
        "methods": ["INVITE", "MESSAGE"],
        "enabled": False,
    }
    assert office.settings == {"server": "pbx.example.com", "port": 5060, "username": "200", "password": "two"}
    assert found["ISP"].keys["allow_from"] == ["203.0.113.1"]
    assert found["ISP"].settings["transport"] == "tls"
    assert found["Branch"].settings == {"username": "b", "password": "branch-secret"}
    text = remarks(reading)
    assert r"1: dial pattern ^2d{2}$ may have lost a backslash: write '^2\d{2}$'" in text
    assert '1: "Foo" is not carried over' in text
    assert "4: Type is none of" in text


@pytest.mark.parametrize("text", [PJSIP, FREESWITCH, json.dumps(SIPERB)])
def test_what_was_read_can_be_used_as_it_is(text: str) -> None:
    for found in read_foreign(text.encode()).connections:
        assert mistakes_of(found, TYPES) == []


def test_a_trunk_without_identify_is_called_from_where_it_is_called() -> None:
    text = "[a]\ntype=endpoint\naors=a\nmedia_encryption=sdes\n[a]\ntype=aor\ncontact=sip:pbx.example.com\n"
    reading = read_foreign(text.encode())
    assert reading.connections[0].keys == {"allow_from": ["pbx.example.com"]}
    assert "4: media_encryption = sdes is not carried over: the gateway has sdes, and over TLS only" in remarks(reading)
    assert mistakes_of(reading.connections[0], TYPES) == []


def test_one_that_lets_everyone_in_is_not_to_be_used() -> None:
    text = "[a]\ntype=endpoint\naors=a\n[a]\ntype=aor\ncontact=sip:192.0.2.1\n[a]\ntype=identify\nendpoint=a\n"
    (found,) = read_foreign(f"{text}match=0.0.0.0/1,128.0.0.0/1\n".encode()).connections
    assert "lets everyone in" in mistakes_of(found, TYPES)[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[]",
        "[1]",
        "<",
        "<include/>",
        "[general]\nkey=value",
        "\0\0",
        '<!DOCTYPE x [<!ENTITY a "aaaa">]><include><gateway name="&a;"/></include>',
        "<a>" * 100,
        '{"Name": ' * 100_000,
        "[" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_what_is_none_of_them_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ForeignError) as refused:
        read_foreign(text.encode())
    assert len(str(refused.value)) < 300


ENTITIES = {
    "laughs": '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>{}',
    "file": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>{}',
    "parameter": '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x.dtd"> %p;]>{}',
    "external": '<!DOCTYPE include SYSTEM "http://127.0.0.1:1/x.dtd">{}',
    "after-comment": "<!-- x --><?pi x?><!DOCTYPE x [<!ENTITY a 'x'>]>{}",
    "declared": '<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE x [<!ENTITY a "x">]>{}',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("kind", ENTITIES)
def test_entities_are_refused_in_every_encoding(kind: str, encoding: str) -> None:
    text = ENTITIES[kind].format('<include><gateway name="g"><param name="username" value="&a;"/></gateway></include>')
    with pytest.raises(ForeignError) as refused:
        read_foreign(text.encode(encoding))
    assert "root:" not in str(refused.value)


ASTERISK = r"""
; pjsip.conf of a small office: two carriers, a template for each kind of section
[transport-udp]
type=transport
protocol=udp
bind=0.0.0.0

[reg-defaults](!)
type=registration
transport=transport-udp
retry_interval=60
expiration=3600
line=yes

[endpoint-defaults](!)
type=endpoint
transport=transport-udp
context=from-external
disallow=all
allow=alaw,ulaw
direct_media=no

[auth-defaults](!)
type=auth
auth_type=userpass

[provider](reg-defaults)
endpoint=provider
outbound_auth=provider-auth
server_uri=sip:sip.provider.example:5080
client_uri=sip:4930555@sip.provider.example:5080

[provider-auth](auth-defaults)
username=4930555
password=Geh3im

[provider](endpoint-defaults)
outbound_auth=provider-auth
aors=provider
from_user=4930555
from_domain=sip.provider.example

[provider]
type=aor
contact=sip:sip.provider.example:5080

[provider]
type=identify
endpoint=provider
match=sip.provider.example
match=198.51.100.0/25
match=198.51.100.200,203.0.113.9
match_header=X-Provider: yes

[peer-pbx](endpoint-defaults)
allow=g722
aors=peer-pbx
[peer-pbx]
type=aor
contact=sip:10.1.2.3
[peer-pbx]
type=identify
endpoint=peer-pbx
match=10.1.2.0/24
"""


def test_pjsip_of_a_small_office() -> None:
    reading = read_foreign(ASTERISK.encode())
    found = by_name(reading)
    assert set(found) == {"provider", "peer-pbx"}
    provider, peer = found["provider"], found["peer-pbx"]
    assert (provider.type, peer.type) == ("outbound_registration", "outbound_trunk")
    assert (provider.settings["server"], provider.settings["port"]) == ("sip.provider.example", 5080)
    assert (provider.settings["username"], provider.settings["password"]) == ("4930555", "Geh3im")
    assert provider.settings["expires"] == 3600
    assert provider.keys["allow_from"] == [
        "sip.provider.example",
        "198.51.100.0/25",
        "198.51.100.200",
        "203.0.113.9",
    ]
    assert provider.keys["codecs"] == ["PCMA", "PCMU"]
    assert (peer.settings["server"], peer.keys["allow_from"]) == ("10.1.2.3", ["10.1.2.0/24"])
    assert peer.keys["codecs"] == ["PCMA", "PCMU", "G722"]
    for item in (provider, peer):
        assert mistakes_of(item, TYPES) == []
    told = remarks(reading)
    for what in ("match_header", "retry_interval", "context"):
        assert what in told


def test_size_and_number_are_bounded() -> None:
    with pytest.raises(ForeignError):
        read_foreign(b" " * (5 << 20))
    many = "".join(f"[a{n}]\ntype=endpoint\nauth=x\nfoo=bar\n" for n in range(8000))
    reading = read_foreign(many.encode())
    assert len(reading.connections) == 1000
    assert len(reading.remarks) <= 5000


def test_templates_that_inherit_themselves_do_not_grow_for_ever() -> None:
    chain = "[t0](!)\ntype=endpoint\nfoo=1\n" + "".join(
        f"[t{n}](!,{','.join([f't{n - 1}'] * 20)})\nfoo=1\n" for n in range(1, 60)
    )
    read_foreign((chain + "[e](t59)\nauth=x\n").encode())


SAMPLES = [PJSIP, FREESWITCH, json.dumps(SIPERB)]
MUTATED = st.builds(
    lambda text, at, length, insert: text[: at % len(text)] + insert + text[at % len(text) + length :],
    st.sampled_from(SAMPLES),
    st.integers(0, 10_000),
    st.integers(0, 200),
    st.text(max_size=20) | st.sampled_from(["[", "](+)", "=>", ";--", "--;", "\\;", "<", "&#0;", "]]>", '"', "null"]),
)


def usable_or_refused(data: bytes) -> None:
    """Nothing but ForeignError comes out, and what was read is TOML that can be judged."""
    try:
        reading = read_foreign(data)
    except ForeignError:
        return
    for found in reading.connections[:5]:
        assert as_toml(found)
        mistakes_of(found, TYPES)
    for remark in reading.remarks:
        assert remark.text.isprintable()
        assert remark.line >= 0


@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_garbage(data: bytes) -> None:
    usable_or_refused(data)


@given(MUTATED)
def test_damaged_files(text: str) -> None:
    usable_or_refused(text.encode("utf-8", "surrogatepass"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SIPERB[0], "Server"]), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*SIPERB[0], "Server", "Password", "Port", "Expires"]), JSON))
def test_json_of_any_shape(item: dict[str, Any]) -> None:
    usable_or_refused(json.dumps([{"Type": "Outbound Trunk", **item}]).encode())
