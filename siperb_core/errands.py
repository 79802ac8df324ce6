"""What the gateway does for connection types outside calls: requests, our address, what an entry keeps."""

from __future__ import annotations

import secrets
from collections.abc import MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any

from siperb_core.entries.contract import ConnectionNotReady
from siperb_core.entries.memory import Memory
from siperb_core.targets import PATIENCE_SECONDS, Awaited, ended

if TYPE_CHECKING:
    from siperb_core.entries.contract import Target
    from siperb_core.gateway import Gateway
    from siperb_core.sip import Message
    from siperb_core.store import Store


def kept(store: Store, key: str) -> Memory:
    """What the store keeps under a key, to read and to write."""
    return Memory(store.memory(key), partial(store.put_memory, key), partial(store.delete_memory, key))


class Errands:
    """It is the `siperb_core.entries.outside.Outside` of all entries."""

    def __init__(self, gateway: Gateway) -> None:
        self.domain = gateway.domain
        self._gateway = gateway

    async def request(self, message: Message, target: Target) -> Message:
        """Send a request outside any dialog to the first destination that answers (RFC 3263 section 4.3).

        Its final response. Raises ConnectionNotReady.
        """
        gateway, targets = self._gateway, self._gateway.targets
        if message.max_forwards is None:
            message.set("Max-Forwards", "70")
        ways = await targets.find(target)
        response: Message | None = None
        reason = f"no way to {target.host} by {target.transport}"
        while (flow := ways.next()) is not None:
            awaited = Awaited()
            patience = PATIENCE_SECONDS if ways.more else None
            gateway.signalling.request_patiently(message.copy(), flow, awaited, patience)
            await awaited.done.wait()
            if awaited.response is not None:
                response = awaited.response
                targets.answered(target, flow)
                gateway.watch.answered(target.host, response)
                if awaited.via is not None:
                    targets.seen_as(flow, awaited.via)
                if response.status != 503:
                    break
            else:
                targets.put_aside(flow)
                reason = "no answer"
                if awaited.status != 408:
                    reason = f"{target.host} cannot be reached by {flow.transport}"
                    reason = ": ".join(filter(None, (reason, ended(flow))))
        if response is None:
            raise ConnectionNotReady(reason)
        return response

    async def keep_alive(self, target: Target, interval: float) -> None:
        """As `EntryContext.keep_alive`."""
        await self._gateway.targets.keep_alive(target, interval, self._gateway.signalling.wait_closed)

    async def contact_uri(self, entry: str, target: Target) -> str:
        """Our address as that target sees it, with a user part that is this entry's alone, the same after a restart."""
        flow = await self._gateway.targets.first(target)
        return self._gateway.contact(self.token(entry), flow).strip("<>")

    def token(self, entry: str) -> str:
        """The user part of an entry's Contact. Nobody can guess it who was not told."""
        return self._gateway.sign(f"entry:{entry}")

    def memory(self, entry: str) -> MutableMapping[str, Any]:
        """What an entry keeps over a restart."""
        return kept(self._gateway.store, f"entry:{entry}")

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._gateway.now()

    def random_token(self, octets: int = 12) -> str:
        """Random letters and digits."""
        return secrets.token_hex(octets)
