"""The control socket."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from siperb_core.control import MAX_LINE, ControlError, ControlServer, NotRunning, connect


async def echo(params: Mapping[str, Any]) -> Any:
    return dict(params)


async def refuses(params: Mapping[str, Any]) -> Any:
    raise ControlError("there is no connection office: siperb show connections lists them")


async def broken(params: Mapping[str, Any]) -> Any:
    raise ZeroDivisionError


METHODS = {"echo": echo, "refuses": refuses, "broken": broken}


async def serve(nursery: trio.Nursery, path: Path) -> ControlServer:
    server = ControlServer(path, METHODS)
    await nursery.start(server.run)
    return server


async def exchange(path: Path, data: bytes) -> list[dict[str, Any]]:
    stream = await trio.open_unix_socket(str(path))
    async with stream:
        await stream.send_all(data)
        await stream.send_eof()
        got = b""
        async for chunk in stream:
            got += chunk
    return [json.loads(line) for line in got.splitlines()]


async def test_calls_and_errors(nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    await serve(nursery, path)
    async with connect(path) as client:
        assert await client.call("echo", {"number": "600"}) == {"number": "600"}
        with pytest.raises(ControlError, match="no connection office"):
            await client.call("refuses")
        with pytest.raises(ControlError, match="fault of the gateway"):
            await client.call("broken")
        with pytest.raises(ControlError, match="no method"):
            await client.call("missing")
        assert await client.call("echo") == {}


async def test_only_the_owner_may_connect(nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    await serve(nursery, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_is_no_request_gets_the_error_the_standard_names(nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    await serve(nursery, path)
    sent = [
        b"{",
        b"[]",
        b'{"method": 1, "id": 1}',
        b'{"method": "echo", "params": [1], "id": 2}',
        b"[" * 100_000,
        b"\xff",
    ]
    answers = await exchange(path, b"\n".join(sent) + b"\n")
    assert [answer["error"]["code"] for answer in answers] == [-32700, -32600, -32600, -32602, -32700, -32700]


async def test_a_notification_has_no_answer(nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    await serve(nursery, path)
    assert await exchange(path, b'{"jsonrpc":"2.0","method":"echo"}\n\n{"method":"echo","id":"x"}\n') == [
        {"jsonrpc": "2.0", "id": "x", "result": {}}
    ]


async def test_an_endless_line_ends_that_connection_only(nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    await serve(nursery, path)
    stream = await trio.open_unix_socket(str(path))
    async with stream:
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x" * (MAX_LINE * 100))
    async with connect(path) as client:
        assert await client.call("echo") == {}


async def test_the_socket_of_a_killed_gateway_is_replaced(nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    await serve(nursery, path)
    async with connect(path) as client:
        assert await client.call("echo") == {}


async def test_a_running_gateway_is_not_pushed_aside(nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    await serve(nursery, path)
    with pytest.raises(OSError, match="another gateway is running"):
        await ControlServer(path, {}).run()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="in the way"):
        await ControlServer(tmp_path / "file", {}).run()
    assert (tmp_path / "file").read_text() == "mine"


async def test_the_socket_goes_with_the_gateway(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with trio.open_nursery() as nursery:
        await serve(nursery, path)
        nursery.cancel_scope.cancel()
    assert not path.exists()
    with pytest.raises(NotRunning, match="no gateway is running"):
        async with connect(path):
            pass


async def test_a_long_path_is_taken_from_the_current_folder(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = folder / "control.sock"
    await serve(nursery, path)
    async with connect(path) as client:
        assert await client.call("echo") == {}
    monkeypatch.chdir(os.sep)
    with pytest.raises(NotRunning, match="too long"):
        async with connect(path):
            pass
