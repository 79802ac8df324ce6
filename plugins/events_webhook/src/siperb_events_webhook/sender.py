"""One POST, and what its answer means. The only module that knows httpx.

httpx takes a tenth of a second to import: the service does so in a thread, and only where there is a receiver.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Final, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import attrs
import httpx
import trio

from siperb_events_webhook.config import WebhookConfig

RETRIED: Final = (408, 425, 429)
"""Of the 4xx: not yet (RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4)."""
MOST_RETRY_AFTER: Final = 3600.0
_MOST_BODY: Final = 64 * 1024  # octets of an answer that are read, to use the connection again; nobody looks at them


@attrs.frozen
class Verdict:
    """What became of a POST. `reason` is for people, and says nothing of the URL; `retry_after` is seconds, 0 for no
    wish of the receiver's.
    """

    delivered: bool
    retry: bool = False
    reason: str = ""
    retry_after: float = 0.0


class Sender:
    """The receiver, over one connection that is kept open. TLS is verified; redirects are not followed: a signed event
    is for whom the administrator has named; proxies and passwords of the environment are not used.

    `transport` is given to httpx in place of the network.
    """

    def __init__(self, config: WebhookConfig, transport: httpx.AsyncBaseTransport | None = None) -> None:
        # httpx logs every URL, with the password or token in it.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        parts = urlsplit(config.url.reveal())
        self._seconds = config.timeout
        self._url = httpx.URL(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")))
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        self._client = httpx.AsyncClient(
            transport=transport,
            auth=httpx.BasicAuth(user, password) if user or password else None,
            verify=ssl.create_default_context(cafile=config.ca),
            headers={
                "User-Agent": f"siperb-events-webhook/{version('siperb-events-webhook')}",
                "Accept-Encoding": "identity",
            },
            timeout=config.timeout,
            limits=httpx.Limits(max_connections=1, keepalive_expiry=30),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.aclose()

    async def post(self, body: bytes, headers: Mapping[str, str], now: float) -> Verdict:
        """Send it. `now` is seconds since the epoch, for a Retry-After that is a date. Raises nothing but
        cancellation: whatever the library makes of a receiver's nonsense costs this attempt.
        """
        answer: Verdict | None = None
        try:
            with trio.move_on_after(self._seconds) as scope:
                async with self._client.stream("POST", self._url, content=body, headers=dict(headers)) as response:
                    answer = verdict(response.status_code, response.headers.get("Retry-After", ""), now)
                    read = 0
                    async for chunk in response.aiter_raw():
                        read += len(chunk)
                        if read > _MOST_BODY:
                            scope.cancel()  # unlike leaving the loop, it ends httpx's generators here and now
        except httpx.TimeoutException:
            pass
        except Exception as error:
            # The status is what counts, whatever becomes of the rest.
            return answer or Verdict(delivered=False, retry=True, reason=_why(error))
        return answer or Verdict(delivered=False, retry=True, reason=f"no answer within {self._seconds:g} s")


def verdict(status: int, retry_after: str, now: float) -> Verdict:
    """What a status means: 2xx is delivered, 5xx and `RETRIED` are tried again; anything else would be answered the
    same the next time, a redirect too.
    """
    if 200 <= status < 300:
        return Verdict(delivered=True)
    retry = status >= 500 or status in RETRIED
    return Verdict(delivered=False, retry=retry, reason=f"HTTP {status}", retry_after=seconds_of(retry_after, now))


def seconds_of(retry_after: str, now: float) -> float:
    """Retry-After (RFC 9110 section 10.2.3), seconds or a date, at most an hour; 0 for none, and for nonsense."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), MOST_RETRY_AFTER)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError, OSError):
        return 0.0
    return min(max(seconds, 0.0), MOST_RETRY_AFTER)


def _why(error: BaseException) -> str:
    """Why there was no answer, in words that hold nothing of the URL: httpx's own may."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {seen.verify_message}"
        if isinstance(seen, ssl.SSLError):
            return f"TLS failed: {seen.reason or type(seen).__name__}"
        if isinstance(seen, OSError) and seen.strerror:
            # trio's own words name the address; a resolver's errors are negative, and not known to strerror.
            return os.strerror(seen.errno) if seen.errno and seen.errno > 0 else seen.strerror
        if isinstance(seen, BaseExceptionGroup) and seen.exceptions:
            seen = seen.exceptions[0]
        else:
            seen = seen.__cause__ or seen.__context__
    return type(error).__name__
