"""A PBX that speaks SRTP with the keys of its SDP (RFC 4568), through a real worker: asserted on sound."""

from __future__ import annotations

import os
from base64 import b64decode
from typing import Any

import attrs
import pytest
import trio
from media_browser import tone_of
from pylibsrtp import Policy, Session

from siperb_core.sdp.crypto import KEY_OCTETS, new_keys
from siperb_core.sdp.plan import PeerKeys, SessionPlan, SrtpSuite

PROFILES: dict[SrtpSuite, int] = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}


def session(suite: SrtpSuite, key: str, kind: int) -> Session:
    return Session(Policy(key=b64decode(key), ssrc_type=kind, srtp_profile=PROFILES[suite]))


@pytest.mark.parametrize("suite", list(KEY_OCTETS))
async def test_a_tone_crosses_both_ways_under_each_suite(call: Any, suite: SrtpSuite) -> None:
    ours = next(line.key for line in new_keys(os.urandom) if line.suite == suite)
    theirs = next(line.key for line in new_keys(os.urandom) if line.suite == suite)
    call.phone.protect = session(suite, theirs, Policy.SSRC_ANY_OUTBOUND).protect
    call.phone.unprotect = session(suite, ours, Policy.SSRC_ANY_INBOUND).unprotect
    plain = call.plan

    def secured(leg: Any, **more: Any) -> SessionPlan:
        plan = plain(leg, **more)
        return attrs.evolve(plan, peer=attrs.evolve(plan.peer, srtp=PeerKeys(suite, ours, theirs)))

    call.plan = secured
    await call.connect()
    call.nursery.start_soon(call.phone.talk, ("127.0.0.1", call.session.peer_port), 700.0)
    await call.phone.heard(20)
    await call.phone.heard(50)
    hertz, level, _ = tone_of(call.phone.decode(), call.phone.rate)
    assert (hertz, level) == (pytest.approx(1000, abs=0.2), pytest.approx(-12.04, abs=0.5))
    await call.browser.hear(0.5)
    hertz, level, _ = tone_of(await call.browser.hear(1), 48000)
    assert (hertz, level) == (pytest.approx(700, abs=0.2), pytest.approx(-12.04, abs=0.5))
    call.session.apply(call.plan(call.leg))  # a re-offer with the same keys: the stream goes on
    await call.phone.heard(10)


async def test_plain_rtp_is_not_heard_where_keys_were_agreed(call: Any) -> None:
    key = new_keys(os.urandom)[0].key
    leg = await call.browser.offer()
    plan = call.plan(leg, symmetric=True)
    keys = PeerKeys("AES_CM_128_HMAC_SHA1_80", key, key)
    call.session.apply(attrs.evolve(plan, peer=attrs.evolve(plan.peer, srtp=keys)))
    await call.browser.answered(leg, call.port, call.pool.fingerprint)
    await call.event("connected")
    call.nursery.start_soon(call.phone.talk, ("127.0.0.1", call.session.peer_port), 700.0)
    assert (await call.event("one_way")).leg == "peer"
    await trio.sleep(0.3)
    assert call.session.stats["peer"]["packets_in"] == 0
