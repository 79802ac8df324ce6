"""Whether what a plugin gives can be used, beyond its class."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from siperb_core.entries.contract import Refusal
from siperb_core.metrics import Histogram, Metric
from siperb_core.plugin_finding import Unusable, sentence
from siperb_core.routing import Explanation, Route

if TYPE_CHECKING:
    from siperb_core.calls.policy import MediaDecision
    from siperb_core.media.contract import TranscoderType

MOST_SERIES: Final = 1000
"""Of one metric of a plugin: each is kept for months by whoever collects them."""
_LONGEST_VALUE: Final = 200  # characters of a label's value
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_SAMPLES: Final = ("_bucket", "_sum", "_count", "_created")
"""Endings of the names of a histogram's parts."""


def check_pairs(transcoder: TranscoderType) -> None:
    """Raises Unusable where a transcoder cannot say what it bridges: that is asked for in every call."""
    try:
        for source, target in transcoder.pairs():
            if not isinstance(source, str) or not isinstance(target, str):
                raise TypeError(f"{source!r} to {target!r} are no names of codecs")
    except Exception as error:
        raise Unusable(f"pairs() of transcoder {transcoder.name}: {sentence(error)}") from error


def can_be_followed(explanation: Explanation) -> bool:
    """Whether what a plugin calls an explanation names connections, and nothing else."""
    order: object = explanation.order
    taken: object = explanation.taken
    return (
        isinstance(order, tuple)
        and all(isinstance(name, str) for name in order)
        and (taken is None or isinstance(taken, str))
        and isinstance(explanation.candidates, tuple)
    )


def no_clash(what: str, names: list[str], taken: Mapping[str, object]) -> None:
    """Raises Unusable where a name is taken, or given twice."""
    for index, name in enumerate(names):
        if name in taken or name in names[:index]:
            raise Unusable(f"{what} {name} is taken by another plugin")


def decides_media(found: object) -> TypeGuard[MediaDecision]:
    """Whether this is a policy for a call's media, or a refusal."""
    if isinstance(found, Refusal):
        return isinstance(found.status, int) and 300 <= found.status <= 699 and isinstance(found.reason, str)
    codecs: object = getattr(found, "codecs", None)
    known = isinstance(codecs, tuple) and all(isinstance(name, str) for name in codecs)
    return known and all(hasattr(found, name) for name in ("passthrough", "transcodes", "codec_policy", "srtp", "why"))


def are_routes(found: object, given: Sequence[Route]) -> bool:
    """Whether these are the connections that were given, each with something to be said of it perhaps."""
    return (
        isinstance(found, list | tuple)
        and all(isinstance(route, Route) for route in found)
        and [route.connection for route in found] == [route.connection for route in given]
        and all(isinstance(text, str) for route in found for text in (route.unusable, route.note))
    )


class ShownMetrics:
    """Metrics of several plugins as JSON values, each name once. `prefix` goes before all names."""

    def __init__(self, prefix: str) -> None:
        self.rows: list[dict[str, Any]] = []
        self._prefix = prefix
        self._taken: set[str] = set()

    def add(self, metric: object, of: str) -> None:
        """Take in a metric of a plugin's, or one of the gateway's own where `of` is empty: those are not checked, as a
        thousand connections have eight thousand values.

        Raises Unusable with the reason where it is none, or its name is taken.
        """
        try:
            if of:
                check_metric(metric)
            assert isinstance(metric, Metric)
            row = metric.as_json(f"{self._prefix}{re.sub('[^a-z0-9]', '_', of.lower())}_" if of else self._prefix)
        except Unusable:
            raise
        except Exception as error:
            raise Unusable(sentence(error)) from error
        if row["name"] in self._taken:
            raise Unusable(f"there is a metric {row['name']} already")
        self._taken.add(str(row["name"]))
        self.rows.append(row)


def check_metric(metric: object) -> None:
    """Raises Unusable where Prometheus could not take it for what it says it is; anything else where it is nonsense."""
    if not isinstance(metric, Metric):
        raise Unusable(f"{type(metric).__name__} is no metric")
    name, kind, labels = metric.name, metric.kind, metric.labels
    if not all(_NAME.fullmatch(text) for text in (name, *labels)) or "le" in labels or len({*labels}) < len(labels):
        raise Unusable(f"{name!r} with labels {labels!r} is no name of a metric")
    if kind not in ("counter", "gauge", "histogram") or not isinstance(metric.help, str):
        raise Unusable(f"{name} is no counter, gauge or histogram with a help")
    if name.endswith("_total") is not (kind == "counter") or name.endswith(_SAMPLES):
        raise Unusable(f"{name} is no name of a {kind}: that of a counter ends with _total, no other does")
    if len(metric.values) > MOST_SERIES:
        raise Unusable(f"{name} has {len(metric.values)} time series: give it fewer labels")
    for key, value in metric.values.items():
        fits = isinstance(value, Histogram) if kind == "histogram" else isinstance(value, int | float)
        if not fits or (
            isinstance(value, int | float) and not (math.isfinite(value) and (kind != "counter" or value >= 0))
        ):
            raise Unusable(f"{name} has a value that is none of a {kind}")
        if len(key) != len(labels) or not all(isinstance(text, str) and len(text) <= _LONGEST_VALUE for text in key):
            raise Unusable(f"{name} has values of other labels than {labels!r}")
