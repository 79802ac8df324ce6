"""Digest authentication: RFC 3261 section 22 with the algorithms of RFC 8760 and the mechanics of RFC 7616.

The server keeps no list of the nonces it gave out: a nonce carries its time and a MAC. It remembers only how often each
nonce has let somebody in, within bounds. Pure: `now` comes in (seconds, any scale that goes on across restarts), the
client's cnonce too.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Final

import attrs

_STRENGTH: Final = {"MD5": 1, "MD5-SESS": 1, "SHA-256": 2, "SHA-256-SESS": 2, "SHA-512-256": 3, "SHA-512-256-SESS": 3}
_HASH: Final = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
_PARAM = re.compile(
    r"""[ \t,]*([!%'*+\-.0-9A-Z_`a-z~]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))[ \t]*(?=,|\Z)"""
)
_HEX = re.compile(r"[0-9a-fA-F]+")
_LONGEST: Final = 4096  # characters of a header value that are worth reading
_MOST_NONCES: Final = 65_536


@attrs.frozen
class Challenge:
    """What a WWW-Authenticate or Proxy-Authenticate asks for (RFC 3261 section 20.44)."""

    realm: str
    nonce: str
    algorithm: str = ""
    """As written; '' where none was given, which means MD5."""
    qop: tuple[str, ...] = ()
    opaque: str | None = None
    stale: bool = False

    @property
    def strength(self) -> int:
        """Which challenge to answer when there are several: the strongest algorithm; 0 for what we cannot answer."""
        if self.qop and not {"auth", "auth-int"} & set(self.qop):
            return 0
        return _STRENGTH.get(self.algorithm.upper() or "MD5", 0)


@attrs.frozen
class DigestResult:
    """What became of an answer to our challenge.

    `reason` is for the log, '' when `ok`. `stale`: the password was right and only the nonce has to be new, so it is no
    failed attempt; challenge again with `stale=True`.
    """

    ok: bool
    username: str = ""
    reason: str = ""
    stale: bool = False


def parse_challenge(text: str) -> Challenge | None:
    """Read one challenge; None when it is not Digest, lacks realm or nonce, or is not well-formed."""
    params = _digest_params(text)
    if params is None or "realm" not in params or not params.get("nonce"):
        return None
    qop = params.get("qop", "")
    return Challenge(
        realm=params["realm"],
        nonce=params["nonce"],
        algorithm=params.get("algorithm", ""),
        qop=tuple(option.strip().lower() for option in qop.split(",") if option.strip()),
        opaque=params.get("opaque"),
        stale=params.get("stale", "").lower() == "true",
    )


def strongest(challenges: Sequence[str]) -> Challenge | None:
    """The challenge to answer (RFC 8760 section 2.4); the first of several equally strong, None when there is none."""
    known = [challenge for challenge in map(parse_challenge, challenges) if challenge and challenge.strength]
    return max(known, key=lambda challenge: challenge.strength, default=None)


def of_realms(challenges: Sequence[str], realms: Sequence[str]) -> list[str]:
    """Those challenges that are of one of these realms; a password is for its own realm only (RFC 7616 section 3.3)."""
    return [text for text in challenges if (known := parse_challenge(text)) is not None and known.realm in realms]


def answer_challenge(
    challenges: Sequence[str],
    *,
    method: str,
    uri: str,
    username: str,
    password: str,
    cnonce: str,
    nonce_count: int = 1,
    body: bytes = b"",
) -> str | None:
    """The value of the Authorization or Proxy-Authorization that answers the strongest of these challenges.

    `uri` is the Request-URI as it will be sent, `cnonce` fresh random text, `nonce_count` how often this nonce has been
    answered, this time included. A server without qop gets the answer of RFC 2069; `auth-int` is used only where it is
    all there is. None when there is nothing we can answer.
    """
    challenge = strongest(challenges)
    if challenge is None:
        return None
    algorithm = challenge.algorithm.upper() or "MD5"
    digest = _hasher(algorithm)
    secret = digest(f"{username}:{challenge.realm}:{password}")
    if algorithm.endswith("-SESS"):
        secret = digest(f"{secret}:{challenge.nonce}:{cnonce}")
    qop = "" if not challenge.qop else "auth" if "auth" in challenge.qop else "auth-int"
    request = f"{method}:{uri}"
    if qop == "auth-int":
        request += f":{digest(body)}"
    count = f"{nonce_count:08x}"
    middle = f"{challenge.nonce}:{count}:{cnonce}:{qop}" if qop else challenge.nonce
    params = [
        f'username="{_escape(username)}"',
        f'realm="{challenge.realm}"',
        f'nonce="{challenge.nonce}"',
        f'uri="{uri}"',
        f'response="{digest(f"{secret}:{middle}:{digest(request)}")}"',
    ]
    if challenge.algorithm:
        params.append(f"algorithm={challenge.algorithm}")
    if qop:
        params += [f"qop={qop}", f"nc={count}"]
    if qop or algorithm.endswith("-SESS"):
        params.append(f'cnonce="{cnonce}"')
    if challenge.opaque is not None:
        params.append(f'opaque="{challenge.opaque}"')
    return "Digest " + ", ".join(params)


class DigestServer:
    """Challenges, and judges the answers.

    `secret` signs the nonces: who knows it can make some; the same secret after a restart keeps them good. MD5 comes
    first by default, against the order RFC 8760 section 2.3 prefers, because browsers' SIP libraries read the first
    challenge only and know nothing but MD5; clients that choose the strongest find SHA-256 all the same.
    Raises ValueError for an algorithm it does not know.
    """

    def __init__(
        self,
        realm: str,
        secret: bytes,
        algorithms: Sequence[str] = ("MD5", "SHA-256"),
        nonce_seconds: float = 300,
        max_nonces: int = _MOST_NONCES,
    ) -> None:
        unknown = [name for name in algorithms if name not in _HASH]
        if unknown or not algorithms:
            raise ValueError(f"not a digest algorithm: {', '.join(unknown) or 'none given'}")
        self._realm = realm
        self._secret = secret
        self._algorithms = tuple(algorithms)
        self._nonce_seconds = nonce_seconds
        self._max_nonces = max_nonces
        self._serial = itertools.count(1)
        self._counts: dict[tuple[int, int], int] = {}
        self._forgotten = (0, 0)  # nonces up to this one may have been used and are not remembered

    def challenge(self, now: float, *, stale: bool = False) -> tuple[str, ...]:
        """Values for WWW-Authenticate or Proxy-Authenticate, one for each algorithm, all with one fresh nonce."""
        issued = f"{int(now * 1000):x}.{next(self._serial):x}"
        nonce = f"{issued}.{self._mac(issued)}"
        tail = ", stale=true" if stale else ""
        return tuple(
            f'Digest realm="{_escape(self._realm)}", nonce="{nonce}", qop="auth", algorithm={algorithm}{tail}'
            for algorithm in self._algorithms
        )

    def verify(
        self,
        authorization: str,
        *,
        method: str,
        secret_of: Callable[[str], str | None],
        now: float,
    ) -> DigestResult:
        """Judge an Authorization or Proxy-Authorization value.

        `secret_of` gives a user's password, None for one who does not exist. An unknown user and a wrong password cost
        the same work and get the same answer.
        """
        params = _digest_params(authorization)
        if params is None:
            return DigestResult(False, reason="malformed credentials")
        username = _unescape(params.get("username", ""))
        algorithm = params.get("algorithm", "MD5").upper()
        if algorithm not in self._algorithms:
            return DigestResult(False, username, "algorithm not offered")
        if params.get("qop", "").lower() != "auth" or not params.get("cnonce"):
            return DigestResult(False, username, "no qop")
        count = params.get("nc", "")
        if len(count) != 8 or not _HEX.fullmatch(count):
            return DigestResult(False, username, "malformed nonce count")
        if params.get("realm") != _escape(self._realm):
            return DigestResult(False, username, "wrong realm")
        nonce = params.get("nonce", "")
        issued, _, mac = nonce.rpartition(".")
        if not hmac.compare_digest(self._mac(issued).encode(), mac.encode("utf-8", "surrogateescape")):
            return DigestResult(False, username, "nonce not ours")

        password = secret_of(username)
        digest = _hasher(algorithm)
        secret = digest(f"{username}:{params['realm']}:{password or ''}")
        request = digest(f"{method}:{params.get('uri', '')}")
        expected = digest(f"{secret}:{nonce}:{count}:{params['cnonce']}:{params['qop']}:{request}")
        given = params.get("response", "").lower()
        right = hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogateescape"))
        if not right or password is None:
            return DigestResult(False, username, "wrong username or password")

        milliseconds, serial = (int(part, 16) for part in issued.split("."))
        age = now - milliseconds / 1000
        if not -1 <= age <= self._nonce_seconds:
            return DigestResult(False, username, "nonce expired", stale=True)
        if not self._count((milliseconds, serial), int(count, 16), now):
            return DigestResult(False, username, "nonce count used before", stale=True)
        return DigestResult(True, username)

    def _count(self, nonce: tuple[int, int], count: int, now: float) -> bool:
        """Note the use of a nonce; False when it, or a later use, was seen before (RFC 7616 section 3.4)."""
        expired = (now - self._nonce_seconds) * 1000
        while self._counts and (oldest := next(iter(self._counts)))[0] < expired:
            del self._counts[oldest]
        if nonce <= self._forgotten or count <= self._counts.get(nonce, 0):
            return False
        self._counts.pop(nonce, None)
        self._counts[nonce] = count  # least recently used first
        if len(self._counts) > self._max_nonces:
            oldest = next(iter(self._counts))
            del self._counts[oldest]
            self._forgotten = max(self._forgotten, oldest)
        return True

    def _mac(self, issued: str) -> str:
        return hmac.digest(self._secret, issued.encode("utf-8", "surrogateescape"), "sha256")[:16].hex()


def _hasher(algorithm: str) -> Callable[[str | bytes], str]:
    name = _HASH[algorithm.removesuffix("-SESS")]

    def digest(data: str | bytes) -> str:
        octets = data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape")
        return hashlib.new(name, octets, usedforsecurity=False).hexdigest()

    return digest


def _digest_params(text: str) -> dict[str, str] | None:
    """Parameters of a Digest challenge or answer, names in lower case, values without quotes but with their escapes.

    None when it is another scheme, too long, not well-formed, or has a parameter twice.
    """
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != "digest" or len(text) > _LONGEST:
        return None
    params: dict[str, str] = {}
    position = 0
    rest = rest.strip(" \t,")
    while position < len(rest):
        match = _PARAM.match(rest, position)
        if match is None:
            return None
        name = match[1].lower()
        if name in params:
            return None
        params[name] = match[2] if match[2] is not None else match[3]
        position = match.end()
    return params


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text) if "\\" in text else text
