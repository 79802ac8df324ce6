"""Events of calls, registrations and connections as signed HTTP POSTs to a receiver of the administrator's."""

from siperb_events_webhook.config import WebhookConfig
from siperb_events_webhook.plugin import EventsWebhook
from siperb_events_webhook.service import WebhookService

__all__ = ["EventsWebhook", "WebhookConfig", "WebhookService"]
