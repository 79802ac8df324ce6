"""Firefox, driven over Marionette: its own protocol, JSON over TCP, which needs no driver beside the browser."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

COMMAND = next((found for name in ("firefox-esr", "firefox") if (found := shutil.which(name))), None)
FAKE_HZ = 440
WAIT_SECONDS = 40.0

_PREFERENCES = {
    "marionette.port": 0,
    "media.navigator.streams.fake": True,
    "media.navigator.audio.fake_frequency": FAKE_HZ,
    "media.navigator.permission.disabled": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.getusermedia.aec_enabled": False,
    "media.getusermedia.agc_enabled": False,
    "media.getusermedia.noise_enabled": False,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    "media.autoplay.block-webaudio": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.enabled": False,
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "extensions.getAddons.cache.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
}


class Firefox:
    """A headless Firefox with one tab and a microphone that says a tone."""

    def __init__(self, folder: Path) -> None:
        assert COMMAND is not None
        profile = folder / "profile"
        profile.mkdir()
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in _PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines))
        with (folder / "screen").open("wb") as screen:
            self._process = subprocess.Popen(
                [COMMAND, "--headless", "--no-remote", "--marionette", "--profile", str(profile)],
                stdin=subprocess.DEVNULL, stdout=screen, stderr=screen,
                env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "MOZ_CRASHREPORTER_DISABLE": "1"},
            )  # fmt: skip
        try:
            port = int(self._wait(lambda: _text(profile / "MarionetteActivePort")))
            self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
            self._rest = b""
            self._number = 0
            self._read()  # it says hello
            self.tell("WebDriver:NewSession", capabilities={"alwaysMatch": {"acceptInsecureCerts": True}})
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def _wait(self, done: Any) -> Any:
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := done()):
            assert time.monotonic() < deadline, "Firefox does not get on"
            assert self._process.poll() is None, "Firefox has ended"
            time.sleep(0.1)
        return found

    def _read(self) -> Any:
        while True:
            length, colon, rest = self._rest.partition(b":")
            if colon and len(rest) >= int(length):
                self._rest = rest[int(length) :]
                return json.loads(rest[: int(length)])
            data = self._socket.recv(65536)
            assert data, "Firefox has hung up"
            self._rest += data

    def tell(self, command: str, **parameters: Any) -> Any:
        """A command of Marionette's and its result."""
        self._number += 1
        data = json.dumps([0, self._number, command, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(data), data))
        _, number, error, result = self._read()
        assert number == self._number
        assert error is None, error
        return result

    def open(self, url: str) -> None:
        self.tell("WebDriver:Navigate", url=url)

    def js(self, script: str, *arguments: Any) -> Any:
        """Run a function's body in the page."""
        result = self.tell("WebDriver:ExecuteScript", script=script, args=list(arguments), newSandbox=False)
        return result["value"]

    def until(self, script: str, *arguments: Any) -> Any:
        """Wait until this is true."""
        return self._wait(lambda: self.js(script, *arguments))

    def click(self, name: str) -> None:
        """As a person does: without that, pages may make no sound."""
        found = self.tell("WebDriver:FindElement", using="css selector", value=f"[data-testid='{name}']")
        self.tell("WebDriver:ElementClick", id=next(iter(found["value"].values())))

    def fill(self, name: str, text: str) -> None:
        self.js(
            "const field = document.querySelector(`[data-testid='${arguments[0]}']`); field.value = arguments[1];"
            "field.dispatchEvent(new Event('input', { bubbles: true }));",
            name,
            text,
        )

    def close(self) -> None:
        try:
            self.tell("Marionette:Quit", flags=["eForceQuit"])
            self._process.wait(15)
        except (OSError, AssertionError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            self._socket.close()


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
