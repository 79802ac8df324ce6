"""The loop that serves the media sockets: everybody has their turn, also who is not a socket of ours."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
import trio

from siperb_core.media.sockets import ROUNDS, MediaSockets


class Line:
    """A socket, what has come on it, and its other end."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ours.setblocking(False)
        self.heard: list[bytes] = []
        self.then = then

    def readable(self) -> None:
        self.heard.append(self.ours.recv(100))
        self.then()

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


class World:
    """Sockets under test, with the main process's line and what was complained of."""

    def __init__(self) -> None:
        self.control = Line()
        self.lines: list[Line] = [self.control]
        self.complaints: list[str] = []
        self.sockets = MediaSockets(self.control.ours, 0.0, lambda what, error: self.complaints.append(repr(error)))

    def line(self, then: Callable[[], object] = lambda: None) -> Line:
        line = Line(then)
        self.lines.append(line)
        self.sockets.serve(line.ours, line.readable)
        return line

    def endless(self) -> Line:
        """A line on which every datagram is followed by another."""
        line = self.line()
        line.then = lambda: line.theirs.send(b"again")
        line.theirs.send(b"first")
        return line


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    for line in world.lines:
        line.close()


async def test_each_datagram_is_served(world: World) -> None:
    done = trio.Event()
    lines = [world.line() for _ in range(3)]
    lines[2].then = lambda: done.set() if len(lines[2].heard) == 5 else None
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for line in lines:
                for n in range(5):
                    line.theirs.send(b"%d" % n)
            nursery.start_soon(world.sockets.run)
            await done.wait()
            nursery.cancel_scope.cancel()
    assert [line.heard for line in lines] == [[b"0", b"1", b"2", b"3", b"4"]] * 3


async def test_a_flood_on_one_socket_leaves_the_others_their_turn(world: World) -> None:
    flooded = world.endless()
    before: list[int] = []
    quiet = world.line(lambda: before.append(len(flooded.heard)))
    for _ in range(3):
        quiet.theirs.send(b"packet")
    world.sockets._serve_ready()
    assert len(quiet.heard) == 3
    assert before[2] <= 3, "one of the flood for one of the others"
    assert len(flooded.heard) == ROUNDS


async def test_a_callback_that_raises_is_complained_of_and_costs_no_other(world: World) -> None:
    broken, sound = world.line(), world.line()

    def fails() -> None:
        raise RuntimeError("not my day")

    broken.then = fails
    for line in (broken, sound):
        line.theirs.send(b"packet")
    world.sockets._serve_ready()
    assert world.complaints == ["RuntimeError('not my day')"]
    assert sound.heard == [b"packet"]


async def test_who_is_forgotten_is_not_served_even_if_it_was_ready(world: World) -> None:
    lines: list[Line] = []

    def forget_both() -> None:
        for line in lines:
            world.sockets.forget(line.ours)

    lines += [world.line(forget_both), world.line(forget_both)]
    for line in lines:
        line.theirs.send(b"packet")
    world.sockets._serve_ready()
    assert sorted(len(line.heard) for line in lines) == [0, 1]
    world.sockets.forget(lines[0].ours)


async def test_while_packets_flow_a_deadline_is_kept(world: World) -> None:
    flooded = world.endless()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.sockets.run)
            with trio.move_on_after(0.1) as scope:
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()
    assert scope.cancelled_caught
    assert flooded.heard


async def test_while_packets_flow_a_task_that_one_of_them_has_woken_runs(world: World) -> None:
    """ICE and DTLS: the handshake is a task."""
    woken = trio.Event()
    flooded = world.endless()
    other = world.line(woken.set)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.sockets.run)
            while not flooded.heard:
                await trio.lowlevel.checkpoint()
            other.theirs.send(b"handshake")
            await woken.wait()
            served = len(flooded.heard)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert other.heard == [b"handshake"]
    assert served


async def test_while_packets_flow_the_main_process_is_heard(world: World) -> None:
    flooded = world.endless()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.sockets.run)
            while not flooded.heard:
                await trio.lowlevel.checkpoint()
            flooded.then = lambda: world.control.theirs.send(b"open")
            await trio.lowlevel.wait_readable(world.control.ours)
            world.control.readable()
            nursery.cancel_scope.cancel()
    assert world.control.heard == [b"open"]


async def test_the_main_process_is_not_kept_waiting_for_the_next_packet(world: World) -> None:
    """What it says ends the wait; the deadline of this test is far away."""
    world.control.theirs.send(b"open")
    world.line().theirs.send(b"packet")
    world.sockets._run_alone(float("inf"))
    assert [line.heard for line in world.lines] == [[], [b"packet"]]
