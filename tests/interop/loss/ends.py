"""The two ends of many calls without media: a PBX on UDP, and a softphone on a WebSocket."""

from __future__ import annotations

from collections import Counter

import trio

from siperb_core.sip import Message, ParseError, parse, response_to
from siperb_core.testing.user_agent import Credentials, token
from siperb_core.testing.wire import Wire, request

T1, T2 = 0.5, 4.0  # seconds, RFC 3261 section 17.1.1.1
GIVE_UP = 64 * T1


class LightPbx:
    """A user agent server on UDP that answers every INVITE at once (RFC 3261 section 13.3.1.4) and every BYE."""

    def __init__(self) -> None:
        self.contact = ""
        """The URI others reach it by."""
        self.local: tuple[str, int]
        self.counts: Counter[str] = Counter()
        self._answers: dict[tuple[str, str], Message] = {}
        self._acknowledged: dict[str, trio.Event] = {}
        self.answered: set[str] = set()
        self.running: set[str] = set()
        """Calls that were answered and have not ended, by Call-ID."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled."""
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
            await sock.bind(("127.0.0.1", 0))
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 1 << 21)
            self.local = sock.getsockname()
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    data, source = await sock.recvfrom(65_536)
                    try:
                        message = parse(data)
                    except ParseError:
                        self.counts["unparsable"] += 1
                        continue
                    if message.is_request:
                        await self._on_request(nursery, sock, source, message)

    async def _on_request(
        self, nursery: trio.Nursery, sock: trio.socket.SocketType, source: tuple[str, int], message: Message
    ) -> None:
        self.counts[message.method] += 1
        key = (message.via.branch, message.method)
        known = self._answers.get(key)
        if message.method == "ACK":
            if message.call_id in self._acknowledged:
                self._acknowledged[message.call_id].set()
        elif known is not None:
            self.counts["requests again"] += 1
            await sock.sendto(bytes(known), source)
        elif message.method == "INVITE":
            answer = response_to(message, 200, to_tag=token(), headers=[("Contact", f"<{self.contact}>")])
            self._answers[key] = answer
            self._acknowledged[message.call_id] = trio.Event()
            self.answered.add(message.call_id)
            self.running.add(message.call_id)
            await sock.sendto(bytes(response_to(message, 180, to_tag=answer.to_tag)), source)
            nursery.start_soon(self._until_acknowledged, sock, source, answer)
        else:
            self.running.discard(message.call_id)
            self._answers[key] = response_to(message, 200)
            await sock.sendto(bytes(self._answers[key]), source)

    async def _until_acknowledged(self, sock: trio.socket.SocketType, source: tuple[str, int], answer: Message) -> None:
        interval = T1
        with trio.move_on_after(GIVE_UP):
            while not self._acknowledged[answer.call_id].is_set():
                self.counts["200 to INVITE"] += 1
                await sock.sendto(bytes(answer), source)
                with trio.move_on_after(interval):
                    await self._acknowledged[answer.call_id].wait()
                interval = min(2 * interval, T2)
            return
        # Section 13.3.1.4: without an ACK there is no session. (A BYE would be the polite end of it.)
        self.counts["never acknowledged"] += 1
        self.running.discard(answer.call_id)


class LightPhone:
    """Any number of calls over one WebSocket. What comes again is acknowledged again."""

    def __init__(self, wire: Wire) -> None:
        self.outcomes: Counter[str] = Counter()
        self._wire = wire
        self._aor = ""
        self._waiting: dict[tuple[str, str], trio.MemorySendChannel[Message]] = {}
        self._acks: dict[str, Message] = {}

    async def register(self, device: str, password: str) -> None:
        """Has to be done before `serve`."""
        aor = self._aor = f"sip:{device}@gw.example"
        contact = f"<sip:{token()}@{token()}.invalid;transport=ws>"
        register = request("REGISTER", "sip:gw.example", caller=aor, callee=aor, contact=contact)
        assert (await self._wire.request(register, Credentials(device, password))).status == 200

    async def serve(self) -> None:
        """Bring responses to their calls, until cancelled."""
        while True:
            message = await self._wire.receive()
            if message.is_request:
                self.outcomes[f"ended by a {message.method}"] += 1
                await self._wire.send(response_to(message, 200))
                continue
            method = message.cseq.method
            if method == "INVITE" and 200 <= message.status < 300 and message.call_id in self._acks:
                await self._wire.send(self._acks[message.call_id])
            elif message.status >= 200:
                channel = self._waiting.pop((message.call_id, method), None)
                if channel is not None:
                    channel.send_nowait(message)

    async def call(self, number: str, seconds: float, setting_up: trio.Semaphore) -> None:
        """One call: INVITE, 200, ACK, `seconds` of silence, BYE, 200. What became of it is in `outcomes`.

        `setting_up` is given back when it is known whether the call is set up.
        """
        contact = f"<sip:phone@{self._wire.sent_by};transport=ws>"
        invite = request("INVITE", f"sip:{number}@gw.example", caller=self._aor, contact=contact)
        success = await self._final(invite)
        setting_up.release()
        if success is None or success.status != 200:
            self.outcomes["not set up: " + ("silence" if success is None else str(success.status))] += 1
            return
        ack = self._within("ACK", invite, success, 1)
        self._acks[invite.call_id] = ack
        await self._wire.send(ack)
        self.outcomes["set up"] += 1
        await trio.sleep(seconds)
        done = await self._final(self._within("BYE", invite, success, 2))
        self.outcomes["not ended: silence" if done is None else f"BYE {done.status}"] += 1

    async def _final(self, message: Message) -> Message | None:
        send, receive = trio.open_memory_channel[Message](1)
        self._waiting[message.call_id, message.method] = send
        if message.get("Via") is None:
            message.prepend("Via", self._wire.via())
        await self._wire.send(message)
        with trio.move_on_after(GIVE_UP + 8):
            return await receive.receive()
        return None

    def _within(self, method: str, invite: Message, success: Message, cseq: int) -> Message:
        fields = [
            ("Via", self._wire.via()),
            ("Max-Forwards", "70"),
            ("From", invite.get("From") or ""),
            ("To", success.get("To") or ""),
            ("Call-ID", invite.call_id),
            ("CSeq", f"{cseq} {method}"),
        ]
        return Message.request(method, success.contacts[0].uri, fields)
