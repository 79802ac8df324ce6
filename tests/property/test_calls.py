"""Softphones and PBXs that do as they please, with the call layer between them and a network that loses and doubles.

Whatever happens: no exception; nobody is asked anything who was not meant; minutes later no transaction is left, and
no call but those that are confirmed on both sides; and the BYE of each of these reaches the other side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import hypothesis.strategies as st
import trio
import trio.testing
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from siperb_core.entries.live import LoadedConnection
from siperb_core.entries.model import Entry
from siperb_core.sip import parse
from siperb_core.sip.registrar import Binding
from tests.property.agents import Agent, AgentDialog, Path
from tests.scenario.world import FakeConnection, World

_MOST_LOST = 2
"""How often one and the same datagram may be lost: what is sent again arrives in the end."""

FIVE_MINUTES = 300.0
pick = st.integers(0, 1000)


class Calls(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = trio.testing.MockClock(autojump_threshold=0)
        self.world: World = self.at_once(World)
        self.wire: list[tuple[Callable[[bytes], None], bytes]] = []
        self.lost: Counter[bytes] = Counter()
        self.pbxs = [self._agent("pbx", "udp", "192.0.2.99"), self._agent("carrier", "tcp", "192.0.2.98")]
        self.phones = [self._agent(f"phone{n}", "ws", f"198.51.100.{n}") for n in range(1, 3)]
        for pbx in self.pbxs:
            entry = Entry(pbx.name, "fake", failover=True)
            self.world.candidates.append(LoadedConnection(entry, None, FakeConnection(pbx.flow)))  # type: ignore[arg-type]

    def at_once(self, step: Callable[[], Any]) -> Any:
        """Do something at this moment of virtual time."""

        async def inside() -> Any:
            return step()

        return trio.run(inside, clock=self.clock)

    @property
    def agents(self) -> list[Agent]:
        return [*self.pbxs, *self.phones]

    def _agent(self, name: str, transport: str, address: str) -> Agent:
        """An agent, and the flow the gateway has to it."""
        agent: Agent
        flow: Path

        def to_gateway(data: bytes) -> None:
            self.wire.append((lambda data: self.world.signalling.received(data, flow), data))

        def to_agent(data: bytes) -> None:
            self.wire.append((lambda data: self._arrive(agent, data), data))

        agent = Agent(name, transport, address, to_gateway)
        flow = Path(transport, "192.0.2.1", address, to_agent)
        if transport == "ws":
            agent.contact = f"<sip:{name}@{name}.invalid;transport=ws>"
            self.world.bindings.append(
                Binding(name, agent.contact.strip("<>"), "", "", "x", 1, 1e12, flow, "", (), registered_at=0)  # type: ignore[call-arg]
            )
        agent.flow = flow
        return agent

    def _arrive(self, agent: Agent, data: bytes) -> None:
        if agent.gone:
            return
        message = parse(data)
        if message.is_request and message.method not in ("ACK", "CANCEL"):
            if message.to_tag:
                assert message.call_id in agent.known, f"{agent.name} has nothing to do with {message!r}"
            elif agent in self.phones:
                assert message.uri == agent.contact.strip("<>"), f"{message!r} is not for {agent.name}"
        agent.receive(message, trio.current_time())

    # ---- the network

    def _flush(self) -> None:
        """All that is under way arrives, and what that gives rise to."""
        for _ in range(10_000):
            if not self.wire:
                return
            deliver, data = self.wire.pop(0)
            deliver(data)
        raise AssertionError("two sides answer each other for ever")

    @precondition(lambda self: self.wire)
    @rule()
    def the_next_arrives(self) -> None:
        deliver, data = self.wire.pop(0)
        self.at_once(lambda: deliver(data))

    @precondition(lambda self: self.wire)
    @rule()
    def all_arrives(self) -> None:
        self.at_once(self._flush)

    def _datagrams(self) -> list[int]:
        return [n for n, (_, data) in enumerate(self.wire) if b"SIP/2.0/UDP" in data]

    @precondition(lambda self: self._datagrams())
    @rule(which=pick)
    def one_is_lost(self, which: int) -> None:
        datagrams = self._datagrams()
        index = datagrams[which % len(datagrams)]
        data = self.wire[index][1]
        if self.lost[data] < _MOST_LOST:
            self.lost[data] += 1
            del self.wire[index]

    @precondition(lambda self: self._datagrams())
    @rule(which=pick)
    def one_comes_twice(self, which: int) -> None:
        datagrams = self._datagrams()
        self.wire.append(self.wire[datagrams[which % len(datagrams)]])

    @precondition(lambda self: len(self._datagrams()) > 1)
    @rule(which=pick)
    def one_is_late(self, which: int) -> None:
        datagrams = self._datagrams()
        self.wire.append(self.wire.pop(datagrams[which % len(datagrams)]))

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.0, 5.0, 20.0, 40.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        """What is under way arrives before the next timer fires: the network is slow by milliseconds, not minutes."""

        async def inside() -> None:
            end = trio.current_time() + seconds
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.world.run)
                while trio.current_time() < end:
                    self._flush()
                    deadlines = [agent.next_deadline for agent in self.agents]
                    layer = self.world.signalling._layer.next_deadline
                    times = [time for time in (*deadlines, layer) if time is not None]
                    await trio.sleep_until(max(min([*times, end]), trio.current_time() + 0.001))
                    for agent in self.agents:
                        agent.advance(trio.current_time())
                self._flush()
                nursery.cancel_scope.cancel()

        trio.run(inside, clock=self.clock)

    # ---- what people do

    @rule(which=pick, turn=st.booleans())
    def a_phone_calls(self, which: int, turn: bool) -> None:
        phone = self.phones[which % len(self.phones)]
        if turn:
            self.world.candidates.reverse()
        if not phone.gone:
            self.at_once(
                lambda: phone.invite("sip:600@gw.example", f"sip:{phone.name}@gw.example", trio.current_time())
            )

    @rule(which=pick)
    def a_pbx_calls(self, which: int) -> None:
        pbx = self.pbxs[which % len(self.pbxs)]
        self.at_once(lambda: pbx.invite("sip:alice@192.0.2.1", "sip:601@pbx.example", trio.current_time()))

    @rule(which=pick, method=st.sampled_from(["SUBSCRIBE", "REFER", "NOTIFY"]))
    def somebody_asks_outside_a_dialog(self, which: int, method: str) -> None:
        agents = [agent for agent in self.agents if not agent.gone]
        agent = agents[which % len(agents)]
        own = "sip:601@pbx.example" if agent in self.pbxs else f"sip:{agent.name}@gw.example"
        uri = "sip:alice@192.0.2.1" if agent in self.pbxs else "sip:600@gw.example"
        self.at_once(lambda: agent.ask(method, uri, own, trio.current_time()))

    @precondition(lambda self: any(agent.watched() for agent in self.agents))
    @rule(which=pick, method=st.sampled_from(["NOTIFY", "SUBSCRIBE"]), state=st.sampled_from(["active", "terminated"]))
    def a_subscription_goes_on(self, which: int, method: str, state: str) -> None:
        watched = [(agent, dialog) for agent in self.agents for dialog in agent.watched() if not agent.gone]
        if watched:
            agent, dialog = watched[which % len(watched)]
            self.at_once(lambda: agent.says_in_subscription(dialog, method, state, trio.current_time()))

    @precondition(lambda self: any(agent.ringing for agent in self.agents))
    @rule(
        which=pick,
        status=st.sampled_from([180, 183, 199, 200, 202, 302, 404, 486, 503, 603]),
        fork=st.integers(1, 2),
        reliably=st.booleans(),
    )
    def somebody_answers(self, which: int, status: int, fork: int, reliably: bool) -> None:
        ringing = [(agent, server) for agent in self.agents for server in agent.ringing]
        agent, server = ringing[which % len(ringing)]
        self.at_once(lambda: agent.answer(server, status, fork, trio.current_time(), reliably=reliably))

    @precondition(lambda self: any(agent.ringing for agent in self.agents))
    @rule(which=pick, fork=st.integers(1, 2))
    def somebody_rings_reliably(self, which: int, fork: int) -> None:
        """And is acknowledged, where nothing comes in between."""
        ringing = [(agent, server) for agent in self.agents for server in agent.ringing]
        agent, server = ringing[which % len(ringing)]
        self.at_once(lambda: agent.answer(server, 183, fork, trio.current_time(), reliably=True))
        self.at_once(self._flush)

    @precondition(lambda self: any(agent.calling for agent in self.agents))
    @rule(which=pick)
    def a_caller_gives_up(self, which: int) -> None:
        calling = [(agent, client) for agent in self.agents for client in agent.calling if not agent.gone]
        if calling:
            agent, client = calling[which % len(calling)]
            self.at_once(lambda: agent.cancel(client, trio.current_time()))

    @precondition(lambda self: any(agent.alive() for agent in self.agents))
    @rule(which=pick, method=st.sampled_from(["BYE", "INVITE", "INFO", "UPDATE", "REFER", "NOTIFY", "MESSAGE"]))
    def somebody_says_something(self, which: int, method: str) -> None:
        alive = [(agent, dialog) for agent in self.agents for dialog in agent.alive() if not agent.gone]
        if alive:
            agent, dialog = alive[which % len(alive)]
            self.at_once(lambda: agent.say(dialog, method, trio.current_time()))

    @precondition(lambda self: any(agent.calling for agent in self.agents))
    @rule(which=pick, method=st.sampled_from(["BYE", "UPDATE"]))
    def a_caller_says_something_early(self, which: int, method: str) -> None:
        early: list[tuple[Agent, AgentDialog]] = [
            (agent, dialog)
            for agent in self.agents
            for dialogs in agent.calling.values()
            for dialog in dialogs
            if not dialog.confirmed and not dialog.ended and not agent.gone
        ]
        if early:
            agent, dialog = early[which % len(early)]
            self.at_once(lambda: agent.say(dialog, method, trio.current_time()))

    @rule(which=st.integers(0, 19))
    def a_phone_vanishes(self, which: int) -> None:
        if which >= len(self.phones) or self.phones[which].gone:
            return
        phone = self.phones[which]
        phone.gone = True
        phone.ringing.clear()
        flow = phone.flow
        flow.dead = True
        self.world.bindings = [binding for binding in self.world.bindings if binding.flow is not flow]
        self.world.dead.add(flow)
        self.at_once(lambda: self.world.signalling.closed(flow, "gone"))

    # ---- what must be

    @invariant()
    def nothing_went_wrong_inside(self) -> None:
        assert self.world.signalling.rejected["bug"] == 0

    def teardown(self) -> None:
        for _ in self.pbxs:  # an unanswered call may ring at one after the other, for the three minutes of timer C each
            self._pass(FIVE_MINUTES)
        confirmed = {dialog.key for pbx in self.pbxs for dialog in pbx.alive()}
        both = confirmed & {dialog.key for phone in self.phones for dialog in phone.alive() if not phone.gone}
        # Of a phone that vanished nobody hears again: its calls are the PBX's to end, or the media's.
        lonely = confirmed & {dialog.key for phone in self.phones for dialog in phone.dialogs.values() if phone.gone}
        assert self.world.signalling.transactions == 0
        kept = {
            (dialog.call_id, frozenset((dialog.caller_tag, dialog.callee_tag)))
            for call in self.world.calls.active()
            for dialog in call.dialogs.values()
        }
        assert kept <= both | lonely, "a call is kept that nobody is in"
        assert both <= kept, "a call is lost that both are in"
        for n, key in enumerate(sorted(both, key=repr)):
            ends = [(agent, dialog) for agent in self.agents for dialog in agent.alive() if dialog.key == key]
            assert len(ends) == 2
            agent, dialog = ends[n % 2]
            self.at_once(partial(self._hang_up, agent, dialog))
            assert key in ends[1 - n % 2][0].byes, "the BYE has not come"
        for pbx in self.pbxs:
            for dialog in pbx.alive():
                if dialog.key in lonely:
                    self.at_once(partial(self._hang_up, pbx, dialog))
        self._pass(FIVE_MINUTES)
        assert self.world.calls.active() == []
        assert self.world.calls.kept == 0
        assert self.world.saved == {}
        assert self.world.signalling.transactions == 0
        self.nothing_went_wrong_inside()

    def _hang_up(self, agent: Agent, dialog: AgentDialog) -> None:
        agent.say(dialog, "BYE", trio.current_time())
        self._flush()


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=45, stateful_step_count=40)
