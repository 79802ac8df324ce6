"""Digest authentication: RFC 3261 section 22 with the algorithms of RFC 8760 and the mechanics of RFC 7616.

The server keeps no list of the nonces it gave out: a nonce carries its time and a MAC, over the address it was given
to as well (RFC 7616 section 5.4), so that who answers it has proved to receive there. It remembers only how often each
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
_USERNAME = re.compile(r'\busername="([^"\\]{1,256})"')
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

    `reason` is for the log, '' when `ok`. `stale`: the nonce has to be new; challenge again with `stale=True`. That
    says nothing of the password: nobody learns anything of it by an old nonce, or another's.
    """

    ok: bool
    username: str = ""
    reason: str = ""
    stale: bool = False
    failed: bool = False
    """The credentials are no good, whatever the nonce: an attempt to be counted, if it is known whose."""
    received: bool = False
    """The nonce is one that was given to this very source, and not long ago: whoever sent this receives there."""


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

    def challenge(
        self, now: float, *, source: str = "", stale: bool = False, algorithms: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Values for WWW-Authenticate or Proxy-Authenticate, one for each algorithm, all with one fresh nonce, which is
        good for `source` alone. `algorithms` in place of the server's own.
        """
        issued = f"{int(now * 1000):x}.{next(self._serial):x}"
        nonce = f"{issued}.{self._mac(issued, source)}"
        tail = ", stale=true" if stale else ""
        return tuple(
            f'Digest realm="{_escape(self._realm)}", nonce="{nonce}", qop="auth", algorithm={algorithm}{tail}'
            for algorithm in algorithms or self._algorithms
        )

    def verify(
        self,
        authorization: str,
        *,
        method: str,
        secret_of: Callable[[str], str | None],
        now: float,
        source: str = "",
        algorithms: Sequence[str] = (),
    ) -> DigestResult:
        """Judge an Authorization or Proxy-Authorization value that came from `source`.

        `secret_of` gives a user's password, None for one who does not exist. An unknown user and a wrong password cost
        the same work and get the same answer. `algorithms` as in `challenge`.
        """
        params = _digest_params(authorization)
        if params is None:
            return DigestResult(False, reason="malformed credentials", failed=True)
        username = _unescape(params.get("username", ""))
        issued, _, mac = params.get("nonce", "").rpartition(".")
        ours = hmac.compare_digest(self._mac(issued, source).encode(), mac.encode("utf-8", "surrogateescape"))
        milliseconds, serial = map(_hex, issued.split(".")) if ours else (0, 0)
        received = ours and -1 <= now - milliseconds / 1000 <= self._nonce_seconds
        algorithm = params.get("algorithm", "MD5").upper()
        if algorithm in self._algorithms and algorithm not in (algorithms or self._algorithms):
            # The challenge was for another name: as long as nobody had said who he is, others were asked for.
            return DigestResult(False, username, "algorithm not offered", stale=True, received=received)
        wrong = self._wrong(params, username, method, secret_of)
        if not received:
            reason = "nonce expired" if ours else "nonce not ours, or another's"
            return DigestResult(False, username, wrong or reason, stale=True, failed=bool(wrong))
        if wrong:
            return DigestResult(False, username, wrong, failed=True, received=True)
        if not self._count((milliseconds, serial), _hex(params["nc"]), now):
            return DigestResult(False, username, "nonce count used before", stale=True, received=True)
        return DigestResult(True, username, received=True)

    def _wrong(
        self,
        params: dict[str, str],
        username: str,
        method: str,
        secret_of: Callable[[str], str | None],
    ) -> str:
        """What is wrong with the credentials, whatever their nonce; '' for nothing."""
        algorithm = params.get("algorithm", "MD5").upper()
        if algorithm not in self._algorithms:
            return "algorithm not offered"
        if params.get("qop", "").lower() != "auth" or not params.get("cnonce"):
            return "no qop"
        count = params.get("nc", "")
        if len(count) != 8 or not _HEX.fullmatch(count):
            return "malformed nonce count"
        if params.get("realm") != _escape(self._realm):
            return "wrong realm"
        nonce = params.get("nonce", "")
        password = secret_of(username)
        digest = _hasher(algorithm)
        secret = digest(f"{username}:{params['realm']}:{password or ''}")
        request = digest(f"{method}:{params.get('uri', '')}")
        expected = digest(f"{secret}:{nonce}:{count}:{params['cnonce']}:{params['qop']}:{request}")
        given = params.get("response", "").lower()
        right = hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogateescape"))
        return "" if right and password is not None else "wrong username or password"

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

    def _mac(self, issued: str, source: str) -> str:
        text = f"{issued}\n{self._realm}\n{source}"
        return hmac.digest(self._secret, text.encode("utf-8", "surrogateescape"), "sha256")[:16].hex()


def usernames(authorization: str) -> list[str]:
    """Whose credentials a value of Authorization or Proxy-Authorization shows, found without reading it as a whole:
    for who has to decide about strangers' requests quickly. None where there is none, or it needs escapes.
    """
    return _USERNAME.findall(authorization)


def _hex(text: str) -> int:
    return int(text, 16)


def by_strength(algorithms: Sequence[str]) -> tuple[str, ...]:
    """Algorithms in the order in which they are to be offered: the strongest first (RFC 8760 section 2.3)."""
    return tuple(sorted(dict.fromkeys(algorithms), key=lambda name: -_STRENGTH.get(name, 0)))


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
