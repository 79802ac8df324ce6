"""ICE (RFC 8445) for one component on one socket, with consent freshness (RFC 7675), as a machine without I/O.

The gateway has one host candidate per branch, so a candidate pair is its remote address. Messages are aioice's; the
agent is ours because the socket is: aioice gathers and binds by itself, and hands whatever is not STUN on to DTLS,
whoever sent it. Time is given in as `now`, in monotonic seconds.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from typing import Any, Final, Literal

import attrs
from aioice import Candidate, stun

from siperb_core.media.messages import CONSENT_LOST

Address = tuple[str, int]

MAX_REMOTE_CANDIDATES: Final = 32
MAX_EARLY_CHECKS: Final = 16
PACING: Final = 0.02  # Ta between new checks (section 14.2: not below 5 ms)
RETRANSMISSIONS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)  # seconds to wait after each sending of a check
NOMINATION_PATIENCE: Final = 0.1  # how long the controlling side waits for a better pair
CONSENT_INTERVAL: Final = 4.0
CONSENT_EXPIRY: Final = 30.0  # RFC 7675 section 5.1
CONNECT_TIMEOUT: Final = 20.0
RETRY_INTERVAL: Final = 0.5  # before pairs that failed are tried again

_REFLEXIVE_PRIORITY: Final = (110 << 24) | (65535 << 8) | 255


@attrs.define(eq=False)
class _Pair:
    address: Address
    priority: int  # of the remote candidate
    state: Literal["waiting", "in-progress", "succeeded", "failed"] = "waiting"
    use_candidate: bool = False  # the peer has nominated it


@attrs.define(eq=False)
class _Check:
    pair: _Pair
    request: stun.Message
    controlling: bool
    nominate: bool
    sent: int
    next_at: float


def parse_candidates(values: tuple[str, ...], family: int) -> list[tuple[Address, int]]:
    """Read values of a=candidate; those that cannot be used here (TCP, names, another IP version) are left out."""
    found: list[tuple[Address, int]] = []
    for value in values[:MAX_REMOTE_CANDIDATES]:
        try:
            candidate = Candidate.from_sdp(value.removeprefix("candidate:"))
            address = ipaddress.ip_address(candidate.host)
        except (ValueError, IndexError, AssertionError, KeyError):
            continue
        usable = candidate.transport.lower() == "udp" and candidate.component == 1 and 0 < candidate.port < 65536
        usable = usable and "%" not in candidate.host  # a zone means nothing here, and `sendto` may not take it
        if usable and address.version == family and not address.is_unspecified and not address.is_multicast:
            found.append(((str(address), candidate.port), candidate.priority))
    return found


class IceAgent:
    """One branch's ICE. Feed it STUN datagrams with `receive` and time with `advance`; it sends through `send`.

    `selected` is the address media goes to, None until a pair is nominated. `trusted` holds the addresses that have
    proved to know the credentials: only from them may anything but STUN be believed.
    """

    def __init__(
        self,
        *,
        ufrag: str,
        password: str,
        controlling: bool,
        tie_breaker: int,
        send: Callable[[bytes, Address], None],
        family: int = 4,
    ) -> None:
        self.ufrag, self.password, self.controlling = ufrag, password, controlling
        self.remote_ufrag = self.remote_password = ""
        self.selected: Address | None = None
        self.trusted: set[Address] = set()
        self.failed = ""
        self.rejected = 0  # STUN that did not authenticate
        self._tie_breaker, self._send, self._family = tie_breaker, send, family
        self._pairs: dict[Address, _Pair] = {}
        self._checks: dict[bytes, _Check] = {}
        self._early: dict[Address, tuple[int, bool]] = {}
        self._started_at = self._next_check = self._first_success = 0.0
        self._nominating = False
        self._settled = False  # a pair is selected, under the credentials now in force
        self._consented_at = self._next_consent = 0.0

    @property
    def started(self) -> bool:
        """Whether the peer's credentials are known."""
        return bool(self.remote_password)

    @property
    def busy(self) -> bool:
        """Whether time matters in milliseconds: checks are under way."""
        return self.started and not self.failed and not self._settled

    def start(self, ufrag: str, password: str, candidates: tuple[str, ...], now: float) -> None:
        """Give the peer's credentials and candidates; again with the same credentials to add candidates."""
        first = not self.started
        self.remote_ufrag, self.remote_password = ufrag, password
        for address, priority in parse_candidates(candidates, self._family):
            self._pair(address, priority)
        if first:
            self._started_at = now
            self._next_check = now
            for address, (priority, use) in self._early.items():
                self._triggered(address, priority, use, now)
            self._early.clear()
        self.advance(now)

    def restart(self, ufrag: str, password: str, now: float) -> None:
        """Take new local credentials (section 9). The selected pair stays in use until a new one is nominated."""
        self.ufrag, self.password = ufrag, password
        self.remote_ufrag = self.remote_password = ""
        self.failed = ""
        self._pairs.clear()
        self._checks.clear()
        self._early.clear()
        self._nominating = self._settled = False
        self._first_success = 0.0
        self.trusted = {self.selected} if self.selected is not None else set()
        self._started_at = now

    def receive(self, data: bytes, source: Address, now: float) -> None:
        """Take in a datagram that looks like STUN.

        What is malformed or does not authenticate is dropped without an answer.
        """
        try:
            message = stun.parse_message(data)
        except (ValueError, struct.error):
            self.rejected += 1
            return
        if message.message_method != stun.Method.BINDING:
            self.rejected += 1
        elif message.message_class == stun.Class.REQUEST:
            self._request(message, source, now)
        elif message.message_class in (stun.Class.RESPONSE, stun.Class.ERROR):
            self._response(message, source, now)

    def advance(self, now: float) -> None:
        """Do what is due: new checks, repetitions, nomination, consent, time-outs."""
        if not self.started or self.failed:
            return
        for check in list(self._checks.values()):
            if check.next_at <= now:
                self._repeat(check, now)
        if self._settled:
            self._keep_consent(now)
            return
        if now - self._started_at > CONNECT_TIMEOUT:
            self.failed = "no connectivity check succeeded" if not self.trusted else "no pair was nominated"
            return
        if now >= self._next_check:
            waiting = [p for p in self._pairs.values() if p.state == "waiting"]
            if waiting:
                self._check(max(waiting, key=lambda p: p.priority), now)
                self._next_check = now + PACING
            elif not self._checks and not self._first_success:
                # Nothing has worked yet: the way may have been closed only until the peer's own checks opened it.
                for pair in self._pairs.values():
                    pair.state = "waiting"
                self._next_check = now + RETRY_INTERVAL
        if self.controlling and not self._nominating:
            self._maybe_nominate(now)

    def _maybe_nominate(self, now: float) -> None:
        valid = [p for p in self._pairs.values() if p.state == "succeeded"]
        if not valid:
            return
        best = max(valid, key=lambda p: p.priority)
        better = any(p.priority > best.priority and p.state in ("waiting", "in-progress") for p in self._pairs.values())
        if not better or now - self._first_success >= NOMINATION_PATIENCE:
            self._nominating = True
            self._check(best, now, nominate=True)

    def _keep_consent(self, now: float) -> None:
        if now - self._consented_at > CONSENT_EXPIRY:
            self.failed = CONSENT_LOST
        elif now >= self._next_consent and self.selected is not None:
            self._next_consent = now + CONSENT_INTERVAL
            self._check(self._pair(self.selected, 0), now, once=True)

    def _pair(self, address: Address, priority: int) -> _Pair:
        pair = self._pairs.get(address)
        if pair is None:
            pair = _Pair(address, priority)
            if len(self._pairs) < MAX_REMOTE_CANDIDATES or address == self.selected:
                self._pairs[address] = pair
        return pair

    def _check(self, pair: _Pair, now: float, *, nominate: bool = False, once: bool = False) -> None:
        role = "ICE-CONTROLLING" if self.controlling else "ICE-CONTROLLED"
        attributes: dict[str, Any] = {
            "USERNAME": f"{self.remote_ufrag}:{self.ufrag}",
            "PRIORITY": _REFLEXIVE_PRIORITY,
            role: self._tie_breaker,
        }
        if nominate:
            attributes["USE-CANDIDATE"] = None
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, attributes=attributes)
        request.add_message_integrity(self.remote_password.encode())
        if pair.state in ("waiting", "failed"):
            pair.state = "in-progress"
        # A check of consent is not repeated: the next one follows soon.
        sent = len(RETRANSMISSIONS) if once else 1
        wait = CONSENT_INTERVAL if once else RETRANSMISSIONS[0]
        self._checks[request.transaction_id] = _Check(pair, request, self.controlling, nominate, sent, now + wait)
        self._send(bytes(request), pair.address)

    def _repeat(self, check: _Check, now: float) -> None:
        if check.sent < len(RETRANSMISSIONS):
            check.next_at = now + RETRANSMISSIONS[check.sent]
            check.sent += 1
            self._send(bytes(check.request), check.pair.address)
            return
        del self._checks[check.request.transaction_id]
        self._check_failed(check)

    def _check_failed(self, check: _Check) -> None:
        if check.pair.state == "in-progress" or check.nominate:
            check.pair.state = "failed"
        if check.nominate:
            self._nominating = False

    def _request(self, message: stun.Message, source: Address, now: float) -> None:
        names = str(message.attributes.get("USERNAME", "")).split(":", 1)
        known = names[0] == self.ufrag and len(names) == 2 and names[1] == (self.remote_ufrag or names[1])
        if not known or not message.check_message_integrity(self.password.encode()):
            self.rejected += 1
            return
        if not self._settle_role(message, source):
            return
        self._answer(message, source)
        if len(self.trusted) < 2 * MAX_REMOTE_CANDIDATES:
            self.trusted.add(source)
        priority = int(message.attributes.get("PRIORITY", 0))
        use = "USE-CANDIDATE" in message.attributes
        if not self.started:
            # The peer's checks may overtake its answer.
            if len(self._early) < MAX_EARLY_CHECKS or source in self._early:
                self._early[source] = (priority, use or self._early.get(source, (0, False))[1])
            return
        self._triggered(source, priority, use, now)

    def _settle_role(self, message: stun.Message, source: Address) -> bool:
        """Solve a role conflict (section 7.3.1.1); False when the peer was told to change its role."""
        theirs = message.attributes.get("ICE-CONTROLLING" if self.controlling else "ICE-CONTROLLED")
        if theirs is None:
            return True
        keep_controlling = self._tie_breaker >= theirs
        if self.controlling == keep_controlling:
            error = stun.Message(
                stun.Method.BINDING, stun.Class.ERROR, message.transaction_id, {"ERROR-CODE": (487, "Role Conflict")}
            )
            error.add_message_integrity(self.password.encode())
            self._send(bytes(error), source)
            return False
        self.controlling = keep_controlling
        return True

    def _answer(self, message: stun.Message, source: Address) -> None:
        response = stun.Message(
            stun.Method.BINDING, stun.Class.RESPONSE, message.transaction_id, {"XOR-MAPPED-ADDRESS": source}
        )
        response.add_message_integrity(self.password.encode())
        self._send(bytes(response), source)

    def _triggered(self, source: Address, priority: int, use: bool, now: float) -> None:
        """Do what an authentic check asks for (sections 7.3.1.3 to 7.3.1.5)."""
        pair = self._pair(source, priority)
        if use and not self.controlling:
            pair.use_candidate = True
        if pair.state in ("waiting", "failed"):
            self._check(pair, now)
        elif pair.state == "succeeded" and use and not self.controlling:
            self._select(pair, now)

    def _response(self, message: stun.Message, source: Address, now: float) -> None:
        check = self._checks.get(message.transaction_id)
        if check is None or not message.check_message_integrity(self.remote_password.encode()):
            self.rejected += 1
            return
        del self._checks[message.transaction_id]
        pair = check.pair
        if message.message_class == stun.Class.ERROR:
            if message.error_code == 487:
                self.controlling = not check.controlling
                self._nominating = False
                self._check(pair, now)
            else:
                self._check_failed(check)
            return
        if source != pair.address:  # not symmetric (section 7.2.5.2.1)
            self._check_failed(check)
            return
        pair.state = "succeeded"
        self.trusted.add(source)
        if not self._first_success:
            self._first_success = now
        if source == self.selected:
            self._consented_at = now
        if check.nominate or (pair.use_candidate and not self.controlling):
            self._select(pair, now)
        self.advance(now)

    def _select(self, pair: _Pair, now: float) -> None:
        # The last nomination counts: a browser nominates again when it moves, and one that nominates several hears us
        # on all of them.
        self._nominating = False
        if self.selected != pair.address or not self._settled:
            self.selected = pair.address
            self._settled = True
            self._consented_at = now
            self._next_consent = now + CONSENT_INTERVAL
