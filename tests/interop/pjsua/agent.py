"""A pjsua2 user agent in a process of its own: orders come in, and events go out, as JSON lines.

pjsua has threads of its own and one global state; a process each keeps tests apart. Nothing of ours is used here.
"""

from __future__ import annotations

import json
import math
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import pjsua2 as pj

_RATE = 16_000


def say(event: str, **more: Any) -> None:
    # In one piece: pjsua's threads speak as well.
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


class Call(pj.Call):
    """One call: its states are told, a tone is played into it, and what is heard is written down."""

    def __init__(self, agent: Agent, *args: Any) -> None:
        super().__init__(agent.account, *args)
        self.agent = agent
        self.connected_ports = False

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        say("call", id=info.id, state=info.stateText, status=info.lastStatusCode, reason=info.lastReason)
        if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.agent.calls.pop(info.id, None)
            self.agent.ended.append(self)

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        info = self.getInfo()
        for index, media in enumerate(info.media):
            if media.type != pj.PJMEDIA_TYPE_AUDIO:
                continue
            hears = media.status in (pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD)
            if hears:
                audio = self.getAudioMedia(index)
                self.agent.player.startTransmit(audio)
                audio.startTransmit(self.agent.recorder)
            say("media", id=info.id, status=media.status)

    def onCallTransferRequest(self, prm: pj.OnCallTransferRequestParam) -> None:
        say("transfer", id=self.getInfo().id, to=prm.dstUri)

    def onCallTransferStatus(self, prm: pj.OnCallTransferStatusParam) -> None:
        say("transferred", id=self.getInfo().id, status=prm.statusCode, final=prm.finalNotify)


class Account(pj.Account):
    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.agent = agent

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        say("registration", status=prm.code, expires=prm.expiration)

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        call = Call(self.agent, prm.callId)
        info = call.getInfo()
        self.agent.calls[info.id] = call
        say("incoming", id=info.id, remote=info.remoteUri, to=info.localUri)
        if self.agent.answers:
            answer = pj.CallOpParam()
            answer.statusCode = 200
            call.answer(answer)


class Agent:
    """What the orders are given to."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.calls: dict[int, Call] = {}
        self.ended: list[Call] = []
        self.answers = settings.get("answers", True)
        self.endpoint = pj.Endpoint()
        self.endpoint.libCreate()
        config = pj.EpConfig()
        config.logConfig.level = config.logConfig.consoleLevel = 0
        config.logConfig.filename = settings.get("log", "")
        if config.logConfig.filename:
            config.logConfig.level = 5
        config.uaConfig.userAgent = "pjsua"
        config.uaConfig.threadCnt = 1
        config.medConfig.noVad = True
        config.medConfig.clockRate = _RATE
        self.endpoint.libInit(config)
        transport = pj.TransportConfig()
        transport.port = settings["port"]
        transport.boundAddress = settings["address"]
        if "ca" in settings:
            transport.tlsConfig.CaListFile = settings["ca"]
            transport.tlsConfig.certFile = settings["certificate"]
            transport.tlsConfig.privKeyFile = settings["key"]
            transport.tlsConfig.verifyServer = True
        kinds = {"udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP, "tls": pj.PJSIP_TRANSPORT_TLS}
        self.endpoint.transportCreate(kinds[settings["transport"]], transport)
        self.endpoint.audDevManager().setNullDev()
        for codec in self.endpoint.codecEnum2():
            wanted = [name.upper() for name in settings["codecs"]]
            name = codec.codecId.partition("/")[0].upper()
            priority = 255 - wanted.index(name) if name in wanted else 0
            self.endpoint.codecSetPriority(codec.codecId, priority)
        self.endpoint.libStart()
        self.player = pj.AudioMediaPlayer()
        self.player.createPlayer(tone(Path(settings["folder"]) / "tone.wav", settings.get("hz", 1000)))
        self.recorder = pj.AudioMediaRecorder()
        self.heard = Path(settings["folder"]) / "heard.wav"
        self.recorder.createRecorder(str(self.heard))
        account = pj.AccountConfig()
        account.idUri = settings["id"]
        account.mediaConfig.transportConfig.boundAddress = settings["address"]
        account.mediaConfig.transportConfig.port = settings["rtp_port"]
        if settings.get("srtp"):
            account.mediaConfig.srtpUse = pj.PJMEDIA_SRTP_MANDATORY
            account.mediaConfig.srtpSecureSignaling = 1  # over TLS only
            account.mediaConfig.srtpOpt.keyings.append(pj.PJMEDIA_SRTP_KEYING_SDES)
        if "registrar" in settings:
            account.regConfig.registrarUri = settings["registrar"]
            account.regConfig.timeoutSec = 300
        if "username" in settings:
            account.sipConfig.authCreds.append(
                pj.AuthCredInfo("digest", "*", settings["username"], 0, settings["password"])
            )
        account.natConfig.contactRewriteUse = 0
        self.account = Account(self)
        self.account.create(account)
        say("ready", port=settings["port"])

    def obey(self, order: dict[str, Any]) -> None:
        match order["do"]:
            case "call":
                call = Call(self)
                call.makeCall(order["uri"], pj.CallOpParam(True))
                self.calls[call.getInfo().id] = call
            case "hold":
                self.the_call(order).setHold(pj.CallOpParam())
            case "resume":
                again = pj.CallOpParam()
                again.opt.flag = pj.PJSUA_CALL_UNHOLD
                again.opt.audioCount, again.opt.videoCount = 1, 0
                self.the_call(order).reinvite(again)
            case "hangup":
                self.the_call(order).hangup(pj.CallOpParam())
            case "transfer":
                self.the_call(order).xfer(order["uri"], pj.CallOpParam())
            case "digits":
                self.the_call(order).dialDtmf(order["digits"])
            case "hear":
                say("heard", file=str(self.heard), octets=self.heard.stat().st_size)

    def the_call(self, order: dict[str, Any]) -> Call:
        return self.calls[order["id"]] if "id" in order else next(iter(self.calls.values()))

    def close(self) -> None:
        self.calls.clear()
        self.ended.clear()
        self.account.shutdown()
        del self.player, self.recorder
        self.endpoint.libDestroy()


def tone(file: Path, hz: int) -> str:
    """A second of a tone, whole periods, at -6 dBFS."""
    samples = [int(16_384 * math.sin(2 * math.pi * hz * number / _RATE)) for number in range(_RATE)]
    data = struct.pack(f"<{_RATE}h", *samples)
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + len(data),
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        _RATE,
        2 * _RATE,
        2,
        16,
        b"data",
        len(data),
    )
    file.write_bytes(head + data)
    return str(file)


def main() -> None:
    agent = Agent(json.loads(sys.stdin.readline()))
    lock = threading.Lock()
    for line in sys.stdin:
        with lock:
            try:
                agent.obey(json.loads(line))
            except Exception as error:
                say("error", text=str(error) or repr(error))
    agent.close()


if __name__ == "__main__":
    main()
