"""Which two codecs bridge a call: the policy, and what transcoders there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

CodecPolicy = Literal["opus-first", "relay-first"]


@attrs.frozen
class Pairing:
    """Which codec of the phone goes with which codec of the PBX."""

    client_codecs: tuple[str, ...]
    peer_codecs: tuple[str, ...]
    policy: CodecPolicy
    transcodable: frozenset[tuple[str, str]]

    def bridges(self, client: str, peer: str) -> bool:
        """The same codec is relayed; two need a transcoder in both directions."""
        return client == peer or {(client, peer), (peer, client)} <= self.transcodable

    def peer_offer(self, client: Sequence[str], current: str = "") -> tuple[str, ...]:
        """What to offer to the PBX for a phone that has these codecs.

        The configured order; under relay-first shared codecs come before others. The one in use goes first among its
        equals.
        """
        found = [name for name in self.peer_codecs if any(self.bridges(theirs, name) for theirs in client)]
        shared = self.policy == "relay-first"
        return tuple(sorted(found, key=lambda name: (shared and name not in client, name != current)))

    def client_offer(self, peer: Sequence[str], current: str = "") -> tuple[str, ...]:
        """What to offer to the phone for a PBX that has these codecs, by policy; the one in use before its equals."""
        found = [name for name in self.client_codecs if any(self.bridges(name, theirs) for theirs in peer)]
        if self.policy == "opus-first":
            return tuple(sorted(found, key=lambda name: (name != "opus", name not in peer, name != current)))
        return tuple(sorted(found, key=lambda name: (name not in peer, name != current)))

    def client_for(self, peer: str, client: Sequence[str]) -> str:
        """The phone's codec, once the PBX's is known, which was in `peer_offer` for this phone: so there is one."""
        first = ["opus", peer] if self.policy == "opus-first" else [peer, "opus"]
        return next(name for name in (*first, *client) if name in client and self.bridges(name, peer))

    def peer_for(self, client: str, peer: Sequence[str]) -> str:
        """The PBX's codec, once the phone's is known: the same where the PBX has it, else what the PBX likes best.

        The phone's was in `client_offer` for this PBX: so there is one.
        """
        return next(name for name in (client, *peer) if name in peer and self.bridges(client, name))

    def why(self, client: str, peer: str, phone_has: Sequence[str]) -> str:
        """One sentence on the choice."""
        if client != peer:
            shared = "" if self.policy == "opus-first" else f", as the phone does not use {peer}"
            return f"{self.policy}: the phone's {client} is transcoded to and from the PBX's {peer}{shared}"
        if self.policy == "relay-first" or client == "opus":
            return f"{self.policy}: both ends have {peer}, so packets are relayed as they are"
        if "opus" not in phone_has:
            return f"the phone does not use opus; both ends have {peer}, so packets are relayed as they are"
        if not self.bridges("opus", peer):
            return f"no transcoder between opus and {peer}; both ends have {peer}, so packets are relayed as they are"
        return f"the phone prefers {peer}, which both ends have, so packets are relayed as they are"
