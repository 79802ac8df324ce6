"""Metrics as Prometheus has them, of the core and of plugins: plain data, collected when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Literal

import attrs


class Histogram:
    """How many values there were up to each of some bounds, in ascending order, and their sum. For a `Metric`.

    >>> seconds = Histogram([0.1, 1.0])
    >>> seconds.observe(0.1)
    >>> seconds.observe(3.0)
    >>> seconds.counts, seconds.sum
    ([1, 0, 1], 3.1)
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """Values up to each bound and above the one before it; the last are above all bounds."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value: less than a microsecond."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@attrs.frozen
class Metric:
    """A metric as it is now. `values` has a number for each combination of the labels' values, in the order of
    `labels`, and for `()` where there are none; a `Histogram` where it is one.

    `name` is of small letters, digits and `_`, with the unit at its end where there is one, `_seconds` say; that of a
    counter, which only grows, ends with `_total`. `help` says in a sentence what is counted. Each combination is a
    time series that is kept for months: names of people, numbers and addresses are no labels.

    >>> Metric("lookups_total", "counter", "Numbers looked up.", {("found",): 7, ("none",): 2}, labels=("outcome",))
    Metric(name='lookups_total', ...)
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    values: Mapping[tuple[str, ...], float | Histogram]
    labels: tuple[str, ...] = ()

    def as_json(self, prefix: str) -> dict[str, object]:
        """As the control method `show.metrics` gives it; `prefix` goes before the name. Buckets are cumulative, as
        Prometheus has them.
        """
        samples: list[dict[str, object]] = []
        for key, value in self.values.items():
            labels = dict(zip(self.labels, key, strict=True))
            found = _buckets(value) if isinstance(value, Histogram) else {"value": value}
            samples.append({"labels": labels, **found})
        name = f"{prefix}{self.name}"
        return {"name": name, "type": self.kind, "help": self.help, "labels": list(self.labels), "samples": samples}


def _buckets(value: Histogram) -> dict[str, object]:
    counts = list(accumulate(value.counts))
    bounds = [*map(str, value.bounds), "+Inf"]
    return {"buckets": dict(zip(bounds, counts, strict=True)), "sum": round(value.sum, 6), "count": counts[-1]}


__all__ = ["Histogram", "Metric"]
