"""The gateway as a Unix process: its log, its signals, and what the service manager is told."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from pathlib import Path

import structlog
import trio

from siperb_core.gateway import Gateway

log = structlog.get_logger()


def configure_log(level: int = logging.INFO) -> None:
    """Log to stderr: for people on a terminal, a JSON object per line elsewhere."""
    terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not terminal),
        structlog.processors.StackInfoRenderer(),
    ]
    if not terminal:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


async def run_gateway(config_path: Path) -> None:
    """Run in the foreground until SIGTERM or SIGINT, which drain; SIGHUP reads the configuration again.

    Raises `siperb_core.gateway.ConfigurationError`, and OSError where a port is taken.
    """
    gateway = Gateway(config_path)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(gateway.run)
            notify_service_manager("READY=1")
            nursery.start_soon(_obey_signals, gateway)
            await gateway.stopped.wait()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


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
