"""What we use of aiortc, aioice and pylibsrtp, some of it below their public names: when one of these fails, a new
version has moved it.
"""

from __future__ import annotations

import inspect
import re
import struct

import pylibsrtp
import pytest
from aioice import Candidate, stun
from aiortc import rtcdtlstransport
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsTransport
from OpenSSL import SSL
from pylibsrtp._binding import ffi, lib

from siperb_core.media.certificate import make_certificate
from siperb_core.media.dtls import DatagramChannel, DtlsTransport, load_certificate


def test_dtls_asks_nothing_else_of_its_transport() -> None:
    source = inspect.getsource(RTCDtlsTransport)
    used = set(re.findall(r"self\.transport\.(\w+)", source))
    assert used == {"_recv", "_send", "role"}
    assert inspect.iscoroutinefunction(DatagramChannel._recv)
    assert inspect.iscoroutinefunction(DatagramChannel._send)


def test_the_names_below_the_public_ones() -> None:
    dtls = DtlsTransport(DatagramChannel(lambda data: None), load_certificate(make_certificate().pem), "client")
    assert dtls._role == "client"
    assert dtls._rx_srtp is None
    assert dtls._tx_srtp is None
    assert dtls.state == "new"


def test_strong_profiles_come_first() -> None:
    names = [p.openssl_profile for p in rtcdtlstransport.SRTP_PROFILES]
    assert names[-1] == b"SRTP_AES128_CM_SHA1_80"


def test_our_certificate_is_theirs() -> None:
    made = make_certificate()
    loaded = load_certificate(made.pem)
    assert isinstance(loaded, RTCCertificate)
    assert made.fingerprint in [(f.algorithm, f.value) for f in loaded.getFingerprints()]


def test_handshakes_share_a_context_and_nothing_else() -> None:
    source = inspect.getsource(RTCDtlsTransport)
    assert source.count("_create_ssl_context(") == 1
    certificate = load_certificate(make_certificate().pem)
    context = certificate._create_ssl_context(srtp_profiles=rtcdtlstransport.SRTP_PROFILES)
    assert certificate._create_ssl_context(srtp_profiles=rtcdtlstransport.SRTP_PROFILES) is context
    assert context.get_session_cache_mode() == SSL.SESS_CACHE_OFF
    assert context.set_options(0) & SSL.OP_NO_TICKET
    assert context.get_verify_mode() == SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    other = load_certificate(make_certificate().pem)
    assert other._create_ssl_context(srtp_profiles=rtcdtlstransport.SRTP_PROFILES) is not context


def test_stun_errors_are_these_two() -> None:
    with pytest.raises(ValueError):
        stun.parse_message(b"short")
    with pytest.raises(struct.error):
        stun.parse_message(b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x00\x24\x00\x02\x00\x00\x00\x00")


def test_stun_integrity() -> None:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, attributes={"USERNAME": "a:b"})
    message.add_message_integrity(b"key")
    parsed = stun.parse_message(bytes(message))
    assert parsed.check_message_integrity(b"key")
    assert not parsed.check_message_integrity(b"other")


def test_candidates_are_read() -> None:
    assert Candidate.from_sdp("1 1 udp 7 192.0.2.1 5000 typ host").port == 5000


def test_srtp_errors_are_of_these_kinds() -> None:
    session = pylibsrtp.Session(pylibsrtp.Policy(bytes(30), pylibsrtp.Policy.SSRC_ANY_INBOUND))
    with pytest.raises(pylibsrtp.Error):
        session.unprotect(b"\x80\x00" + bytes(30))
    with pytest.raises(ValueError):
        session.unprotect(bytes(3000))


def test_what_a_srtp_session_is_made_of() -> None:
    session = pylibsrtp.Session(pylibsrtp.Policy(bytes(30), pylibsrtp.Policy.SSRC_ANY_INBOUND))
    assert ffi.typeof(session._srtp) is ffi.typeof("srtp_t *")
    assert ffi.typeof(session._cdata) is ffi.typeof("char[]")
    assert len(session._buffer) == len(session._cdata) == 1500
    assert ffi.addressof(session._cdata, 0) == ffi.from_buffer("char[]", session._buffer)
    arguments = [str(argument.cname) for argument in ffi.typeof(lib.srtp_unprotect).args]
    assert arguments == [str(argument.cname) for argument in ffi.typeof(lib.srtp_protect).args]
    assert arguments == ["struct srtp_ctx_t_ *", "void *", "int *"]
