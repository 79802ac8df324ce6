"""The gateway's own metrics: what each is called and says, and where its value comes from.

Nothing is counted for them on the way of a message or a packet that was not counted anyhow: plain numbers, which are
read when somebody asks. What calls were like is counted as plugins do, by events and records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import attrs

from siperb_core.entries.states import State
from siperb_core.events import CallEvent
from siperb_core.hookspecs import hookimpl
from siperb_core.media.counters import Counters, CountsMedia
from siperb_core.metrics import Histogram, Metric

if TYPE_CHECKING:
    from siperb_core.gateway import Gateway

PREFIX: Final = "siperb_"

OUTCOMES: Final = ("answered", "busy", "no_answer", "rejected", "cancelled", "failed")
REASONS: Final = (
    *("bug", "credentials", "crowd", "flood", "frames", "handshake", "invalid", "locked_out", "not_signed_in"),
    *("oversized", "stream", "unclaimed", "unparsable", "unproven"),
)
"""Why something was not listened to; those a transport of a plugin adds come beside them."""
MODES: Final = ("passthrough", "relay", "transcode")
LEGS: Final = ("client", "peer")

_SETUP: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
_MOS: Final = (1.5, 2.0, 2.5, 3.0, 3.5, 3.8, 4.0, 4.2, 4.4)
_JITTER: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)

Values = Mapping[tuple[str, ...], float | Histogram]


@attrs.frozen
class OwnMetric:
    """One of the core's: `labels` says what values each label has."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Mapping[str, str] = attrs.field(factory=dict)


_LEG: Final = "`client`: the softphone's, `peer`: the PBX's"
_MODE: Final = "`passthrough`, `relay`, `transcode`"

OWN: Final = (
    OwnMetric("calls_active", "gauge", "Calls that are not over, ringing ones too."),
    OwnMetric(
        "calls_total",
        "counter",
        "Calls that are over, by how they came out.",
        {
            "direction": "`outbound`: a softphone called through a connection, `inbound`: a softphone was called",
            "outcome": "`answered`; `busy` (486, 600), `no_answer` (408, 480), `rejected` (any other 3xx, 4xx, 6xx), "
            "`cancelled` by the caller, `failed` (5xx)",
        },
    ),
    OwnMetric(
        "call_setup_seconds",
        "histogram",
        "Time from a call's INVITE to the first ringing or answer (RFC 6076 section 4.3).",
    ),
    OwnMetric("call_mos", "histogram", "Mean opinion score of a call that is over, by the E-model.", {"leg": _LEG}),
    OwnMetric("call_jitter_seconds", "histogram", "Jitter of a call that is over, at its end.", {"leg": _LEG}),
    OwnMetric("call_packets_lost_total", "counter", "RTP packets lost in calls that are over.", {"leg": _LEG}),
    OwnMetric("registrations_active", "gauge", "Softphones' contacts that can be reached."),
    OwnMetric(
        "connection_state",
        "gauge",
        "1 for the state a connection is in, 0 for all others.",
        {"connection": "its name", "state": ", ".join(f"`{state}`" for state in get_args(State))},
    ),
    OwnMetric(
        "sip_messages_total",
        "counter",
        "SIP messages, those sent again too.",
        {
            "transport": "`udp`, `tcp`, `tls`, `ws`, `wss`",
            "direction": "`in`, `out`",
            "method": "a request's, `other` for one that nobody has defined; `1xx` to `6xx` for responses",
        },
    ),
    OwnMetric("transactions_active", "gauge", "SIP transactions that are alive."),
    OwnMetric(
        "media_sessions", "gauge", "Calls that have agreed on media, by what is done with them.", {"mode": _MODE}
    ),
    OwnMetric("media_sessions_opened_total", "counter", "Media sessions ever opened."),
    OwnMetric(
        "media_packets_total",
        "counter",
        "RTP packets of calls that are relayed or transcoded.",
        {"leg": _LEG, "direction": "`in`: from the leg, `out`: to it"},
    ),
    OwnMetric("media_lost_total", "counter", "RTP packets that were sent to the gateway and did not arrive."),
    OwnMetric("media_concealed_total", "counter", "Lost packets a transcoder has filled in."),
    OwnMetric("media_one_way_total", "counter", "Times a leg sent nothing while the other one did."),
    OwnMetric("transcode_seconds_total", "counter", "Time spent on packets of calls that are transcoded."),
    OwnMetric("media_cpu_seconds_total", "counter", "CPU time of the media workers."),
    OwnMetric("auth_failures_total", "counter", "Wrong credentials shown by softphones, PBXs and strangers."),
    OwnMetric(
        "rejected_total",
        "counter",
        "What was not listened to, or could not be read.",
        {"reason": ", ".join(f"`{reason}`" for reason in REASONS)},
    ),
    OwnMetric(
        "plugin_errors_total", "counter", "Exceptions and nonsense out of plugins' hooks.", {"plugin": "its name"}
    ),
)
"""All of them, in the order of the reference."""


class Measures:
    """Collects the metrics of a gateway. A plugin of the gateway's own: it hears of calls, and gives metrics."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._ended: Counter[tuple[str, ...]] = Counter()
        self._setup = Histogram(_SETUP)
        self._heard_of: set[tuple[str, str, str]] = set()
        self._mos = {leg: Histogram(_MOS) for leg in LEGS}
        self._jitter = {leg: Histogram(_JITTER) for leg in LEGS}
        self._lost: Counter[str] = Counter()

    @hookimpl
    def siperb_call_event(self, event: CallEvent) -> None:
        """How long a call's setup took, and how it ended."""
        call = (event.call_id, event.direction, event.connection)
        if event.what in ("ringing", "answered") and call not in self._heard_of:
            self._heard_of.add(call)
            self._setup.observe(max(event.when - event.started, 0.0))
        elif event.what == "ended":
            self._heard_of.discard(call)
            self._ended[event.direction, outcome(event)] += 1

    @hookimpl
    def siperb_call_record(self, record: Mapping[str, Any]) -> None:
        """How the media of a call arrived."""
        media = record["media"] or {}
        for leg in LEGS:
            figures = media.get(leg) or {}
            if not figures.get("packets_in"):
                continue  # nothing came: there is nothing to say of its quality
            self._lost[leg] += figures.get("lost", 0)
            self._jitter[leg].observe(figures.get("jitter_ms", 0.0) / 1000)
            if figures.get("mos") is not None:
                self._mos[leg].observe(figures["mos"])

    @hookimpl
    def siperb_metrics(self) -> list[Metric]:
        """All of `OWN`."""
        values = self._values()
        return [Metric(own.name, own.kind, own.help, values[own.name], tuple(own.labels)) for own in OWN]

    def _values(self) -> dict[str, Values]:
        gateway = self._gateway
        signalling, plugins = gateway.signalling, gateway.plugins
        done = gateway.media.counters() if isinstance(gateway.media, CountsMedia) else Counters()
        modes, rejected = gateway.calls.modes(), signalling.rejected
        return {
            "calls_active": _single(len(gateway.calls.active())),
            "calls_total": {
                (direction, how): self._ended[direction, how]
                for direction in ("outbound", "inbound")
                for how in OUTCOMES
            },
            "call_setup_seconds": _single(self._setup),
            "call_mos": _by(LEGS, self._mos.__getitem__),
            "call_jitter_seconds": _by(LEGS, self._jitter.__getitem__),
            "call_packets_lost_total": _by(LEGS, self._lost.__getitem__),
            "registrations_active": _single(gateway.softphones.reachable),
            "connection_state": {
                (name, state): int(state == now)
                for name, now in gateway.entries.states().items()
                for state in get_args(State)
            },
            "sip_messages_total": dict(signalling.messages.items()),
            "transactions_active": _single(signalling.transactions),
            "media_sessions": _by(MODES, modes.__getitem__),
            "media_sessions_opened_total": _single(done.sessions),
            "media_packets_total": {
                ("client", "in"): done.client_in,
                ("client", "out"): done.client_out,
                ("peer", "in"): done.peer_in,
                ("peer", "out"): done.peer_out,
            },
            "media_lost_total": _single(done.lost),
            "media_concealed_total": _single(done.concealed),
            "media_one_way_total": _single(done.one_way),
            "transcode_seconds_total": _single(round(done.transcode_seconds, 6)),
            "media_cpu_seconds_total": _single(round(done.cpu_seconds, 3)),
            "auth_failures_total": _single(rejected["credentials"]),
            "rejected_total": _by(dict.fromkeys((*REASONS, *rejected)), rejected.__getitem__),
            "plugin_errors_total": _by(
                dict.fromkeys((*(info.name for info in plugins.infos), *plugins.errors)), plugins.errors.__getitem__
            ),
        }


def outcome(event: CallEvent) -> str:
    """How a call that has ended came out, as one of `OUTCOMES`."""
    if event.answered is not None:
        return "answered"
    status = event.status
    if status is None or status == 487:  # nobody was left to answer to
        return "cancelled"
    if status in (486, 600):
        return "busy"
    if status in (408, 480):
        return "no_answer"
    return "failed" if 500 <= status < 600 else "rejected"


def _single(value: float | Histogram) -> Values:
    return {(): value}


def _by(names: Iterable[str], value: Callable[[str], float | Histogram]) -> Values:
    return {(name,): value(name) for name in names}


__all__ = ["OWN", "PREFIX", "Measures", "OwnMetric", "outcome"]
