"""baresip, a SIP phone, as the other side: configured, started, told what to do, and its recordings judged.

It takes no loopback address for its media: see `baresip_namespace`.
"""

from __future__ import annotations

import json
import subprocess
import wave
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from baresip_namespace import INTERFACE
from watching import until

from siperb_core.testing import tones

G722 = "G722/16000/1"
OPUS = "opus/48000/2"
_MODULES = ("/usr/lib/baresip/modules", "/usr/lib64/baresip/modules", "/usr/local/lib/baresip/modules")
_CONTROL_PORT = 4444
_MOST_OCTETS = 65536  # of a control message

_CONFIG = """\
poll_method epoll
sip_listen {address}:{port}
sip_trans_def udp
call_local_timeout 60
call_max_calls 10
audio_player aubridge,nobody
audio_source ausine,{hz}
audio_alert aubridge,alert
audio_txmode thread
ausrc_srate 48000
ausrc_channels 2
ausrc_format s16
auplay_format s16
auenc_format s16
audec_format s16
audio_buffer 20-160
net_interface {interface}
rtp_ports 20000-20098
rtcp_mux no
jitter_buffer_delay 1-10
module_path {modules}
module g711.so
module g722.so
module srtp.so
module ausine.so
module aubridge.so
module sndfile.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
snd_path {folder}
"""
_WEBRTC = """\
rtcp_mux yes
module opus.so
module dtls_srtp.so
module ice.so
"""
_TLS = """\
sip_certificate {folder}/own.pem
sip_cafile {ca}
"""


class Baresip:
    """One running baresip, which answers every call and says a tone of `hz` to it."""

    def __init__(self, process: trio.Process, stream: trio.SocketStream, folder: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._process = process
        self._stream = stream
        self._folder = folder
        self._news = trio.Event()

    async def read(self) -> None:
        """Take in what baresip says over its control connection: netstrings of JSON."""
        data = bytearray()
        async for piece in self._stream:
            data += piece
            while b":" in data:
                length, _, rest = bytes(data).partition(b":")
                size = int(length)
                assert size < _MOST_OCTETS
                if len(rest) <= size:
                    break
                self.events.append(json.loads(rest[:size]))
                del data[: len(length) + size + 2]
            self._news.set()
            self._news = trio.Event()

    async def tell(self, command: str, parameters: str = "") -> None:
        """Give a command, as one would type it."""
        text = json.dumps({"command": command, "params": parameters}).encode()
        await self._stream.send_all(b"%d:%b," % (len(text), text))

    async def event(self, kind: str, *, count: int = 1) -> dict[str, Any]:
        """Wait until something has happened that many times since the start: REGISTER_OK, CALL_ESTABLISHED ..."""
        while len(found := [event for event in self.events if event.get("type") == kind]) < count:
            await self._news.wait()
        return found[count - 1]

    async def heard(self, call: int) -> tones.Heard:
        """What was heard in a call that is over, counted from 1: its recording is complete then."""

        async def look() -> tones.Heard | None:
            recordings = sorted(self._folder.glob("dump-*-dec.wav"), key=lambda file: file.stat().st_mtime_ns)
            return listen(recordings[call - 1]) if len(recordings) >= call else None

        return await until(look)

    async def quit(self) -> None:
        """Let it un-register and end, and assert that it ends well."""
        await self.tell("quit")
        assert await self._process.wait() == 0


def listen(recording: Path) -> tones.Heard | None:
    """Judge the cleanest half second of a recording: a busy machine leaves frames out. None while it is written."""
    try:
        with wave.open(str(recording)) as wav:
            channels, rate, frames = wav.getnchannels(), wav.getframerate(), wav.getnframes()
            if frames < rate // 2:
                return None
            pcm = wav.readframes(frames)
    except (EOFError, wave.Error):
        return None
    samples = memoryview(pcm).cast("h")[::channels].tolist()
    half = rate // 2
    pieces = (samples[at : at + half] for at in range(0, len(samples) - half + 1, half))
    return max(
        (tones.analyse(array("h", piece).tobytes(), rate) for piece in pieces), key=lambda heard: heard.tone_to_rest
    )


def configure(
    folder: Path, account: str, address: str, port: int, hz: int, tls: tuple[Path, Path] | None, *, webrtc: bool
) -> None:
    """Write baresip's configuration, into a folder that is made. `tls` is certificate and key; it listens at the port
    above `port` with them, and trusts the certificate. With `webrtc` its media is that of a browser.
    """
    folder.mkdir()
    config = _CONFIG.format(
        address=address,
        port=port,
        hz=hz,
        interface=INTERFACE,
        modules=next(path for path in _MODULES if Path(path).exists()),
        control=_CONTROL_PORT,
        folder=folder,
    )
    if tls is not None:
        config += _TLS.format(folder=folder, ca=tls[0])
        (folder / "own.pem").write_text(tls[0].read_text() + tls[1].read_text())
    if webrtc:
        config = config.replace("rtcp_mux no\n", _WEBRTC)
        account += ";mediaenc=dtls_srtp;medianat=ice"
    (folder / "config").write_text(config)
    codec = OPUS if webrtc else G722
    (folder / "accounts").write_text(f"{account};answermode=auto;audio_codecs={codec}\n")
    (folder / "contacts").write_text("")


@asynccontextmanager
async def open_baresip(
    folder: Path,
    account: str,
    *,
    address: str,
    port: int,
    hz: int = 1000,
    tls: tuple[Path, Path] | None = None,
    webrtc: bool = False,
) -> AsyncIterator[Baresip]:
    """Run baresip with this line as its account. Ended by force with the block, unless it has quit."""
    configure(folder, account, address, port, hz, tls, webrtc=webrtc)
    with (folder / "screen").open("wb") as screen:
        process = await trio.lowlevel.open_process(
            ["baresip", "-f", str(folder), "-s"], stdin=subprocess.DEVNULL, stdout=screen, stderr=subprocess.STDOUT
        )

    async def connect() -> trio.SocketStream | None:
        assert process.returncode is None, (folder / "screen").read_text(errors="replace")
        try:
            return await trio.open_tcp_stream("127.0.0.1", _CONTROL_PORT)
        except OSError:
            return None

    try:
        async with await until(connect) as stream, trio.open_nursery() as nursery:
            baresip = Baresip(process, stream, folder)
            nursery.start_soon(baresip.read)
            yield baresip
            nursery.cancel_scope.cancel()
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
