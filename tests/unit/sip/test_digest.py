"""Digest authentication, both sides: RFC 3261 section 22, RFC 7616, RFC 8760."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.sip.digest import DigestResult, DigestServer, answer_challenge, by_strength, parse_challenge

PASSWORDS = {"alice": "secret", "bob": "hunter2"}


def server(**options: object) -> DigestServer:
    return DigestServer("sip.example.net", b"0123456789abcdef", **options)  # type: ignore[arg-type]


def answer(challenges: tuple[str, ...] | list[str], **changes: object) -> str:
    arguments = {
        "method": "REGISTER",
        "uri": "sip:sip.example.net",
        "username": "alice",
        "password": "secret",
        "cnonce": "c0",
    }
    value = answer_challenge(challenges, **{**arguments, **changes})  # type: ignore[arg-type]
    assert value is not None
    return value


class TestKnownAnswers:
    def test_rfc_7616_section_3_9_1(self) -> None:
        common = (
            'Digest realm="http-auth@example.org", qop="auth, auth-int", '
            'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
            'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS", algorithm='
        )
        arguments = {
            "method": "GET",
            "uri": "/dir/index.html",
            "username": "Mufasa",
            "password": "Circle of Life",
            "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        }
        sha, md5 = common + "SHA-256", common + "MD5"
        expected = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        assert f'response="{expected}"' in answer([sha, md5], **arguments)
        assert f'response="{expected}"' in answer([md5, sha], **arguments), "the strongest, not the first"
        assert 'response="8ca523f5e9506fed4657c9700eebdbec"' in answer([md5], **arguments)

    def test_rfc_2069_without_qop(self) -> None:
        """The example of RFC 2069 section 2.4, as its errata correct it."""
        challenge = (
            'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
            'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
        )
        value = answer(
            [challenge],
            method="GET",
            uri="/dir/index.html",
            username="Mufasa",
            password="CircleOfLife",
        )
        assert 'response="1949323746fe6a43ef61f9606e7febea"' in value
        assert 'opaque="5ccc069c403ebaf9f0171e9517f40e41"' in value
        for absent in ("qop", "nc=", "cnonce", "algorithm"):
            assert absent not in value


class TestClient:
    def test_form_of_the_answer(self) -> None:
        value = answer(
            ['Digest realm="r", nonce="n", qop="auth,auth-int", algorithm=MD5, opaque=""'],
            nonce_count=0x1F,
            uri="sip:r",
        )
        for part in ("algorithm=MD5", "qop=auth,", "nc=0000001f", 'cnonce="c0"', 'opaque=""', 'uri="sip:r"'):
            assert part in value + ","

    @pytest.mark.parametrize(
        "challenge",
        [
            'Basic realm="r"',
            "Digest",
            'Digest realm="r"',
            'Digest nonce="n"',
            'Digest realm="r", nonce="n", algorithm=AKAv1-MD5',
            'Digest realm="r", nonce="n", qop="other"',
            'Digest realm="r", nonce="n',
            'Digest realm="r", nonce="n" nonsense',
            'Digest realm="r", nonce="n", nonce="m"',
            'Digest realm="r", nonce="n", opaque="' + "x" * 5000 + '"',
        ],
    )
    def test_what_cannot_be_answered(self, challenge: str) -> None:
        arguments = {"method": "REGISTER", "uri": "sip:r", "username": "a", "password": "b", "cnonce": "c"}
        assert answer_challenge([challenge], **arguments) is None  # type: ignore[arg-type]
        other = 'Digest realm="r", nonce="n", algorithm=MD5'
        assert answer_challenge([challenge, other], **arguments) is not None  # type: ignore[arg-type]

    def test_stale_is_read(self) -> None:
        for text, stale in (("stale=TRUE", True), ('stale="true"', True), ("stale=false", False), ("x=y", False)):
            challenge = parse_challenge(f'digest  realm="r",nonce="n" , {text}')
            assert challenge is not None
            assert challenge.stale is stale

    def test_auth_int_covers_the_body(self) -> None:
        challenge = ['Digest realm="r", nonce="n", qop="auth-int", algorithm=SHA-256']
        assert "qop=auth-int" in answer(challenge, body=b"one")
        assert answer(challenge, body=b"one") != answer(challenge, body=b"two")


class TestServer:
    @pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256"])
    def test_the_right_password_is_let_in(self, algorithm: str) -> None:
        digest = server(algorithms=(algorithm,))
        result = digest.verify(answer(digest.challenge(1000)), method="REGISTER", secret_of=PASSWORDS.get, now=1001)
        assert result.ok
        assert result.username == "alice"
        assert not result.stale

    def test_one_challenge_for_each_algorithm_and_md5_first_for_browsers(self) -> None:
        first, second = server().challenge(1000)
        assert "algorithm=MD5" in first
        assert "algorithm=SHA-256" in second

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"password": "wrong"}, "wrong username or password"),
            ({"username": "mallory"}, "wrong username or password"),
            ({"username": "mallory", "password": ""}, "wrong username or password"),
            ({"method": "INVITE"}, "wrong username or password"),
        ],
    )
    def test_others_are_not(self, changes: dict[str, object], reason: str) -> None:
        digest = server()
        result = digest.verify(
            answer(digest.challenge(1000), **changes), method="REGISTER", secret_of=PASSWORDS.get, now=1001
        )
        assert not result.ok
        assert not result.stale
        assert result.reason == reason

    @pytest.mark.parametrize(
        ("old", "new", "reason"),
        [
            ("Digest ", "Basic ", "malformed credentials"),
            ("Digest ", "Digest =", "malformed credentials"),
            ('realm="sip.example.net"', 'realm="other"', "wrong realm"),
            ("qop=auth,", "", "no qop"),
            ("nc=00000001", "nc=1", "malformed nonce count"),
            ("algorithm=SHA-256", "algorithm=SHA-512-256", "algorithm not offered"),
        ],
    )
    def test_what_is_wrong_is_said(self, old: str, new: str, reason: str) -> None:
        digest = server()
        value = answer(digest.challenge(1000))
        assert old in value
        result = digest.verify(value.replace(old, new), method="REGISTER", secret_of=PASSWORDS.get, now=1001)
        assert (result.ok, result.reason) == (False, reason)

    def test_unknown_users_are_worked_on_like_known_ones(self) -> None:
        asked = []

        def secret_of(name: str) -> str | None:
            asked.append(name)
            return PASSWORDS.get(name)

        digest = server()
        results = [
            digest.verify(
                answer(digest.challenge(1), username=name, password="x"), method="REGISTER", secret_of=secret_of, now=1
            )
            for name in ("alice", "nobody")
        ]
        assert asked == ["alice", "nobody"]
        assert results[0].reason == results[1].reason

    def test_an_old_nonce_with_the_right_password_is_stale(self) -> None:
        digest = server(nonce_seconds=300)
        value = answer(digest.challenge(1000))
        assert digest.verify(value, method="REGISTER", secret_of=PASSWORDS.get, now=1301).stale
        assert all("stale=true" in value for value in digest.challenge(1301, stale=True))

    @pytest.mark.parametrize(
        ("edit", "source", "now"),
        [
            (("", ""), "here", 1301),
            (('nonce="', 'nonce="0'), "here", 1001),
            (("", ""), "there", 1001),
            (('nonce="', 'nonce="\udcff'), "here", 1001),
            (("", ""), "", 1001),
        ],
    )
    def test_by_a_nonce_that_is_no_good_nothing_is_learnt(self, edit: tuple[str, str], source: str, now: float) -> None:
        """RFC 7616 section 3.3: `stale` says that the nonce is no good, and nothing of the password."""
        digest = server()
        challenges = [text.replace(*edit) for text in digest.challenge(1000, source="here")]

        def judge(**changes: object) -> DigestResult:
            value = answer(challenges, **changes)
            return digest.verify(value, method="REGISTER", secret_of=PASSWORDS.get, now=now, source=source)

        right, wrong, unknown = judge(), judge(password="wrong"), judge(username="mallory")
        for result in (right, wrong, unknown):
            assert (result.ok, result.stale, result.received) == (False, True, False)
        assert (right.failed, wrong.failed, unknown.failed) == (False, True, True)

    def test_a_nonce_is_good_for_the_source_it_was_given_to(self) -> None:
        digest = server()
        value = answer(digest.challenge(1000, source="192.0.2.1"))
        arguments = {"method": "REGISTER", "secret_of": PASSWORDS.get, "now": 1001}
        assert not digest.verify(value, source="192.0.2.2", **arguments).ok
        result = digest.verify(value, source="192.0.2.1", **arguments)
        assert (result.ok, result.received) == (True, True)

    def test_who_answers_another_challenge_s_algorithm_is_asked_again(self) -> None:
        digest = server(algorithms=("MD5", "SHA-256"))
        value = answer(digest.challenge(1000, algorithms=("MD5",)))
        result = digest.verify(value, method="REGISTER", secret_of=PASSWORDS.get, now=1001, algorithms=("SHA-256",))
        assert (result.ok, result.failed, result.stale) == (False, False, True)

    def test_the_strongest_is_offered_first(self) -> None:
        assert by_strength(("MD5", "SHA-512-256", "SHA-256", "MD5")) == ("SHA-512-256", "SHA-256", "MD5")

    def test_a_nonce_from_the_future_is_stale(self) -> None:
        digest = server()
        value = answer(digest.challenge(5000))
        assert digest.verify(value, method="REGISTER", secret_of=PASSWORDS.get, now=1000).stale

    def test_nonce_survives_a_restart_and_no_other_secret(self) -> None:
        value = answer(server().challenge(1000))
        assert server().verify(value, method="REGISTER", secret_of=PASSWORDS.get, now=1001).ok
        other = DigestServer("sip.example.net", b"another")
        assert other.verify(value, method="REGISTER", secret_of=PASSWORDS.get, now=1001).stale

    def test_replay_is_refused(self) -> None:
        digest = server()
        challenges = digest.challenge(1000)

        def attempt(count: int) -> bool:
            value = answer(challenges, nonce_count=count)
            result = digest.verify(value, method="REGISTER", secret_of=PASSWORDS.get, now=1001)
            assert result.ok or result.stale
            return result.ok

        assert [attempt(count) for count in (1, 1, 2, 5, 3, 6)] == [True, False, True, True, False, True]

    def test_clients_do_not_share_a_nonce(self) -> None:
        digest = server()
        values = [answer(digest.challenge(1000)) for _ in range(2)]
        assert all(digest.verify(v, method="REGISTER", secret_of=PASSWORDS.get, now=1000).ok for v in values)

    def test_a_failed_attempt_uses_up_nothing(self) -> None:
        digest = server(max_nonces=1)
        good = digest.challenge(1000)
        for _ in range(3):
            wrong = answer(digest.challenge(1001), password="wrong")
            assert not digest.verify(wrong, method="REGISTER", secret_of=PASSWORDS.get, now=1001).ok
        assert digest.verify(answer(good), method="REGISTER", secret_of=PASSWORDS.get, now=1001).ok

    def test_memory_is_bounded_and_what_was_forgotten_is_not_let_in_again(self) -> None:
        digest = server(max_nonces=2)
        values = [answer(digest.challenge(1000 + i)) for i in range(5)]
        assert all(digest.verify(v, method="REGISTER", secret_of=PASSWORDS.get, now=1005).ok for v in values)
        results = [digest.verify(v, method="REGISTER", secret_of=PASSWORDS.get, now=1005) for v in values]
        assert [(r.ok, r.stale) for r in results] == [(False, True)] * 5

    def test_unknown_algorithms_are_a_mistake_of_ours(self) -> None:
        with pytest.raises(ValueError, match="SHA-1"):
            server(algorithms=("SHA-1",))


@given(st.text(max_size=200))
def test_noise_is_refused_without_an_exception(text: str) -> None:
    digest = server()
    for value in (text, f"Digest {text}"):
        assert not digest.verify(value, method="REGISTER", secret_of=PASSWORDS.get, now=0).ok
        parse_challenge(value)


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
)
def test_any_name_and_password_round_trip(username: str, password: str) -> None:
    digest = server()
    value = answer(digest.challenge(0), username=username, password=password)
    result = digest.verify(value, method="REGISTER", secret_of={username: password}.get, now=0)
    assert result.username == username
    assert result.ok
