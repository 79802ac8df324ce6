"""The core's transports as plugins: names at once, sockets when one is listened to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import trio

    from siperb_core.entries.model import Listen
    from siperb_core.transport.contract import Listener, Receiver


@attrs.frozen
class CoreTransport:
    """A `TransportType` of `siperb_core.transport`, which is imported by the first `listen`: commands that only look
    at the configuration need no sockets.
    """

    name: str

    async def listen(
        self,
        config: Listen,
        receiver: Receiver,
        *,
        external_address: str | None,
        task_status: trio.TaskStatus[Listener],
    ) -> None:
        """As `TransportType.listen`."""
        from siperb_core.transport import TRANSPORTS

        transport = next(transport for transport in TRANSPORTS if transport.name == self.name)
        await transport.listen(config, receiver, external_address=external_address, task_status=task_status)
