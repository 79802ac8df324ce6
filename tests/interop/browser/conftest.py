"""Browsers for the tests: Chromium with a fake microphone, the demo to call, and an exchange that needs no gateway."""

from __future__ import annotations

import json
import os
import queue
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

sys.path.insert(0, str(Path(__file__).parent))

from browser_exchange import Exchange
from browser_tabs import CHROMIUM, FLAGS, PAGES, BarePhone, Browser, WebPhone, write_tone

from siperb_console import ConsoleService
from siperb_console.config import ConsoleConfig

ROOT = Path(__file__).parents[3]
BUILDER = ROOT / "plugins" / "console" / "phone" / "build.py"
SIPERB = Path(sys.executable).with_name("siperb")
DEMO_READY_SECONDS = 30


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason=f"Chromium is not installed ({CHROMIUM}): apt-get install chromium")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.interop)
            if not CHROMIUM.exists():
                item.add_marker(missing)


@pytest.fixture(scope="session")
def bundles() -> None:
    """The web phone and the test pages, built if they are not."""
    builder = runpy.run_path(str(BUILDER))
    try:
        builder["build"](BUILDER.parent)
        builder["build"](PAGES)
    except builder["BuildError"] as error:
        pytest.skip(f"the phone's pages could not be built: {error}")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory, bundles: None):
    """Chromium whose microphone hears 440 Hz at -12 dBFS."""
    microphone = tmp_path_factory.mktemp("microphone") / "tone.wav"
    write_tone(microphone)
    browser = Browser(microphone)
    yield browser
    browser.close()


@pytest.fixture
def tabs(browser: Browser):
    """Opens tabs and closes them after the test."""
    opened = []

    def open_tab(**context: Any):
        opened.append(browser.tab(**context))
        return opened[-1]

    yield open_tab
    for tab in opened:
        tab.close()


@pytest.fixture
def deaf_browser(bundles: None):
    """Chromium in which the microphone is refused."""
    browser = Browser(flags=(*(flag for flag in FLAGS if "fake" not in flag), "--deny-permission-prompts"))
    yield browser
    browser.close()


# ---- the demo


@attrs.frozen
class Demo:
    """`siperb demo`, running. Names as in its JSON line."""

    facts: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.facts[name]

    def show(self, what: str) -> Any:
        """What `siperb show WHAT --json` says of the running demo."""
        command = [str(SIPERB), "show", what, "--json", "--config", self.facts["config"]]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def page(self) -> str:
        """The phone's page without the account in it."""
        return str(self.facts["phone"].partition("#")[0])


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, bundles: None):
    folder = tmp_path_factory.mktemp("demo")
    with (folder / "stderr").open("w+") as log:
        process = subprocess.Popen(
            [str(SIPERB), "demo", "--json", "--port-base", str(free_base())],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            ready, _, _ = select.select([process.stdout], [], [], DEMO_READY_SECONDS)
            line = process.stdout.readline() if ready else ""
            if not line:
                log.seek(0)
                pytest.fail(f"siperb demo did not become ready:\n{log.read()[-4000:]}")
            yield Demo(json.loads(line))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def free_base() -> int:
    """A port base whose 500 ports look free: those that are always bound are tried."""
    for base in range(20_000 + os.getpid() % 20 * 500, 32_000, 500):
        try:
            for offset, kind in (
                (80, socket.SOCK_STREAM),
                (88, socket.SOCK_STREAM),
                (60, socket.SOCK_DGRAM),
                (62, socket.SOCK_DGRAM),
            ):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        return base
    raise OSError("no 500 free ports between 20000 and 32000")


@pytest.fixture
def web_phone(tabs, demo: Demo) -> WebPhone:
    """The web phone, signed in at the demo."""
    phone = WebPhone(tabs(), demo.page)
    phone.sign_in(demo.device, demo.password)
    phone.ready()
    return phone


@pytest.fixture
def bare_phone(tabs, demo: Demo):
    """Starts a bare phone with the library named, registered at the demo."""

    def start(library: str) -> BarePhone:
        phone = BarePhone(tabs(), library, demo.console)
        phone.start(demo.ws, demo.domain, demo.device, demo.password)
        phone.wait(registered=True)
        return phone

    return start


# ---- the exchange


class Office:
    """An exchange and a console in a thread: phones that can call each other without a gateway."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.console = ConsoleService()
        self.token: trio.lowlevel.TrioToken
        self.stop: trio.CancelScope
        self.settings = ConsoleConfig(bind="127.0.0.1:0")
        self.provisioned = 0
        ready: queue.Queue[None] = queue.Queue()
        self.thread = threading.Thread(target=trio.run, args=(self._run, ready), name="office", daemon=True)
        self.thread.start()
        ready.get(timeout=10)

    async def _run(self, ready: queue.Queue[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.exchange.serve)
            await nursery.start(self.console.run, self)
            self.token, self.stop = trio.lowlevel.current_trio_token(), nursery.cancel_scope
            ready.put(None)

    def http_routes(self) -> tuple[()]:
        """No plugin has any."""
        return ()

    async def call(self, method: str, params: Any = None) -> Any:
        """The gateway's side of the console."""
        if method == "device.provision":
            self.provisioned += 1
            relay = {"urls": ["turn:127.0.0.1:9"], "username": f"{self.provisioned}:dora", "credential": "x"}
            return {
                "iceServers": [relay] if params["token"] == "dora-proxy" else [],
                "iceServersExpire": 1,  # long ago: the phone has to ask again before a call
                "SipWssServer": "ws://127.0.0.1",
                "SipWebsocketPort": self.exchange.ws.rsplit(":", 1)[1].removesuffix("/ws"),
                "SipServerPath": "/ws",
                "SipDomain": "example.test",
                "SipUsername": params["token"],
                "SipPassword": "secret",
                "RegistrationMode": params["token"].partition("-")[2],
            }
        listener = {"transport": "ws", "address": self.exchange.ws.split("/")[2]}
        return {"domain": "example.test", "listeners": [listener]}

    @property
    def page(self) -> str:
        return f"{self.console.url}/phone"

    def drop_all(self) -> None:
        trio.from_thread.run(self.exchange.drop_all, trio_token=self.token)

    def close(self) -> None:
        self.token.run_sync_soon(self.stop.cancel)
        self.thread.join(10)


@pytest.fixture(scope="session")
def office(bundles: None):
    office = Office()
    yield office
    office.close()


@pytest.fixture
def phone_at(tabs, office: Office):
    """Opens a web phone at the exchange; signs in with the right password unless told otherwise."""

    def sign_in(device: str, password: str = "secret", *, ready: bool = True, **context: Any) -> WebPhone:
        phone = WebPhone(tabs(**context), office.page)
        phone.sign_in(device, password)
        if ready:
            phone.ready()
        return phone

    return sign_in
