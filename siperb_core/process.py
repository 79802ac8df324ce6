"""The gateway as a Unix process: its signals, and what the service manager is told."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
from pathlib import Path

import structlog
import trio

from siperb_core.gateway import Gateway
from siperb_core.log import write_in_batches

log = structlog.get_logger()


MOST_DESCRIPTORS = 65_536
"""Every softphone takes one and every call some; a service manager's usual 1,024 is for programs that use select()."""


async def run_gateway(config_path: Path) -> None:
    """Run in the foreground until SIGTERM or SIGINT, which drain; SIGHUP reads the configuration again.

    Raises `siperb_core.gateway.ConfigurationError`, and OSError where a port is taken.
    """
    raise_descriptor_limit()
    gateway = Gateway(config_path)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_in_batches)
            await nursery.start(gateway.run)
            settle_collector()
            notify_service_manager("READY=1")
            nursery.start_soon(_obey_signals, gateway)
            await gateway.stopped.wait()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


def raise_descriptor_limit() -> None:
    """Allow as many open files as we may, up to `MOST_DESCRIPTORS`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def settle_collector() -> None:
    """Leave what is there after the start (modules, configuration) out of garbage collection, and collect less often.

    A call makes a thousand containers and frees them by reference counting; looking for cycles among them, and among
    everything that was imported, took 6 % of its CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


async def _obey_signals(gateway: Gateway) -> None:
    """The first SIGTERM or SIGINT drains, the second does not wait."""
    stopping = False
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP:
                notify_service_manager("RELOADING=1")
                result = await gateway.reload()
                log.info("config.reloaded", applied=result.config is not None, problems=len(result.problems))
                notify_service_manager("READY=1")
                continue
            notify_service_manager("STOPPING=1")
            log.info("gateway.stopping", signal=signal.Signals(number).name)
            gateway.stop(drain_seconds=0 if stopping else None)
            stopping = True


def notify_service_manager(state: str) -> None:
    """Tell systemd, where it wants to know (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        try:
            notify.sendto(state.encode(), address)
        except OSError as error:
            log.warning("systemd.notify_failed", reason=str(error))
