"""Headless Chromium with a microphone that hears a tone, driven from a thread of its own.

Playwright runs an asyncio loop; kept in its thread, it does not disturb the tests that run on trio in this process.
"""

from __future__ import annotations

import array
import asyncio
import json
import math
import statistics
import threading
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from playwright.async_api import Error, Page, Route, async_playwright

CHROMIUM = Path("/usr/bin/chromium")
PAGES = Path(__file__).parent / "pages"
FLAGS = (
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
    # real addresses in the candidates; and a page that a test gave (BarePhone) may speak to loopback
    "--disable-features=WebRtcHideLocalIpsWithMdns,LocalNetworkAccessChecks",
    "--autoplay-policy=no-user-gesture-required",
)
RATE = 48000
TONE_HZ = 440
TONE_DBFS = -12.0
WAIT_MS = 15_000
PREFERENCES = {"processing": False}


def write_tone(path: Path, hz: int = TONE_HZ, dbfs: float = TONE_DBFS) -> None:
    """One second of a sine, 48 kHz mono, which can be repeated without a click."""
    peak = 32767 * 10 ** (dbfs / 20)
    samples = array.array("h", (round(peak * math.sin(2 * math.pi * hz * i / RATE)) for i in range(RATE)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())


class Browser:
    """One Chromium. `microphone` is the wav file it hears, over and over; without one, the browser's own beeps."""

    def __init__(self, microphone: Path | None = None, flags: tuple[str, ...] = FLAGS) -> None:
        self.flags = [*flags, *([f"--use-file-for-fake-audio-capture={microphone}"] if microphone else [])]
        # Not new_event_loop(): where trio-asyncio is imported, that gives a loop that needs trio.
        self.loop = asyncio.SelectorEventLoop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="playwright", daemon=True)
        self.thread.start()
        self.playwright, self.browser = self.run(self._launch())

    async def _launch(self) -> tuple[Any, Any]:
        playwright = await async_playwright().start()
        try:
            browser = await playwright.chromium.launch(
                executable_path=str(CHROMIUM), headless=True, args=self.flags, handle_sigint=False
            )
        except BaseException:
            await playwright.stop()
            raise
        return playwright, browser

    def run(self, work: Any) -> Any:
        """Wait for a coroutine on the browser's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def tab(self, **context: Any) -> Tab:
        """A tab with its own memory (a private window)."""
        return self.run(self._tab(context))

    async def _tab(self, context: dict[str, Any]) -> Tab:
        page = await (await self.browser.new_context(**context)).new_page()
        page.set_default_timeout(WAIT_MS)
        return Tab(self, page)

    def close(self) -> None:
        self.run(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    async def _close(self) -> None:
        await self.browser.close()
        await self.playwright.stop()


class Tab:
    """A page. Elements are named by their `data-testid`. Made on the browser's loop, used from the test's thread."""

    def __init__(self, browser: Browser, page: Page) -> None:
        self.browser = browser
        self.page = page
        self.log: list[str] = []
        self.asked: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.log.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.log.append(f"error: {error}"))

    def run(self, work: Any) -> Any:
        try:
            return self.browser.run(work)
        except Error as error:
            error.add_note("the page said:\n" + "\n".join(self.log[-20:]))
            raise

    def open(self, url: str) -> None:
        self.run(self.page.goto(url))

    def click(self, name: str) -> None:
        self.run(self.page.get_by_test_id(name).click())

    def fill(self, name: str, text: str) -> None:
        self.run(self.page.get_by_test_id(name).fill(text))

    def select(self, name: str, value: str) -> None:
        self.run(self.page.get_by_test_id(name).select_option(value))

    def check(self, name: str, on: bool = True) -> None:
        self.run(self.page.get_by_test_id(name).set_checked(on))

    def press(self, key: str) -> None:
        self.run(self.page.keyboard.press(key))

    def text(self, name: str) -> str:
        return str(self.run(self.page.get_by_test_id(name).inner_text()))

    def js(self, expression: str, argument: Any = None) -> Any:
        return self.run(self.page.evaluate(expression, argument))

    def until(self, expression: str, argument: Any = None, milliseconds: int = WAIT_MS) -> None:
        """Wait until the expression is true."""
        self.run(self.page.wait_for_function(expression, arg=argument, timeout=milliseconds, polling=50))

    def close(self) -> None:
        self.run(self.page.context.close())


class Ears:
    """What a page with `heard()` hears."""

    def __init__(self, tab: Tab, heard: str) -> None:
        self.tab = tab
        self.heard = heard

    def tone(self, hz: float, within: float = 3.0) -> float:
        """Wait for a steady tone of that frequency; gives its level in dBFS, the median of a second."""
        near = f"() => Math.abs({self.heard}().hz - {hz}) <= {within} && {self.heard}().dbfs > -45"
        self.tab.until(near)
        samples = self.tab.js(
            f"""async () => {{
                const samples = [];
                while (samples.length < 20) {{
                    await new Promise(done => setTimeout(done, 50));
                    samples.push({self.heard}());
                }}
                return samples;
            }}"""
        )
        middle = statistics.median(sample["hz"] for sample in samples)
        assert abs(middle - hz) <= within, f"{middle:.1f} Hz was heard instead of {hz}"
        return statistics.median(sample["dbfs"] for sample in samples)

    def listen(self) -> None:
        """Begin to write down what is heard; `melody` gives it."""
        self.tab.js(
            f"""() => {{
                window.melody = [];
                clearInterval(window.listening);
                window.listening = setInterval(() => {{
                    const {{ hz, dbfs }} = {self.heard}();
                    const last = window.melody.at(-1) ?? 0;
                    if (dbfs > -40 && Math.abs(hz - last) > 20) window.melody.push(hz);
                }}, 20);
            }}"""
        )

    def melody(self, tones: list[int], within: float = 10.0) -> None:
        """Wait until these tones were heard one after the other; others may be in between."""
        self.tab.until(
            """([tones, within]) => {
                let next = 0;
                for (const hz of window.melody) if (Math.abs(hz - tones[next]) <= within) next++;
                return next >= tones.length;
            }""",
            [tones, within],
        )

    def silence(self, below: float = -50.0) -> None:
        self.tab.until(f"() => {self.heard}().dbfs < {below}")


class WebPhone:
    """The console's web phone in a tab."""

    def __init__(self, tab: Tab, page_url: str) -> None:
        self.tab = tab
        self.page_url = page_url
        self.ears = Ears(tab, "siperbPhone.heard")

    def sign_in(self, device: str, password: str) -> None:
        """By the page's form, without the browser's voice processing, which changes tones."""
        self.tab.run(self.tab.page.add_init_script(f"localStorage['siperb.phone'] ??= '{json.dumps(PREFERENCES)}'"))
        self.tab.open(self.page_url)
        self.tab.fill("signin-device", device)
        self.tab.fill("signin-password", password)
        self.tab.click("signin-submit")

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.tab.js("() => siperbPhone.state"))

    def wait(self, **wanted: Any) -> None:
        """Wait until the phone's state has these values."""
        try:
            self.tab.until("w => Object.entries(w).every(([k, v]) => siperbPhone.state[k] === v)", wanted)
        except Error as error:
            error.add_note(f"the phone's state: {self.state}")
            raise

    def ready(self) -> None:
        self.wait(registration="registered")

    def dial(self, number: str) -> None:
        self.tab.fill("number", number)
        self.tab.click("call")

    def hang_up(self) -> None:
        self.tab.click("hangup")
        self.wait(call="ended")


class BarePhone:
    """JsSIP or SIP.js with nothing around it.

    It is opened under the console's address: gateways check where a page is from.
    """

    def __init__(self, tab: Tab, library: str, origin: str) -> None:
        self.tab = tab
        self.library = library
        self.ears = Ears(tab, "bare.heard")
        tab.run(self._serve(origin.rstrip("/")))
        tab.open(f"{origin.rstrip('/')}/bare.html")

    async def _serve(self, origin: str) -> None:
        for file in (PAGES / "bare.html", PAGES / "dist" / "bare.bundle.js"):
            await self.tab.page.route(f"{origin}/{file.name}", _answer_with(file))

    def start(self, ws: str, domain: str, device: str, password: str) -> None:
        options = {"library": self.library, "ws": ws, "domain": domain, "device": device, "password": password}
        self.tab.js("o => bare.start(o)", options)

    def wait(self, **wanted: Any) -> None:
        self.tab.until("w => Object.entries(w).every(([k, v]) => bare.state[k] === v)", wanted)

    def call(self, number: str) -> None:
        self.tab.js("n => bare.call(n)", number)

    def hang_up(self) -> None:
        self.tab.js("() => { bare.hangUp(); }")
        self.wait(call="ended")


def _answer_with(file: Path) -> Callable[[Route], Awaitable[None]]:
    async def fulfil(route: Route) -> None:
        await route.fulfill(path=file)

    return fulfil
