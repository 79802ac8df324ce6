"""TURN servers for softphones, with credentials that run out: coturn's shared-secret scheme (`use-auth-secret`,
draft-uberti-behave-turn-rest-00). Pure.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from typing import Any, Final

from siperb_core.entries.model import MediaConfig

# RFC 7064 and 7065; a browser refuses others, and with them every call.
_URI: Final = re.compile(
    r"stuns?:(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
    r"|turns?:(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:\?transport=(?:udp|tcp))?"
)


def uris(instance: object, attribute: object, value: tuple[str, ...]) -> None:
    """A validator: URIs of STUN and TURN servers. Raises ValueError."""
    for uri in value:
        if not _URI.fullmatch(uri):
            raise ValueError(
                f'"{uri[:80]}" is no URI of a TURN server: write one such as "turn:turn.example.com:3478?transport=udp"'
            )


def credentials(secret: str, user: str, expires: int) -> tuple[str, str]:
    """Username and password that the server takes until `expires`, in seconds since the epoch."""
    username = f"{expires}:{user}"
    return username, b64encode(hmac.digest(secret.encode(), username.encode(), "sha1")).decode()


def ice_servers(media: MediaConfig, user: str, now: float) -> list[dict[str, Any]]:
    """What goes into a browser's `RTCConfiguration.iceServers` (W3C WebRTC section 4.2.2); empty where none is set."""
    servers: list[dict[str, Any]] = []
    open_to_all = [uri for uri in media.turn if uri.startswith("stun")]
    relays = [uri for uri in media.turn if uri.startswith("turn")]
    if open_to_all:
        servers.append({"urls": open_to_all})
    if relays:
        username, password = credentials(media.turn_secret.reveal(), user, int(now) + media.turn_ttl)
        servers.append({"urls": relays, "username": username, "credential": password})
    return servers
