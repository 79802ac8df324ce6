"""What the console answers to each path: an ASGI application that knows the gateway only by `GatewayView`."""

from __future__ import annotations

import re
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from siperb_core import ControlError, HttpRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from siperb_console.config import ConsoleConfig
    from siperb_core import GatewayView, HttpRoute

STATIC = Path(__file__).parent / "static"
BUNDLE = STATIC / "phone.bundle.js"
NOT_BUILT = "The web phone is not built. Run: python plugins/console/phone/build.py\n"

MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}

# A token is URL-safe text the gateway made; anything else is not worth asking for.
TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")

MOST_BODY = 1024  # octets

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
        # A device in mode `websocket` registers straight to its PBX's own WebSocket, so any is allowed.
        "connect-src 'self' ws: wss:; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), payment=(), usb=(), microphone=(self), speaker-selection=(self)",
}

ANY_ADDRESS = {"0.0.0.0", "::"}


class SecurityHeaders:
    """ASGI middleware: adds the security headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                # Files are checked for a newer version each time (ETag); what tells of a device is never kept.
                headers.setdefault("cache-control", "no-cache")
            await send(message)

        await self.app(scope, receive, send_with_headers)


class ConsoleApp:
    """The routes: the phone's page and settings, provisioning, static files, and those of plugins."""

    def __init__(self, config: ConsoleConfig, gateway: GatewayView) -> None:
        self._config = config
        self._gateway = gateway

    def asgi(self) -> ASGIApp:
        """The application to serve."""
        routes = [
            Route("/", self._index),
            Route("/phone", self._phone),
            Route("/phone/settings.json", self._settings),
            Route("/provision", self._provision_posted, methods=["POST"]),
            Route("/provision/{token}", self._provision),
            Route("/static/{name}", self._static),
        ]
        taken = {route.path for route in routes}
        for route in self._gateway.http_routes():
            if route.path not in taken:
                routes.append(Route(route.path, self._of_plugin(route), methods=list(route.methods)))
        return SecurityHeaders(Starlette(routes=routes))

    async def _index(self, request: Request) -> Response:
        return RedirectResponse("/phone")

    async def _phone(self, request: Request) -> Response:
        if not BUNDLE.is_file():
            return PlainTextResponse(NOT_BUILT, 503)
        return static_file(STATIC / "phone.html", request)

    async def _static(self, request: Request) -> Response:
        found = [path for path in STATIC.iterdir() if path.name == request.path_params["name"]]
        if not found or found[0].suffix not in MEDIA_TYPES:
            return PlainTextResponse("Not Found", 404)
        return static_file(found[0], request)

    def _of_plugin(self, route: HttpRoute) -> Callable[[Request], Awaitable[Response]]:
        """A plugin's route as starlette has it."""

        async def answer(request: Request) -> Response:
            try:
                found = await route.answer(
                    HttpRequest(
                        method=request.method,
                        path=request.url.path,
                        parameters=dict(request.path_params),
                        query=dict(request.query_params),
                        headers=dict(request.headers),
                        body=await request.body(),
                    )
                )
            except ControlError as error:
                return JSONResponse({"error": str(error)}, 503, headers={"cache-control": "no-store"})
            return Response(found.body, found.status, dict(found.headers), found.content_type)

        return answer

    async def _settings(self, request: Request) -> Response:
        """What the phone needs to know before anybody signs in: no device, no password."""
        settings = {"ws": self._config.ws, "domain": self._config.domain}
        if not all(settings.values()):
            try:
                status = await self._gateway.call("gateway.status")
            except ControlError as error:
                return JSONResponse({"error": str(error)}, 503, headers={"cache-control": "no-store"})
            settings["ws"] = settings["ws"] or websocket_url(status["listeners"])
            settings["domain"] = settings["domain"] or status["domain"]
        settings["ws"] = reachable(settings["ws"], request.url.hostname or "")
        return JSONResponse(settings, headers={"cache-control": "no-store"})

    async def _provision(self, request: Request) -> Response:
        """One device's settings by its secret token; 404 tells nothing about why."""
        return await self._provisioned(request, request.path_params["token"])

    async def _provision_posted(self, request: Request) -> Response:
        """As `_provision`, the token alone in the body: what stands in a URL is kept in proxies' logs."""
        body = b""
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > MOST_BODY:
                    return JSONResponse({"error": "too long"}, 413, headers={"cache-control": "no-store"})
        return await self._provisioned(request, body.decode("ascii", "replace"))

    async def _provisioned(self, request: Request, token: str) -> Response:
        found: Any = None
        if TOKEN.fullmatch(token):
            came_from = {"peer": request.client.host if request.client else ""}
            for name in ("x-forwarded-for", "forwarded"):
                if values := request.headers.getlist(name):
                    came_from[name.replace("-", "_")] = ", ".join(values)
            try:
                found = await self._gateway.call("device.provision", {"token": token, "from": came_from})
            except ControlError:
                found = None
        if not found:
            return JSONResponse({"error": "no such link"}, 404, headers={"cache-control": "no-store"})
        return JSONResponse(found, headers={"cache-control": "no-store"})


def static_file(path: Path, request: Request) -> Response:
    """A file, or 304 where the browser has it already.

    Read at once: the files are few and small, and starlette's own FileResponse, ended by hypercorn's `http.disconnect`,
    is cancelled in the middle of closing the connection, which then stays open until it times out.
    """
    facts = path.stat()
    headers = {"etag": f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(path.read_bytes(), media_type=MEDIA_TYPES[path.suffix], headers=headers)


def websocket_url(listeners: Sequence[Mapping[str, str]]) -> str:
    """Where the gateway listens for softphones, wss before ws; empty where it does not."""
    for transport in ("wss", "ws"):
        for listener in listeners:
            if listener["transport"] == transport:
                return f"{transport}://{_bracketed(listener['address'])}{listener.get('path', '/ws')}"
    return ""


def _bracketed(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else address


def reachable(ws: str, host: str) -> str:
    """The WebSocket URL with "any address" replaced by the name the browser used for this console."""
    if not ws or not host:
        return ws
    parts = urlsplit(ws)
    if parts.hostname not in ANY_ADDRESS:
        return ws
    name = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=name + port).geturl()
