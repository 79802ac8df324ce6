"""The opening handshake of a WebSocket for SIP (RFC 6455 section 4.2, RFC 7118 section 4), without a socket."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs
import h11

from siperb_core.transport.forwarded import client_of

if TYPE_CHECKING:
    from siperb_core.entries.model import Network

MAX_REQUEST = 16_384
SUBPROTOCOL = b"sip"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Refused(Exception):
    """The request is not answered with 101 but with this status; `headers` go with it."""

    def __init__(self, status: int, reason: str, why: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(why)
        self.status = status
        self.reason = reason
        self.why = why
        self.headers = headers


@attrs.frozen
class Accepted:
    """The response to send, and what the client sent after its request: the first octets of its frames."""

    response: bytes
    trailing: bytes


class Handshake:
    """Reads one HTTP request and answers it. `origins` as in the configuration: empty for the same host only, `*` for
    all. Of `peer` who is one of the `proxies` the request says who the client is.
    """

    def __init__(
        self, path: str, origins: Sequence[str], peer: tuple[str, int] = ("", 0), proxies: Sequence[Network] = ()
    ) -> None:
        self.client = peer
        """Address and port of the client: the peer's own, or what a trusted proxy says."""
        self._proxies = proxies
        self._path = path or "/"
        self._origins = frozenset(_origin(origin) for origin in origins)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST)

    def feed(self, data: bytes) -> Accepted | None:
        """Take octets; None while the request is not complete. Raises Refused."""
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise Refused(error.error_status_hint, "Bad Request", str(error)) from None
        if event is h11.NEED_DATA:
            return None
        if not isinstance(event, h11.Request):
            raise Refused(400, "Bad Request", "no request")
        token = self._check(event)
        response = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + token + b"\r\nSec-WebSocket-Protocol: " + SUBPROTOCOL + b"\r\n\r\n"
        )
        return Accepted(response, self._http.trailing_data[0])

    def _check(self, request: h11.Request) -> bytes:
        headers: dict[bytes, bytes] = {}
        for name, value in request.headers:
            headers[name] = headers[name] + b", " + value if name in headers else value
        self.client = client_of(self.client, headers, self._proxies)
        if request.method != b"GET":
            raise Refused(405, "Method Not Allowed", "not a GET", ((b"Allow", b"GET"),))
        if b"websocket" not in _tokens(headers.get(b"upgrade")) or b"upgrade" not in _tokens(
            headers.get(b"connection")
        ):
            raise Refused(426, "Upgrade Required", "not a WebSocket", ((b"Upgrade", b"websocket"),))
        if headers.get(b"sec-websocket-version") != b"13":
            raise Refused(426, "Upgrade Required", "WebSocket version is not 13", ((b"Sec-WebSocket-Version", b"13"),))
        key = headers.get(b"sec-websocket-key", b"")
        try:
            good = len(binascii.a2b_base64(key, strict_mode=True)) == 16
        except binascii.Error:
            good = False
        if (
            not good
            or request.http_version != b"1.1"
            or b"content-length" in headers
            or b"transfer-encoding" in headers
        ):
            raise Refused(400, "Bad Request", "not a proper WebSocket handshake")
        if request.target.partition(b"?")[0] != self._path.encode():
            raise Refused(404, "Not Found", "another path")
        if not self._same_site(headers.get(b"origin"), headers.get(b"host", b"")):
            raise Refused(403, "Forbidden", "origin not allowed")
        if SUBPROTOCOL not in _tokens(headers.get(b"sec-websocket-protocol")):
            raise Refused(400, "Bad Request", "the sub-protocol must be sip")
        return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())

    def _same_site(self, origin: bytes | None, host: bytes) -> bool:
        """Whether a page of that origin may connect. Browsers alone send one, and no page can forge it."""
        if origin is None or "*" in self._origins:
            return True
        text = origin.decode("latin-1")
        if self._origins:
            return _origin(text) in self._origins
        try:
            # The web phone may be served on another port of the same host.
            asked = urlsplit("//" + host.decode("latin-1")).hostname
            return asked is not None and urlsplit(text).hostname == asked
        except ValueError:
            return False


def refusal(refused: Refused) -> bytes:
    """The HTTP response to a request that is refused."""
    body = refused.why.encode("ascii", "replace") + b"\n"
    lines = [
        b"HTTP/1.1 %d %s" % (refused.status, refused.reason.encode()),
        *(name + b": " + value for name, value in refused.headers),
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _tokens(value: bytes | None) -> set[bytes]:
    return {token.strip().lower() for token in (value or b"").split(b",")}


def _origin(origin: str) -> str:
    """An origin in the one form in which two are compared (RFC 6454 section 4): default ports and a final slash off."""
    origin = origin.strip().lower().rstrip("/")
    for scheme, port in (("https://", ":443"), ("http://", ":80")):
        if origin.startswith(scheme) and origin.endswith(port):
            return origin.removesuffix(port)
    return origin
