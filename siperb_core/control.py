"""The control socket: how the command line reaches a running gateway. JSON-RPC 2.0 over a Unix socket, one object per
line.

Only its owner may connect (mode 0600). Every line is bounded; whoever breaks the rules loses its connection, nobody
else's.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
import trio

MAX_LINE = 1 << 20  # octets of a request
MAX_ANSWER = 64 << 20  # octets of an answer: a trace can be long
MAX_CLIENTS = 32
ACCEPT_PAUSE = 0.5  # seconds
MAX_PATH = 107  # octets a Unix socket's path may have

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
FAILED = -32000
"""A `ControlError` of the method itself: the message is for the user."""

Handler = Callable[[Mapping[str, Any]], Awaitable[Any]]

log = structlog.get_logger("siperb.control")


class ControlError(Exception):
    """A method could not do what was asked: one sentence with the mend. `code` is JSON-RPC's."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class NotRunning(ControlError):
    """No gateway answers at the socket."""


class ControlServer:
    """Answers requests with a mapping of method names to async functions of the parameters (always an object)."""

    def __init__(self, path: Path, methods: Mapping[str, Handler]) -> None:
        self.path = path
        self.methods = methods
        self._clients = trio.CapacityLimiter(MAX_CLIENTS)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises OSError where the socket cannot be made, another gateway's being in its place
        say.
        """
        listener = _bind(self.path)
        identity = os.stat(self.path)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    try:
                        accepted, _ = await listener.accept()
                    except OSError as error:  # no descriptor left, say: that is not to take the gateway down
                        log.error("control.accept_failed", error=error.strerror)
                        await trio.sleep(ACCEPT_PAUSE)
                        continue
                    nursery.start_soon(self._serve, trio.SocketStream(accepted))
        finally:
            listener.close()
            _remove(self.path, identity)

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                self._clients.acquire_on_behalf_of_nowait(stream)
            except trio.WouldBlock:
                return
            try:
                lines = _Lines(stream, MAX_LINE)
                while (line := await lines.next()) is not None:
                    answer = await self._answer(line)
                    if answer is not None:
                        await stream.send_all(answer)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client has gone
            except ControlError as error:
                with trio.move_on_after(1):
                    await _send_error(stream, error)
            finally:
                self._clients.release_on_behalf_of(stream)

    async def _answer(self, line: bytes) -> bytes | None:
        """The answer to one request; None to a notification."""
        identity: Any = None
        try:
            try:
                request = json.loads(line)
            except (ValueError, RecursionError):
                raise ControlError("that is not JSON", PARSE_ERROR) from None
            if not isinstance(request, dict) or not isinstance(request.get("method"), str):
                raise ControlError("that is not a JSON-RPC 2.0 request", INVALID_REQUEST)
            identity = request.get("id")
            result = await self.call(request["method"], request.get("params"))
            return _encode({"jsonrpc": "2.0", "id": identity, "result": result}) if "id" in request else None
        except ControlError as error:
            return _encode(_error(identity, error))

    async def call(self, method: str, params: object = None) -> Any:
        """Call a method as a client would. Raises ControlError, also where the method fails by a fault of ours."""
        handler = self.methods.get(method)
        if handler is None:
            raise ControlError(f"there is no method {method[:60]}", METHOD_NOT_FOUND)
        if params is None:
            params = {}
        if not isinstance(params, Mapping):
            raise ControlError("params is not an object", INVALID_PARAMS)
        try:
            return await handler(params)
        except ControlError:
            raise
        except Exception as error:
            log.exception("control.failed", method=method)
            text = f"{method} failed by a fault of the gateway ({type(error).__name__}): its log says more"
            raise ControlError(text, INTERNAL_ERROR) from error


class ControlClient:
    """One connection to a gateway; made by `connect`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._lines = _Lines(stream, MAX_ANSWER)
        self._next = 1

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Call a method and wait for its result. Raises ControlError."""
        identity, self._next = self._next, self._next + 1
        request = {"jsonrpc": "2.0", "id": identity, "method": method, "params": dict(params or {})}
        try:
            await self._stream.send_all(_encode(request))
            line = await self._lines.next()
        except trio.BrokenResourceError:
            line = None
        if line is None:
            raise NotRunning("the gateway ended the connection: see its log")
        try:
            answer = json.loads(line)
            error = answer.get("error")
            if error is not None:
                raise ControlError(str(error["message"]), int(error["code"]))
            return answer["result"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ControlError("the gateway's answer is not JSON-RPC 2.0: is it the same version?") from None


@asynccontextmanager
async def connect(path: Path, *, timeout: float = 5.0) -> AsyncIterator[ControlClient]:
    """Connect to the gateway at a socket. Raises NotRunning where none listens."""
    try:
        with trio.fail_after(timeout):
            stream = trio.SocketStream(await _connected(path))
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning("no gateway is running with this configuration: start it with siperb run") from None
    except PermissionError:
        raise NotRunning(f"{path} belongs to another user: run this as the gateway's user") from None
    except (OSError, trio.TooSlowError) as error:
        raise NotRunning(f"{path} cannot be reached ({error}): is the gateway alive?") from None
    async with stream:
        yield ControlClient(stream)


async def _connected(path: Path) -> trio.socket.SocketType:
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await sock.connect(_address(path))
    except BaseException:
        sock.close()
        raise
    return sock


def _address(path: Path) -> str:
    """The path as the kernel takes it; relative to the current folder where the whole is too long."""
    text = str(path)
    if len(os.fsencode(text)) > MAX_PATH:
        text = os.path.relpath(text)
    if len(os.fsencode(text)) > MAX_PATH:
        raise OSError(errno.ENAMETOOLONG, f"the path {path} is too long for a socket: use a shorter data_dir")
    return text


def _bind(path: Path) -> trio.socket.SocketType:
    address = _address(path)
    _remove_stale(path, address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # The mode of the socket is set before it has a name: there is no moment in which others could connect.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(address)
        os.chmod(address, 0o600)
        sock.listen(MAX_CLIENTS)
    except BaseException:
        sock.close()
        raise
    return trio.socket.from_stdlib_socket(sock)


def _remove_stale(path: Path, address: str) -> None:
    """Take away the socket of a gateway that was killed; refuse where one is alive, or where it is another kind of
    file.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, f"{path} is in the way: move it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, f"another gateway is running at {path}: stop it first")


def _remove(path: Path, identity: os.stat_result) -> None:
    """Remove our socket, and only ours: a second gateway may have put its own there."""
    try:
        found = path.lstat()
        if (found.st_dev, found.st_ino) == (identity.st_dev, identity.st_ino):
            path.unlink()
    except FileNotFoundError:
        pass


class _Lines:
    """The lines of a stream, each of at most `most` octets."""

    def __init__(self, stream: trio.SocketStream, most: int) -> None:
        self._stream = stream
        self._most = most
        self._buffer = bytearray()

    async def next(self) -> bytes | None:
        """The next line that is not blank; None at the end. Raises ControlError for one that is too long."""
        scanned = 0
        while True:
            end = self._buffer.find(b"\n", scanned)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                scanned = 0
                if line.strip():
                    return line
                continue
            scanned = len(self._buffer)
            if scanned > self._most:
                raise ControlError(f"a line of more than {self._most} octets", INVALID_REQUEST)
            data = await self._stream.receive_some()
            if not data:
                return None
            self._buffer += data


async def _send_error(stream: trio.SocketStream, error: ControlError) -> None:
    try:
        await stream.send_all(_encode(_error(None, error)))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


def _error(identity: object, error: ControlError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "error": {"code": error.code, "message": str(error)}}


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=str).encode() + b"\n"
