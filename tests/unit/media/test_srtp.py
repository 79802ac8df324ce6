"""SRTP through pylibsrtp's binding says what pylibsrtp says, and refuses what it refuses."""

from __future__ import annotations

import secrets
import struct

import pylibsrtp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.media.srtp import SrtpSession

PROFILES = {
    pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80: 30,
    pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32: 30,
    pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM: 28,
    pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM: 44,
}


def session(key: bytes, direction: int, profile: int) -> pylibsrtp.Session:
    return pylibsrtp.Session(pylibsrtp.Policy(key, direction, srtp_profile=profile))


def both(profile: int) -> tuple[SrtpSession, SrtpSession]:
    key = secrets.token_bytes(PROFILES[profile])
    ends = (pylibsrtp.Policy.SSRC_ANY_OUTBOUND, pylibsrtp.Policy.SSRC_ANY_INBOUND)
    sender, receiver = (SrtpSession(session(key, end, profile)) for end in ends)
    return sender, receiver


def packet(sequence: int, payload: bytes = b"sound") -> bytes:
    return struct.pack("!BBHII", 0x80, 9, sequence, 160 * sequence, 4711) + payload


@given(st.binary(max_size=1300), st.sampled_from(sorted(PROFILES)))
def test_every_packet_is_protected_as_pylibsrtp_does_it(payload: bytes, profile: int) -> None:
    key = bytes(range(PROFILES[profile]))
    outbound = pylibsrtp.Policy.SSRC_ANY_OUTBOUND
    ours, theirs = SrtpSession(session(key, outbound, profile)), session(key, outbound, profile)
    for sequence in range(3):
        assert ours.protect(packet(sequence, payload)) == theirs.protect(packet(sequence, payload))


@pytest.mark.parametrize("profile", PROFILES)
def test_what_was_protected_comes_back_once(profile: int) -> None:
    sender, receiver = both(profile)
    for sequence in range(5):
        protected = sender.protect(packet(sequence))
        assert b"sound" not in protected
        assert receiver.unprotect(protected) == packet(sequence)
        with pytest.raises(pylibsrtp.Error, match="replay"):
            receiver.unprotect(protected)


@pytest.mark.parametrize("profile", PROFILES)
def test_one_bit_changed_anywhere_is_refused_and_the_true_packet_is_still_taken(profile: int) -> None:
    sender, receiver = both(profile)
    receiver.unprotect(sender.protect(packet(0)))
    protected = sender.protect(packet(1))
    for place in range(len(protected)):
        forged = bytearray(protected)
        forged[place] ^= 1
        with pytest.raises(pylibsrtp.Error):
            receiver.unprotect(bytes(forged))
    assert receiver.unprotect(protected) == packet(1)


def test_garbage_and_lengths_out_of_bounds_are_refused() -> None:
    sender, receiver = both(pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
    for data in (b"", b"\x80", bytes(11), b"\x80\x09" + bytes(10), bytes(1500), b"\xff" * 1500):
        with pytest.raises(pylibsrtp.Error):
            receiver.unprotect(data)
    with pytest.raises(ValueError):
        receiver.unprotect(bytes(1501))
    with pytest.raises(ValueError):
        sender.protect(packet(0, bytes(1400)))
    assert receiver.unprotect(sender.protect(packet(0, bytes(1300)))) == packet(0, bytes(1300))


def test_rtcp_of_the_same_session() -> None:
    sender, receiver = both(pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80)
    report = struct.pack("!BBHII", 0x80, 201, 1, 4711, 0)[:8]
    assert receiver.unprotect_rtcp(sender.protect_rtcp(report)) == report
