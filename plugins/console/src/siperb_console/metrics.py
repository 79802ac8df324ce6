"""`/metrics`: what the gateway and its plugins have counted, in Prometheus' text format."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from siperb_core import HttpRequest, HttpResponse, HttpRoute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    from siperb_core import GatewayView


def metrics_route(gateway: GatewayView) -> HttpRoute:
    """The path Prometheus asks."""
    return HttpRoute("/metrics", partial(_answer, gateway))


async def _answer(gateway: GatewayView, request: HttpRequest) -> HttpResponse:
    """What is true now; written in a thread, as there may be thousands of connections. Raises ControlError."""
    found = await gateway.call("show.metrics")
    text, content_type = await trio.to_thread.run_sync(exposition, found)
    return HttpResponse(text, content_type=content_type, headers={"cache-control": "no-store"})


def exposition(found: Sequence[Mapping[str, Any]]) -> tuple[bytes, str]:
    """What the control method `show.metrics` has given as text, and the type of that."""
    # Imported when somebody asks, in his thread: it takes a tenth of a second.
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

    return generate_latest(Snapshot(found)), CONTENT_TYPE_PLAIN_0_0_4


class Snapshot:
    """Metrics as `prometheus_client` has them: a collector of its own, so that nothing is in its global registry."""

    def __init__(self, found: Sequence[Mapping[str, Any]]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        """Each metric with its samples."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for row in self._found:
            name, text, labels, samples = row["name"], row["help"], row["labels"], row["samples"]
            if row["type"] == "histogram":
                histogram = HistogramMetricFamily(name, text, labels=labels)
                for sample in samples:
                    buckets = list(sample["buckets"].items())
                    histogram.add_metric(list(sample["labels"].values()), buckets, sample["sum"])
                yield histogram
            else:
                single = (CounterMetricFamily if row["type"] == "counter" else GaugeMetricFamily)(
                    name, text, labels=labels
                )
                for sample in samples:
                    single.add_metric(list(sample["labels"].values()), sample["value"])
                yield single
