"""The gateway as a digest server (RFC 7616, RFC 8760, RFC 3261 section 22), asked over a WebSocket."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.sip import Message
from siperb_core.testing.gateway import address, open_gateway
from siperb_core.testing.user_agent import Credentials, token
from siperb_core.testing.wire import Wire, authorised, open_wire, request

ALICE = Credentials("alice-web", "alice-secret")
LIMIT = 20  # seconds, if the machine is busy


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def wire(gateway: Gateway) -> AsyncIterator[Wire]:
    async with open_wire("ws", address(gateway, "ws")) as wire:
        yield wire


def register(name: str = "alice-web", *, cseq: int = 1, call_id: str = "") -> Message:
    aor = f"sip:{name}@gw.example"
    contact = "<sip:phone@phone.invalid;transport=ws>"
    return request("REGISTER", "sip:gw.example", caller=aor, callee=aor, cseq=cseq, call_id=call_id, contact=contact)


def again(message: Message, cseq: int) -> Message:
    """The same request once more, credentials included: what an eavesdropper would send."""
    copy = message.copy()
    copy.remove("Via")
    copy.set("CSeq", f"{cseq} {message.method}")
    return copy


def challenges(response: Message) -> list[str]:
    return response.get_all("WWW-Authenticate") or response.get_all("Proxy-Authenticate")


async def test_a_challenge_offers_both_algorithms_and_either_is_taken(wire: Wire) -> None:
    with trio.fail_after(LIMIT):
        challenge = await wire.request(register())
        assert challenge.status == 401
        offered = challenges(challenge)
        assert [re.search(r"algorithm=([\w-]+)", value)[1] for value in offered] == ["SHA-256", "MD5"]  # type: ignore[index]
        assert all('qop="auth"' in value and 'realm="gw.example"' in value for value in offered)
        assert not any("stale" in value for value in offered)
        for algorithm in ("SHA-256", "MD5"):
            asked = await wire.request(register())
            only = asked.copy()
            only.remove("WWW-Authenticate")
            (value,) = [value for value in challenges(asked) if f"algorithm={algorithm}" in value]
            only.add("WWW-Authenticate", value)
            answer = authorised(register(), only, ALICE)
            assert f"algorithm={algorithm}" in (answer.get("Authorization") or "")
            assert (await wire.request(answer)).status == 200


async def test_a_nonce_count_counts_once(wire: Wire) -> None:
    """RFC 7616 section 3.4: a request with a count that was seen is a replay, and the nonce is not good for it."""
    with trio.fail_after(LIMIT):
        first = register()
        challenge = await wire.request(first.copy())
        answer = authorised(again(first, 2), challenge, ALICE)
        assert (await wire.request(answer.copy())).status == 200
        replayed = await wire.request(again(answer, 3))
        assert replayed.status == 401
        assert all("stale=true" in value for value in challenges(replayed)), "the password was right"
        later = authorised(again(first, 4), challenge, ALICE, nonce_count=3)
        assert (await wire.request(later)).status == 200
        skipped = authorised(again(first, 5), challenge, ALICE, nonce_count=2)
        assert (await wire.request(skipped)).status == 401, "overtaken"


async def test_a_replay_is_no_good_from_another_socket_or_for_another_method(gateway: Gateway, wire: Wire) -> None:
    with trio.fail_after(LIMIT):
        first = register()
        answer = authorised(again(first, 2), await wire.request(first.copy()), ALICE)
        assert (await wire.request(answer.copy())).status == 200
        async with open_wire("ws", address(gateway, "ws")) as stranger:
            assert (await stranger.request(again(answer, 3))).status == 401
            for method in ("INVITE", "MESSAGE", "SUBSCRIBE", "BYE"):
                message = request(method, "sip:601@gw.example", caller="sip:alice-web@gw.example")
                message.set("Proxy-Authorization", answer.get("Authorization") or "")
                assert (await stranger.request(message)).status == 407
        assert not gateway.calls.active()


async def test_an_old_nonce_is_stale_and_no_failure(
    gateway: Gateway, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(LIMIT):
        first = register()
        challenge = await wire.request(first.copy())
        answer = authorised(again(first, 2), challenge, ALICE)
        now = gateway.now()
        monkeypatch.setattr(gateway, "now", lambda: now + 301)
        stale = await wire.request(answer)
        assert stale.status == 401
        assert all("stale=true" in value for value in challenges(stale))
        old, new = (re.search(r'nonce="([^"]+)"', challenges(each)[0])[1] for each in (challenge, stale))  # type: ignore[index]
        assert old != new
        assert (await wire.request(authorised(again(first, 3), stale, ALICE))).status == 200
        # With an old nonce a wrong password gets the same answer: nobody learns anything of it.
        wrong = authorised(again(first, 4), challenge, Credentials("alice-web", "guessed"))
        refused = await wire.request(wrong)
        assert refused.status == 401
        assert all("stale=true" in value for value in challenges(refused))
        assert gateway.signalling.rejected["credentials"] == 1, "but over a connection it counts"


async def test_nobody_learns_which_users_there_are(wire: Wire) -> None:
    """An unknown user and a wrong password: the same octets, but for what is the request's own, tag and nonce."""
    with trio.fail_after(LIMIT):
        seen = set()
        for name, password in (("alice-web", "guessed"), ("nobody-here", "guessed"), ("nobody-here", "")):
            first = register(name)
            unproven = await wire.request(first.copy())
            wrong = authorised(again(first, 2), unproven, Credentials(name, password))
            for response in (unproven, await wire.request(wrong)):
                assert response.status == 401
                for field in ("Via", "From", "Call-ID", "CSeq"):
                    response.remove(field)
                text = bytes(response).decode()
                text = re.sub(r'nonce="[^"]*"', "nonce", text)
                seen.add(re.sub(r"To: .*", "To", text))
        assert len(seen) == 1


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE", "OPTIONS", "SUBSCRIBE", "PUBLISH", "REFER", "INFO", "FETCH"])
async def test_every_method_of_a_stranger_is_challenged(gateway: Gateway, wire: Wire, method: str) -> None:
    """With credentials it goes where its number leads, which is nowhere: there is no connection."""
    with trio.fail_after(LIMIT):
        message = request(method, "sip:601@gw.example", caller="sip:alice-web@gw.example", contact="<sip:a@a.invalid>")
        assert (await wire.request(message.copy())).status == 407
        message.set("Call-ID", token())
        assert (await wire.request(message, ALICE)).status == 404
        claimed = request(method, "sip:601@gw.example", caller="sip:bob-web@gw.example", contact="<sip:a@a.invalid>")
        assert (await wire.request(claimed, ALICE)).status == 403, "the password is alice's, the name bob's"
        assert not gateway.calls.active()
