"""A receiver of webhooks for tests: one that httpx reaches by HTTP/1.1 on loopback, or without any network."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import h11
import httpx
import pytest
import trio
from structlog.testing import capture_logs

from siperb_core.testing import settings_of
from siperb_events_webhook import WebhookConfig, WebhookService
from siperb_events_webhook.outbox import Outbox
from siperb_events_webhook.sender import Sender

SECRET = "a-secret-that-nobody-may-see"


@attrs.frozen
class Post:
    """One request as it came. `at` is by trio's clock."""

    at: float
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_genuine(self, secret: str = SECRET) -> bool:
        """The signature, by the words of the README alone."""
        time, _, code = self.headers["x-siperb-signature"].partition(",v1=")
        assert time.startswith("t=")
        signed = time[2:].encode() + b"." + self.body
        return hmac.compare_digest(hmac.digest(secret.encode(), signed, hashlib.sha256).hex(), code)


@attrs.define
class Answer:
    """What a request gets; none at all where `status` is 0."""

    status: int = 204
    headers: dict[str, str] = attrs.field(factory=dict)


class Receiver(httpx.AsyncBaseTransport):
    """Answers by `answers`, one after the other and the last for ever, and keeps what it got. As httpx's transport it
    is the network, too: trio's clock may jump then.
    """

    def __init__(self, *answers: int | tuple[int, dict[str, str]]) -> None:
        self.answers = [
            Answer(*answer) if isinstance(answer, tuple) else Answer(answer) for answer in answers or (204,)
        ]
        self.posts: list[Post] = []
        self.taken: list[Post] = []
        """Those that were answered 2xx."""
        self.connections = 0
        self.url = ""
        self._more = trio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.answer(request.url.raw_path.decode(), dict(request.headers), await request.aread())
        return httpx.Response(answer.status, headers=answer.headers)

    async def answer(self, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Keep a request, and say what it gets."""
        post = Post(trio.current_time(), target, headers, body)
        self.posts.append(post)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if 200 <= answer.status < 300:
            self.taken.append(post)
        self._more.set()
        self._more = trio.Event()
        if not answer.status:
            await trio.sleep_forever()
        return answer

    async def took(self, count: int) -> list[Post]:
        """Those taken, once there are as many."""
        while len(self.taken) < count:
            await self._more.wait()
        return self.taken

    async def got(self, count: int) -> list[Post]:
        """Those that came, once there are as many."""
        while len(self.posts) < count:
            await self._more.wait()
        return self.posts

    def names(self) -> list[str]:
        return [post.json["event"] for post in self.taken]

    @asynccontextmanager
    async def listening(self, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
        """On loopback; `url` says where."""
        (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        assert isinstance(listener, trio.SocketListener)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.socket.getsockname()[1]}/hook"

        async def serve(stream: trio.SocketStream) -> None:
            self.connections += 1
            try:
                await self._serve(trio.SSLStream(stream, tls, server_side=True) if tls else stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            yield self
            nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        head: h11.Request | None = None
        body = b""
        async with stream:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some())
                elif isinstance(event, h11.Request):
                    head, body = event, b""
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    assert head is not None
                    headers = {name.decode(): value.decode() for name, value in head.headers}
                    answer = await self.answer(head.target.decode(), headers, body)
                    fields = list({"content-length": "0", **answer.headers}.items())
                    if answer.status == 204:
                        fields = list(answer.headers.items())
                    data = connection.send(h11.Response(status_code=answer.status, headers=fields)) or b""
                    await stream.send_all(data + (connection.send(h11.EndOfMessage()) or b""))
                    connection.start_next_cycle()
                else:
                    return


class FakeGateway:
    """What the service is handed."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.settings: WebhookConfig | None = settings_of(WebhookConfig, table)
        self.issues: dict[str, str] = {}
        self.raised_at: list[float] = []

    async def call(self, method: str, params: Any = None) -> Any:
        return {"gateway.status": {"domain": "sip.example.net"}}[method]

    def raise_issue(self, issue_id: str, text: str, mend: str) -> None:
        self.issues[issue_id] = f"{text}: {mend}"
        self.raised_at.append(trio.current_time())

    def clear_issue(self, issue_id: str) -> None:
        del self.issues[issue_id]


class Webhook:
    """The service beside a gateway that is none, posting to a receiver."""

    def __init__(self, receiver: Receiver, **table: Any) -> None:
        self.receiver = receiver
        table = {"url": receiver.url or "https://user:pass-word@hooks.example.net/a-token?key=a-key", **table}
        self.gateway = FakeGateway({"secret": SECRET, **table})
        self.outbox = Outbox()
        transport = None if receiver.url else receiver
        self.service = WebhookService(
            self.outbox,
            sender=lambda config: Sender(config, transport),
            now=lambda: 1_700_000_000 + trio.current_time(),
            jitter=lambda: 0.0,
        )
        self.scope = trio.CancelScope()
        self.stopped = trio.Event()
        self.logs: list[Any] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until it is stopped."""
        with self.scope, capture_logs() as self.logs:
            await self.service.run(self.gateway, task_status=task_status)
        self.stopped.set()

    async def stop(self) -> None:
        """As the gateway stops it."""
        self.scope.cancel()
        await self.stopped.wait()

    def ring(self, *numbers: int, name: str = "call.record") -> None:
        """Events that can be told apart."""
        for number in numbers:
            self.outbox.put(name, {"number": number, "ended": 5.0})

    def numbers(self) -> list[int]:
        """Those that arrived."""
        return [post.json["data"]["number"] for post in self.receiver.taken]

    async def has_failed(self) -> None:
        """Wait until an attempt has; there is no event of it."""
        while not self.status["last_error"]:  # noqa: ASYNC110
            await trio.sleep(0.01)

    def logged(self, event: str) -> list[Any]:
        return [line for line in self.logs if line["event"] == event]

    @property
    def status(self) -> dict[str, Any]:
        status = self.service.status()
        assert status is not None
        return status


@pytest.fixture
def receiver() -> type[Receiver]:
    return Receiver


@pytest.fixture
def webhook() -> type[Webhook]:
    return Webhook
