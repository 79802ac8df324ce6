"""DTLS-SRTP (RFC 5764) of one branch: aiortc's transport over a socket that is ours.

What is used of aiortc below its public names is held by tests/unit/media/test_aiortc_contract.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, cast

from aiortc.rtcdtlstransport import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    SRTPProtectionProfile,
)
from aiortc.rtcicetransport import RTCIceTransport
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from siperb_core.media.srtp import SrtpSession

MAX_QUEUED: Final = 32  # DTLS records waiting: more is no handshake


class DatagramChannel:
    """Stands where aiortc expects its ICE transport: hands DTLS records in and out."""

    role = "controlled"  # only asked for when no DTLS role was set

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send_datagram = send
        self._queue: deque[bytes] = deque(maxlen=MAX_QUEUED)
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def deliver(self, data: bytes) -> None:
        """Give a DTLS record to the handshake.

        Never blocks; when the queue is full the oldest is lost, as datagrams are.
        """
        self._queue.append(data)
        self._wake()

    def close(self) -> None:
        """End a reader that waits, with ConnectionError."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _recv(self) -> bytes:
        while not self._queue:
            if self._closed:
                raise ConnectionError("closed")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._queue.popleft()

    async def _send(self, data: bytes) -> None:
        self._send_datagram(data)


class DtlsTransport(RTCDtlsTransport):
    """aiortc's DTLS that leaves SRTP to us.

    After a successful `handshake`, `inbound` and `outbound` are the SRTP sessions.
    """

    def __init__(
        self, channel: DatagramChannel, certificate: RTCCertificate, role: Literal["client", "server"]
    ) -> None:
        super().__init__(cast(RTCIceTransport, channel), [certificate])
        self._set_role(role)

    async def handshake(self, fingerprints: Sequence[tuple[str, str]]) -> bool:
        """Shake hands and check the peer's certificate against its fingerprints; False when it failed."""
        await self.start(
            RTCDtlsParameters(fingerprints=[RTCDtlsFingerprint(name, value) for name, value in fingerprints])
        )
        return bool(self.state == "connected")

    @property
    def inbound(self) -> SrtpSession:
        """What takes the protection off the peer's packets."""
        return SrtpSession(self._rx_srtp)

    @property
    def outbound(self) -> SrtpSession:
        """What protects ours."""
        return SrtpSession(self._tx_srtp)


class SharedCertificate(RTCCertificate):
    """A certificate whose handshakes share one OpenSSL context: to make one costs a tenth of setting a call up.

    Nothing passes from one handshake to another: sessions are neither kept nor given out in tickets.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        super().__init__(key, certificate)
        self._context: SSL.Context | None = None

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        """Every transport of ours asks with the same profiles: aiortc's."""
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles)
            self._context.set_options(SSL.OP_NO_TICKET)
            self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return self._context


def load_certificate(pem: str) -> RTCCertificate:
    """Make a certificate of a PEM with private key and certificate, as `siperb_core.media.certificate` writes it.

    Raises ValueError.
    """
    data = pem.encode()
    key: Any = serialization.load_pem_private_key(data, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the DTLS certificate's key must be an elliptic curve key")  # noqa: TRY004
    return SharedCertificate(key, x509.load_pem_x509_certificate(data))
