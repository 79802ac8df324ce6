"""The hooks: events go into the outbox, and a service empties it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from siperb_core import (
    CallEvent,
    ConnectionEvent,
    ControlMethod,
    GatewayView,
    Metric,
    RegistrationEvent,
    Service,
    hookimpl,
)
from siperb_events_webhook.config import WebhookConfig
from siperb_events_webhook.outbox import Outbox
from siperb_events_webhook.service import WebhookService


class EventsWebhook:
    """The plugin, one object for every gateway."""

    def __init__(self) -> None:
        self._outbox = Outbox()
        self._service = WebhookService(self._outbox)

    @hookimpl
    def siperb_settings(self) -> type[Any]:
        """`[plugins.events_webhook]`."""
        return WebhookConfig

    @hookimpl
    def siperb_services(self) -> Sequence[Service]:
        """The one that delivers."""
        return [self._service]

    @hookimpl
    def siperb_call_event(self, event: CallEvent) -> None:
        """`call.started`, `call.ringing`, `call.answered`, `call.ended`."""
        self._outbox.put(f"call.{event.what}", event)

    @hookimpl
    def siperb_call_record(self, record: Mapping[str, Any]) -> None:
        """`call.record`: a call that is over, with the figures of its media."""
        self._outbox.put("call.record", record)

    @hookimpl
    def siperb_registration_event(self, event: RegistrationEvent) -> None:
        """`registration.added`, `registration.refreshed`, `registration.removed`."""
        self._outbox.put(f"registration.{event.what}", event)

    @hookimpl
    def siperb_connection_event(self, event: ConnectionEvent) -> None:
        """`connection.state_changed`, `connection.registration_lost`, `connection.issue_raised` and the like."""
        self._outbox.put(f"connection.{event.what}", event)

    @hookimpl
    def siperb_control_methods(self, gateway: GatewayView) -> Mapping[str, ControlMethod]:
        """`events_webhook.status`: the same as in the diagnostics, for whoever watches the gateway."""

        async def status(params: Mapping[str, Any]) -> Any:
            return self._service.status()

        return {"status": status}

    @hookimpl
    def siperb_metrics(self) -> Sequence[Metric]:
        """Queue, attempts by outcome, and what was dropped."""
        return self._service.metrics()

    @hookimpl
    def siperb_diagnostics(self, connection: str) -> Mapping[str, Any] | None:
        """How deliveries go; the same for every connection, as the receiver is."""
        return self._service.status()
