"""The registrar: which contacts an address-of-record has (RFC 3261 section 10.3, RFC 5626 section 6, RFC 3327, 5627).

It serves softphones, who are reached by the flow they registered on, and PBXs that register to us, who are reached by
their contact. Who may register what has been decided before. Nothing is kept on disk here: every change is handed out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Literal

import attrs

from siperb_core.sip.errors import ParseError
from siperb_core.sip.flow import Flow
from siperb_core.sip.gruu import mark_in, mark_of, public_gruu, temporary_gruu
from siperb_core.sip.headers import NameAddr, parse_name_addr
from siperb_core.sip.message import Message
from siperb_core.sip.response import response_to
from siperb_core.sip.timers import Timer, TimerWheel
from siperb_core.sip.uri import parse_uri

_ONE_HOUR = 3600
_LONGEST_CONTACT = 1024  # characters of a contact


@attrs.define(eq=False)
class Binding:
    """One contact of an address-of-record."""

    aor: str
    contact: str
    """The contact's URI exactly as it was written, all its parameters included."""
    instance: str = ""
    """`<urn:uuid:...>` out of `+sip.instance` (RFC 5626 section 4.1); '' where there is none."""
    reg_id: int | None = None
    call_id: str = ""
    cseq: int = 0
    expires_at: float = 0.0
    """Seconds since the epoch."""
    flow: Flow | None = None
    """What the REGISTER came in on; None after a restart."""
    user_agent: str = ""
    path: tuple[str, ...] = ()
    """Route values that lead to the contact, nearest first (RFC 3327)."""
    registered_at: float = 0.0
    """When this binding was last added or refreshed, in seconds since the epoch."""
    since: float = 0.0
    """Since when it has had this Call-ID, in seconds since the epoch: so long its temporary GRUUs are good."""
    written: NameAddr | None = None
    """The whole contact as it was written; None after a restart."""

    def as_contact(self, now: float, gruu: str = "", temporary: str = "") -> str:
        """The value of a Contact in the answer: as written, how long it has left, and its GRUUs if any."""
        written = self.written
        if written is None:
            written = NameAddr("", self.contact)
            if self.instance:
                written = written.with_param("+sip.instance", f'"{self.instance}"')
            if self.reg_id is not None:
                written = written.with_param("reg-id", str(self.reg_id))
        written = written.with_param("expires", str(max(0, round(self.expires_at - now))))
        for name, value in (("pub-gruu", gruu), ("temp-gruu", temporary)):
            if value:
                written = written.with_param(name, f'"{value}"')
        return str(written)


@attrs.frozen
class BindingChange:
    """What became of a binding."""

    what: Literal["added", "refreshed", "removed"]
    binding: Binding


@attrs.frozen
class RegisterResult:
    """The answer, and the changes to be made lasting before it goes out: those asked for, and bindings that ran out."""

    response: Message
    changed: list[BindingChange]


@attrs.frozen
class _Wanted:
    contact: NameAddr
    key: tuple[Any, ...]
    instance: str
    reg_id: int | None
    expires: int


class _Refused(Exception):
    def __init__(self, status: int, reason: str = "", *headers: tuple[str, str]) -> None:
        super().__init__(status)
        self.status, self.reason, self.headers = status, reason, headers


class Registrar:
    """The bindings of all addresses-of-record. Times are seconds since the epoch.

    An AOR holds at most `max_bindings`; one more pushes out the one that was not refreshed for longest, since that is
    what a phone leaves behind that never says goodbye.
    """

    def __init__(
        self,
        min_expires: int = 60,
        max_expires: int = 3600,
        default_expires: int = 300,
        max_bindings: int = 10,
        gruu_key: bytes = b"",
    ) -> None:
        self._min_expires = min_expires
        self._max_expires = max_expires
        self._default_expires = default_expires
        self._max_bindings = max_bindings
        self._gruu_key = gruu_key
        self._marks: dict[bytes, Binding] = {}
        self._aors: dict[str, dict[tuple[Any, ...], Binding]] = {}
        self._timers: dict[tuple[str, tuple[Any, ...]], Timer[tuple[str, tuple[Any, ...]]]] = {}
        self._wheel: TimerWheel[tuple[str, tuple[Any, ...]]] = TimerWheel()
        self._by_flow: dict[Flow, dict[tuple[str, tuple[Any, ...]], None]] = {}

    def __len__(self) -> int:
        """Number of bindings."""
        return len(self._timers)

    @property
    def reachable(self) -> int:
        """How many bindings have a flow."""
        return sum(map(len, self._by_flow.values()))

    @property
    def next_expiry(self) -> float | None:
        """When the next binding runs out; None where there are none."""
        return self._wheel.next_deadline

    def bindings(self, aor: str) -> list[Binding]:
        """The bindings of an AOR, oldest first; empty for one that is not registered."""
        return list(self._aors.get(aor, {}).values())

    def temporarily(self, uri: str, domain: str) -> Binding | None:
        """The binding whose temporary GRUU this is, as long as it keeps its Call-ID; None where there is none."""
        mark = mark_in(self._gruu_key, uri, domain) if self._gruu_key else None
        return None if mark is None else self._marks.get(mark)

    def restore(self, bindings: Iterable[Binding]) -> None:
        """Take in what was on disk before a restart. What has run out since goes with the next `expire`."""
        for binding in bindings:
            self._put(_key(binding.contact, binding.instance, binding.reg_id), binding)

    def expire(self, now: float) -> list[BindingChange]:
        """Drop what has run out."""
        changed = []
        while (due := self._wheel.pop_due(now)) is not None:
            aor, key = due[0]
            changed.append(BindingChange("removed", self._take(aor, key)))
        return changed

    def drop_flow(self, flow: Flow) -> list[BindingChange]:
        """Drop all bindings of a flow that has ended: nothing can be reached through it any more."""
        return [BindingChange("removed", self._take(aor, key)) for aor, key in list(self._by_flow.get(flow, ()))]

    def register(self, request: Message, aor: str, flow: Flow | None, now: float, domain: str = "") -> RegisterResult:
        """Carry out a REGISTER for `aor`, whose sender has the right to it. All of its contacts, or none.

        Who asks for it gets the GRUUs of its own contacts, as a user of `domain`; none where that is empty, and no
        temporary ones without a key.
        Without Contact it only asks. 400 what makes no sense, 423 too short an expiry (with Min-Expires), 500 a
        REGISTER overtaken by a later one.
        """
        changed = self.expire(now)
        headers: list[tuple[str, str]] = []
        try:
            wanted = self._wanted(request)
            call_id, cseq = request.call_id, request.cseq.number
            path = tuple(_route(value) for value in request.values("Path"))
            present = self._aors.get(aor, {})
            if wanted is None:
                self._check_order(present.values(), call_id, cseq)
                changed += [BindingChange("removed", self._take(aor, key)) for key in list(present)]
            else:
                known = [present[contact.key] for contact in wanted if contact.key in present]
                self._check_order(known, call_id, cseq)
                for contact in wanted:
                    changed += self._bind(request, aor, contact, path, flow, now)
                changed += self._evict(aor)
        except _Refused as refused:
            refusal = response_to(
                request, refused.status, refused.reason, to_tag=_tag(request), headers=refused.headers
            )
            return RegisterResult(refusal, changed)
        except ParseError as error:
            return RegisterResult(response_to(request, error.status, error.reason, to_tag=_tag(request)), changed)
        supported = {option.lower() for option in _options(request, "Supported")}
        own = {contact.key for contact in wanted or ()} if "gruu" in supported else set()
        for key, binding in self._aors.get(aor, {}).items():
            gruu = public_gruu(aor, domain, binding.instance) if key in own else ""
            temporary = ""
            if gruu and self._gruu_key:
                temporary = temporary_gruu(self._gruu_key, self._mark(binding), binding.cseq, domain)
            headers.append(("Contact", binding.as_contact(now, gruu, temporary)))
        if "path" in supported:
            headers += [("Path", value) for value in request.get_all("Path")]
        if "outbound" in supported and wanted and any(contact.reg_id is not None for contact in wanted):
            headers.append(("Require", "outbound"))
        return RegisterResult(response_to(request, 200, to_tag=_tag(request), headers=headers), changed)

    def _wanted(self, request: Message) -> list[_Wanted] | None:
        """The contacts asked for; None for `Contact: *`, which takes all away (section 10.3 step 6)."""
        contacts = request.contacts
        default = request.expires
        if any(contact.uri == "*" for contact in contacts):
            if len(contacts) > 1 or default != 0:
                raise _Refused(400, "Contact * Needs Expires 0 And No Other Contact")
            return None
        if len(contacts) > self._max_bindings:
            raise _Refused(400, "Too Many Contacts")
        return [self._one_wanted(contact, default) for contact in contacts]

    def _one_wanted(self, contact: NameAddr, default: int | None) -> _Wanted:
        """Section 10.3 step 7: the contact's own expiry, else the request's, else ours."""
        if len(contact.uri) > _LONGEST_CONTACT or len(str(contact)) > 2 * _LONGEST_CONTACT:
            raise _Refused(400, "Contact Too Long")
        text = contact.param("expires")
        if text is None:
            expires = self._default_expires if default is None else default
        else:
            # Section 20.10: what is no number counts as an hour.
            expires = int(text[:10]) if text.isascii() and text.isdigit() else _ONE_HOUR
        if 0 < expires < min(self._min_expires, _ONE_HOUR):
            raise _Refused(423, "", ("Min-Expires", str(self._min_expires)))
        instance = contact.param("+sip.instance") or ""
        number = contact.param("reg-id") or ""
        # RFC 5626 section 6: a reg-id without an instance means nothing.
        reg_id = int(number) if instance and number.isascii() and number.isdigit() and len(number) < 10 else None
        key = _key(contact.uri, instance, reg_id)
        # RFC 5627 section 5.1: GRUUs are the registrar's to give.
        contact = contact.without_param("pub-gruu").without_param("temp-gruu")
        return _Wanted(contact, key, instance, reg_id, min(expires, self._max_expires))

    @staticmethod
    def _check_order(bindings: Iterable[Binding], call_id: str, cseq: int) -> None:
        """Section 10.3 steps 6 and 7: within one Call-ID a REGISTER has to be newer than the one that is in force."""
        if any(binding.call_id == call_id and cseq <= binding.cseq for binding in bindings):
            raise _Refused(500, "CSeq Out Of Order")

    def _bind(
        self, request: Message, aor: str, contact: _Wanted, path: tuple[str, ...], flow: Flow | None, now: float
    ) -> list[BindingChange]:
        old = self._aors.get(aor, {}).get(contact.key)
        if contact.expires == 0:
            return [] if old is None else [BindingChange("removed", self._take(aor, contact.key))]
        binding = Binding(
            aor=aor,
            contact=contact.contact.uri,
            instance=contact.instance,
            reg_id=contact.reg_id,
            call_id=request.call_id,
            cseq=request.cseq.number,
            expires_at=now + contact.expires,
            flow=flow,
            user_agent=(request.get("User-Agent") or "")[:256],
            path=path,
            registered_at=now,
            since=old.since if old is not None and old.call_id == request.call_id else now,
            written=contact.contact,
        )
        self._put(contact.key, binding)
        if old is None:
            return [BindingChange("added", binding)]
        if old.contact != binding.contact and not binding.instance:
            # The same URI spelt differently: whoever keeps bindings by their text has to hear of both.
            return [BindingChange("removed", old), BindingChange("added", binding)]
        return [BindingChange("refreshed", binding)]

    def _evict(self, aor: str) -> list[BindingChange]:
        present = self._aors.get(aor, {})
        surplus = len(present) - self._max_bindings
        return [BindingChange("removed", self._take(aor, key)) for key in list(present)[: max(0, surplus)]]

    def _mark(self, binding: Binding) -> bytes:
        """What temporary GRUUs know it by (RFC 5627 section 5.4): a REGISTER of another Call-ID, or after the contact
        was taken away, makes another.
        """
        who = (binding.aor, binding.instance, binding.reg_id, binding.call_id, float(binding.since))
        return mark_of(self._gruu_key, *who)

    def _put(self, key: tuple[Any, ...], binding: Binding) -> None:
        aor = binding.aor
        if key in self._aors.get(aor, {}):
            self._take(aor, key)
        self._aors.setdefault(aor, {})[key] = binding  # at the end: refreshed last
        self._timers[aor, key] = self._wheel.start((aor, key), "expires", binding.expires_at)
        if self._gruu_key and binding.instance:
            self._marks[self._mark(binding)] = binding
        if binding.flow is not None:
            self._by_flow.setdefault(binding.flow, {})[aor, key] = None

    def _take(self, aor: str, key: tuple[Any, ...]) -> Binding:
        present = self._aors[aor]
        binding = present.pop(key)
        if not present:
            del self._aors[aor]
        self._wheel.stop(self._timers.pop((aor, key)))
        if self._gruu_key and binding.instance:
            self._marks.pop(self._mark(binding), None)
        if binding.flow is not None:
            others = self._by_flow[binding.flow]
            others.pop((aor, key), None)
            if not others:
                del self._by_flow[binding.flow]
        return binding


def _key(contact: str, instance: str, reg_id: int | None) -> tuple[Any, ...]:
    """What makes two contacts one binding: the instance (RFC 5626 section 6), else the URI (RFC 3261 10.3, 19.1.4)."""
    if instance:
        return (instance, reg_id)
    try:
        uri = parse_uri(contact)
    except ParseError:
        return (contact,)
    params = tuple(sorted((name.lower(), (value or "").lower()) for name, value in uri.params))
    return (uri.scheme, uri.user_unescaped, uri.password, uri.host.lower(), uri.port, params)


def _route(value: str) -> str:
    """A Route value out of a Path. Raises ParseError, also for its URI, which every call to the contact reads again."""
    address = parse_name_addr(value)
    parse_uri(address.uri)
    return str(address)


def _options(request: Message, name: str) -> list[str]:
    try:
        return request.values(name)
    except ParseError:
        return []


def _tag(request: Message) -> str:
    """A To tag that is the same each time the same REGISTER is answered (section 8.2.7)."""
    parts = "\n".join(request.get(name) or "" for name in ("Call-ID", "CSeq", "From"))
    return hashlib.sha256(parts.encode("utf-8", "surrogateescape")).hexdigest()[:12]
