"""TURN servers of provisioned softphones: credentials as coturn checks them, no longer than they hold."""

from __future__ import annotations

import hmac
from base64 import b64decode
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.entries.diagnostics import redacted, secrets_of
from siperb_core.entries.model import MediaConfig, Secret
from siperb_core.entries.source import load_text
from siperb_core.entries.turn import credentials, ice_servers

SECRET = "north-of-the-wall"
TURN = MediaConfig(turn=("stun:turn.example.com", "turn:turn.example.com?transport=udp"), turn_secret=Secret(SECRET))


def coturn_takes(username: str, password: str, secret: str, now: float) -> bool:
    """As coturn does (`use-auth-secret`): the time in the name must not have passed, and the name be signed."""
    expires, _, _ = username.partition(":")
    return int(expires) >= now and b64decode(password) == hmac.new(secret.encode(), username.encode(), "sha1").digest()


def test_a_known_pair() -> None:
    assert credentials("s3cret", "alice", 1700000000)[0] == "1700000000:alice"
    assert len(b64decode(credentials("s3cret", "alice", 1700000000)[1])) == 20


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True),
    st.integers(0, 4_000_000_000),
    st.integers(600, 604800),
    st.floats(0, 2_000_000),
)
def test_credentials_hold_until_they_expire_and_not_a_second_longer(
    secret: str, user: str, now: int, ttl: int, later: float
) -> None:
    media = attrs.evolve(TURN, turn_secret=Secret(secret), turn_ttl=ttl)
    open_to_all, relay = ice_servers(media, user, now + 0.5)
    assert open_to_all == {"urls": ["stun:turn.example.com"]}
    assert relay["urls"] == ["turn:turn.example.com?transport=udp"]
    name, password = relay["username"], relay["credential"]
    assert name.endswith(f":{user}")
    assert coturn_takes(name, password, secret, now + later) is (later <= ttl)
    assert not coturn_takes(name, password, secret + "x", now)
    assert not coturn_takes(f"{int(name.partition(':')[0]) + 1}:{user}", password, secret, now)


def test_without_servers_there_are_none() -> None:
    assert ice_servers(MediaConfig(), "alice", 1000.0) == []


def test_the_secret_is_in_no_text() -> None:
    assert SECRET not in repr(TURN)
    assert SECRET not in str(redacted(TURN))
    assert SECRET in secrets_of(TURN)
    assert SECRET not in str(ice_servers(TURN, "alice", 1000.0))


def configured(media: str) -> tuple[MediaConfig | None, list[str]]:
    text = f'[gateway]\ndomain = "gw.example"\n[media]\n{media}\n'
    result = load_text(text.encode(), Path("siperb.toml"), {}, private=True)
    return (result.config.media if result.config else None), [problem.path for problem in result.problems]


def test_the_file_names_servers_and_secret() -> None:
    media, problems = configured(
        'turn = ["turns:turn.example.com:5349?transport=tcp", "turn:[2001:db8::1]:3478", "stun:192.0.2.1"]\n'
        f'turn_secret = "{SECRET}"\nturn_ttl = 3600'
    )
    assert problems == []
    assert media is not None
    assert (media.turn_secret.reveal(), media.turn_ttl, len(media.turn)) == (SECRET, 3600, 3)
    assert configured('turn = ["stun:192.0.2.1"]')[1] == []


@pytest.mark.parametrize(
    ("media", "path"),
    [
        ('turn = ["turn.example.com"]\nturn_secret = "x"', "media.turn"),
        ('turn = ["http://turn.example.com"]\nturn_secret = "x"', "media.turn"),
        ('turn = ["turn:turn.example.com?transport=sctp"]\nturn_secret = "x"', "media.turn"),
        ('turn = ["stun:turn.example.com?transport=udp"]', "media.turn"),
        ('turn = ["turn:turn.example.com"]', "media.turn_secret"),
        ('turn = ["turn:turn.example.com"]\nturn_secret = "x"\nturn_ttl = 1', "media.turn_ttl"),
    ],
)
def test_a_mistake_is_named(media: str, path: str) -> None:
    assert configured(media) == (None, [path])
