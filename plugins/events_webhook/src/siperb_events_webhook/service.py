"""Delivering what waits: one event after the other, again and again while the receiver is away."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog
import trio

from siperb_core import ControlError, Metric
from siperb_events_webhook.config import TABLE, WebhookConfig
from siperb_events_webhook.events import Item, document, event_id, signature
from siperb_events_webhook.outbox import Outbox

if TYPE_CHECKING:
    from siperb_core import GatewayView
    from siperb_events_webhook.sender import Sender, Verdict

log = structlog.get_logger("siperb.events_webhook")

LONGEST_PAUSE: Final = 300.0
"""Seconds between two attempts, unless the receiver asks for more."""
LEAVE_SECONDS: Final = 5.0
"""What is queued when the gateway stops has that long to leave."""
REFUSED_SECONDS: Final = 600.0
"""A receiver that has taken nothing for that long is an issue."""
ISSUE: Final = "receiver"


def pause(tries: int, jitter: float) -> float:
    """Seconds to wait after so many attempts in vain, from 1: 1, 2, 4 ... 300, and up to a quarter more, so that many
    gateways do not come back as one. `jitter` is from 0 to 1.
    """
    return float(min(LONGEST_PAUSE, 2.0 ** min(tries - 1, 20))) * (1 + jitter / 4)


class WebhookService:
    """A `siperb_core.Service`: takes events out of the outbox and posts them."""

    name = "events_webhook"

    def __init__(
        self,
        outbox: Outbox,
        *,
        sender: Callable[[WebhookConfig], Sender] | None = None,
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._sender = sender or _sender
        self._now = now
        self._jitter = jitter
        self._run = secrets.token_hex(8)
        self._config: WebhookConfig | None = None
        self._domain = ""
        self._failures = 0
        self._tries = 0  # at what is the oldest event now, or was until it had to be dropped
        self._failing_since: float | None = None  # by trio's clock
        self._last_error = ""
        self._last_error_at: float | None = None
        self._complained = False
        self._stopping = trio.Event()

    def status(self) -> dict[str, Any] | None:
        """How it is: JSON values without secrets; None where no receiver is configured."""
        if self._config is None:
            return None
        return {
            "receiver": self._config.receiver,
            "events": sorted(self._config.names),
            "queue": len(self._outbox),
            "max_queue": self._config.max_queue,
            "delivered": self._outbox.delivered,
            "failed": self._outbox.failed,
            "dropped": self._outbox.dropped,
            "failures_in_a_row": self._failures,
            "last_error": self._last_error,
            "last_error_at": self._last_error_at,
        }

    def metrics(self) -> list[Metric]:
        """The same for Prometheus."""
        if self._config is None:
            return []
        outbox = self._outbox
        deliveries: dict[tuple[str, ...], float] = {
            (outcome,): getattr(outbox, outcome) for outcome in ("delivered", "failed", "retried")
        }
        return [
            Metric("queue_length", "gauge", "Events that wait for the receiver.", {(): len(outbox)}),
            Metric("deliveries_total", "counter", "Attempts to deliver an event.", deliveries, labels=("outcome",)),
            Metric("dropped_total", "counter", "Events there was no room for.", {(): outbox.dropped}),
        ]

    async def run(self, gateway: GatewayView, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver until cancelled, and then for `LEAVE_SECONDS` at most what is left.

        Ends at once where there is no table.
        """
        try:
            config = gateway.settings
            if not isinstance(config, WebhookConfig):
                task_status.started()
                return
            self._domain = await _domain(gateway)
            sender = await trio.to_thread.run_sync(self._sender, config)
            self._config = config
            self._outbox.configure(config.names, config.max_queue)
            leaving = trio.CancelScope(shield=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deliver, gateway, config, sender, leaving)
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    leaving.deadline = trio.current_time() + LEAVE_SECONDS
                    self._stopping.set()
                    self._outbox.wake()
        finally:
            self._outbox.configure(frozenset(), 0)

    async def _deliver(
        self, gateway: GatewayView, config: WebhookConfig, sender: Sender, leaving: trio.CancelScope
    ) -> None:
        with leaving:
            async with sender:
                while True:
                    item = self._outbox.take()
                    if item is not None:
                        await self._attempt(gateway, config, sender, item)
                    elif self._stopping.is_set():
                        return
                    else:
                        await self._outbox.wait()
        if len(self._outbox):
            log.warning("webhook.left_behind", events=len(self._outbox), reason=self._last_error or "no time left")

    async def _attempt(self, gateway: GatewayView, config: WebhookConfig, sender: Sender, item: Item) -> None:
        """One POST of the oldest event; where it has failed, the pause after it."""
        try:
            body = document(item, run=self._run, gateway=self._domain)
        except (TypeError, ValueError) as error:
            log.error("webhook.no_json", webhook_event=item.name, reason=str(error))
            self._outbox.settle(failed=True)
            return
        now = self._now()
        headers = {
            "Content-Type": "application/json",
            "X-Siperb-Event": item.name,
            "X-Siperb-Event-Id": event_id(item, self._run),
            "X-Siperb-Signature": signature(config.secret.reveal(), body, int(now)),
        }
        try:
            verdict = await sender.post(body, headers, now)
        except trio.Cancelled:
            self._outbox.settle()
            raise
        done = verdict.delivered or not verdict.retry
        self._outbox.settle(delivered=verdict.delivered, failed=done and not verdict.delivered, retry=not done)
        if verdict.delivered:
            self._well(gateway)
            return
        self._failed(config, verdict, item)
        self._complain_in_time(gateway, config)
        if verdict.retry:
            await self._pause(gateway, config, max(pause(self._tries, self._jitter()), verdict.retry_after))

    def _well(self, gateway: GatewayView) -> None:
        if self._failures:
            log.info("webhook.delivered_again", failures=self._failures)
        self._failures, self._tries, self._failing_since = 0, 0, None
        if self._complained:
            self._complained = False
            gateway.clear_issue(ISSUE)

    def _failed(self, config: WebhookConfig, verdict: Verdict, item: Item) -> None:
        self._failures += 1
        self._tries = self._tries + 1 if verdict.retry else 0
        if self._failing_since is None:
            self._failing_since = trio.current_time()
        # Once for every new reason: a receiver that is away for a day is not worth a thousand lines.
        if verdict.reason != self._last_error or self._failures == 1:
            log.warning(
                "webhook.failed",
                receiver=config.receiver,
                reason=verdict.reason,
                webhook_event=item.name,
                tried_again=verdict.retry,
            )
        self._last_error, self._last_error_at = verdict.reason, self._now()

    def _complain_in_time(self, gateway: GatewayView, config: WebhookConfig) -> None:
        since = self._failing_since
        if since is not None and not self._complained and trio.current_time() - since >= REFUSED_SECONDS:
            self._complained = True
            gateway.raise_issue(
                ISSUE,
                f"the receiver of events at {config.receiver} has taken none for ten minutes: {self._last_error}",
                f"mend the receiver, or {TABLE}.url",
            )

    async def _pause(self, gateway: GatewayView, config: WebhookConfig, seconds: float) -> None:
        """Wait, and complain in the middle of it where that is when the patience ends. A gateway that stops waits no
        longer, and then as after a first failure.
        """
        until = trio.current_time() + (min(seconds, 1.0) if self._stopping.is_set() else seconds)
        if self._stopping.is_set():
            await trio.sleep_until(until)
            return
        patience = (self._failing_since or 0.0) + REFUSED_SECONDS
        for moment in sorted({min(patience, until), until}):
            with trio.move_on_at(moment):
                await self._stopping.wait()
            self._complain_in_time(gateway, config)


def _sender(config: WebhookConfig) -> Sender:
    """In a thread: the import of httpx and the system's certificates take longer than a call may wait."""
    from siperb_events_webhook.sender import Sender

    return Sender(config)


async def _domain(gateway: GatewayView) -> str:
    try:
        return str((await gateway.call("gateway.status")).get("domain", ""))
    except ControlError:
        return ""
