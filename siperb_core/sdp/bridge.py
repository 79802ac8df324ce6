"""Offer and answer (RFC 3264) between softphones and a PBX: each description of one side becomes ours for the other.

One `Bridge` per call. It is pure and synchronous: ports, credentials and sources are picked outside and passed in,
octets and a plan come out. An operation that raises leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import attrs

from siperb_core.sdp import client, crypto, peer
from siperb_core.sdp.agreement import agreed, agreed_event, answer_formats, event_for, stream_of, usable
from siperb_core.sdp.codecs import (
    Format,
    codec_named,
    formats_of,
    formats_under,
    names_of,
    numbered,
    numbers_with,
    telephone_event,
)
from siperb_core.sdp.description import SdpError, SessionDescription, bad, parse_sdp
from siperb_core.sdp.direction import direction_of, narrow, reverse
from siperb_core.sdp.legs import AgreedClient, AgreedPeer, answerers_role
from siperb_core.sdp.pairing import Pairing
from siperb_core.sdp.plan import Direction, SessionPlan
from siperb_core.sdp.section import Line, Origin, find_audio, lines_of, ptime_of
from siperb_core.sdp.settings import BridgeSettings, LegIdentity

__all__ = ["Bridge", "BridgeSettings", "LegIdentity"]


@attrs.frozen
class _State:
    """What an offer that is refused goes back to (RFC 3264 section 4)."""

    peer: AgreedPeer | None = None
    clients: Mapping[str, AgreedClient] = attrs.Factory(dict)
    active: str | None = None
    client_codec: str = ""
    peer_codec: str = ""
    why: str = ""


@attrs.frozen
class _Offer:
    """The offer under way, or the last one that was answered."""

    data: bytes
    before: _State
    formats: tuple[Format, ...]  # the offerer's
    direction: Direction  # the offerer's
    ptime: int  # the offerer's
    sent: Mapping[str, tuple[Format, ...]]  # what we offered on: by branch
    answered: bool = False


@attrs.frozen
class _ClientOffer(_Offer):
    branch: str = attrs.field(kw_only=True)
    leg: AgreedClient = attrs.field(kw_only=True)  # as it will be once answered


@attrs.frozen
class _PeerOffer(_Offer):
    leg: AgreedPeer = attrs.field(kw_only=True)  # as it will be once answered


_TO_PEER = ""  # the key in _Offer.sent of what went to the PBX


class Bridge:
    """The offer/answer machine of one call: one leg to the PBX, one to each branch of the fork.

    An offer taken in gives the offer to pass on, an answer the answer to pass on; any of the four may come first (a
    delayed offer is nothing special). An answer may come again for the same offer, from a 183 and then from the 200
    say, and the last one counts. While an offer is unanswered another one is refused with 491.

    A branch's first offer needs its `identity`, which is kept until the branch is dropped. Later one is wanted only
    when the phone restarts ICE, which `restarts_ice` tells beforehand; passed at any other time it is ignored.
    """

    def __init__(self, settings: BridgeSettings) -> None:
        self.settings = settings
        self._pairing = Pairing(
            settings.client_codecs, settings.peer_codecs, settings.codec_policy, settings.transcodable
        )
        self._state = _State()
        self._offer: _ClientOffer | _PeerOffer | None = None
        self._peer_origin = Origin(settings.session_id, settings.peer_address)
        self._client_origins: dict[str, Origin] = {}
        self._identities: dict[str, LegIdentity] = {}  # of branches whose first offer was refused, too

    # --- what is agreed

    @property
    def plan(self) -> SessionPlan:
        """The media session as it should be now. While a re-offer is unanswered it stays as agreed before."""
        state = self._state
        leg = state.peer
        return SessionPlan(
            peer=None if leg is None else leg.plan(self.settings),
            clients={branch: leg.plan() for branch, leg in state.clients.items()},
            active=state.active,
        )

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches that have a leg."""
        return tuple(self._state.clients)

    @property
    def active(self) -> str | None:
        """The branch that is heard: the one that offered, or answered last."""
        return self._state.active

    @property
    def pending(self) -> bool:
        """Whether an offer is unanswered."""
        return self._offer is not None and not self._offer.answered

    @property
    def mode(self) -> Literal["transcode", "relay"] | None:
        """What is done with the audio; None before the first answer."""
        if not self._state.client_codec:
            return None
        return "relay" if self._state.client_codec == self._state.peer_codec else "transcode"

    @property
    def why(self) -> str:
        """One sentence on the choice of codecs; "" before the first answer."""
        return self._state.why

    @property
    def client_codec(self) -> str:
        """The softphone's codec; "" before the first answer."""
        return self._state.client_codec

    @property
    def peer_codec(self) -> str:
        """The PBX's codec; "" before the first answer."""
        return self._state.peer_codec

    def restarts_ice(self, sdp: bytes, branch: str) -> bool:
        """Whether this offer of a known branch starts a new ICE generation (RFC 8839 section 4.4.3.1.1).

        If so, `offer_from_client` should be given an identity with a fresh ufrag and password. Raises `SdpError`.
        """
        leg = self._state.clients.get(branch)
        if leg is None or leg.remote is None:
            return False
        description = parse_sdp(sdp)
        remote = client.read_client(description, description.media[_client_audio(description, leg)])
        return _generation(remote) != _generation(leg.remote)

    # --- offers

    def offer_from_client(self, sdp: bytes, branch: str, identity: LegIdentity | None = None) -> bytes:
        """Take a softphone's offer; the offer for the PBX.

        Raises `SdpError`, and `ValueError` where a new branch comes without identity.
        """
        description = parse_sdp(sdp)
        state = self._state
        known = self._may_offer(branch)
        index = _client_audio(description, known)
        media = description.media[index]
        remote = client.read_client(description, media)
        leg = known or AgreedClient(self._identity(branch, identity), controlling=False)
        if leg.remote is not None and identity is not None and _generation(remote) != _generation(leg.remote):
            leg = attrs.evolve(
                leg, identity=attrs.evolve(leg.identity, ufrag=identity.ufrag, password=identity.password)
            )
        formats = formats_of(media, formats_under(leg.numbers))
        leg = attrs.evolve(
            leg,
            lines=lines_of(description),
            audio=index,
            bundle=bool(description.bundle_of(media)),
            numbers=numbers_with(leg.numbers, formats),
            remote=remote,
            role=answerers_role(leg.role, remote.setup),
            controlling=leg.controlling or remote.lite,  # roles outlive restarts (RFC 8445 section 6.1.1)
        )
        offered = self._pairing.peer_offer(tuple(usable(formats)), state.peer_codec)
        if not offered:
            raise self._no_common_codec("the phone offers", formats, self._bridged_clients())
        other = state.peer or self._fresh_peer()
        events = [telephone_event(8000)] if self.settings.peer_events else []
        sent = numbered((*map(codec_named, offered), *events), other.numbers)
        direction, ptime = direction_of(description, media), ptime_of(media)
        text = peer.write_peer(
            self.settings,
            lines=other.lines,
            audio=other.audio,
            formats=sent,
            direction=direction,
            ptime=ptime,
            crypto=self.settings.peer_keys,
        )
        self._offer = _ClientOffer(sdp, state, formats, direction, ptime, {_TO_PEER: sent}, branch=branch, leg=leg)
        if known is None:
            self._state = attrs.evolve(state, peer=other, clients={**state.clients, branch: leg}, active=branch)
        return self._peer_origin.stamp(text)

    def offer_from_peer(self, sdp: bytes, branch: str, identity: LegIdentity | None = None) -> bytes:
        """Take the PBX's offer; the offer for one branch.

        For a fork it is called once for each branch, with the same octets. Raises `SdpError`, and `ValueError` where a
        new branch comes without identity.
        """
        description = parse_sdp(sdp)
        state, offer = self._state, self._offer
        fork = isinstance(offer, _PeerOffer) and offer.data == sdp and branch not in state.clients
        known = None if fork else self._may_offer(branch)
        before = state.peer or self._fresh_peer()
        index = peer.peer_audio(self.settings, description, before.audio)
        media = description.media[index]
        remote = peer.read_peer(description, media)
        formats = formats_of(media, formats_under(before.numbers))
        offered = self._pairing.client_offer(self._peer_names(formats), state.client_codec)
        if not offered:
            raise self._no_common_codec("the PBX offers", formats, self._bridged_peers())
        theirs, ours = (
            crypto.chosen(remote.crypto, self.settings.peer_keys, "the PBX") if self._secure else (None, None)
        )
        own = attrs.evolve(
            before,
            lines=lines_of(description),
            audio=index,
            numbers=numbers_with(before.numbers, formats),
            rtp=remote.rtp or before.rtp,
            rtcp=remote.rtcp or before.rtcp,
            theirs=theirs,
            ours=ours,
        )
        leg = known or AgreedClient(self._identity(branch, identity))
        codecs = [codec_named(name) for name in offered]
        clocks = dict.fromkeys((*(codec.clock for codec in codecs), 8000))
        sent = numbered((*codecs, *map(telephone_event, clocks)), leg.numbers)
        ptime = ptime_of(media)
        text = client.write_client(
            self.settings,
            leg.identity,
            lines=leg.lines,
            audio=leg.audio,
            formats=sent,
            direction=remote.direction,
            setup="actpass",
            bundle=bool(leg.lines[leg.audio].mid),
            ptime=ptime,
        )
        if fork and isinstance(offer, _PeerOffer):
            self._offer = attrs.evolve(offer, sent={**offer.sent, branch: sent})
        else:
            self._offer = _PeerOffer(sdp, state, formats, remote.direction, ptime, {branch: sent}, leg=own)
        running = state.peer is not None and state.peer.stream is not None
        self._state = attrs.evolve(state, peer=state.peer if running else own, clients={**state.clients, branch: leg})
        return self._client_origin(branch).stamp(text)

    # --- answers

    def answer_from_peer(self, sdp: bytes) -> bytes:
        """Take the PBX's answer; the answer for the softphone that offered. Raises `SdpError`."""
        description = parse_sdp(sdp)
        offer, before = self._offer, self._state.peer
        if not isinstance(offer, _ClientOffer) or before is None:
            raise bad("an answer of the PBX to no offer")
        index = peer.peer_audio(self.settings, description, before.audio)
        media = description.media[index]
        remote = peer.read_peer(description, media)
        sent = offer.sent[_TO_PEER]
        formats = formats_of(media, sent)
        theirs, ours = agreed(formats, sent, "the PBX")
        known = usable(offer.formats)
        chosen = known[self._pairing.client_for(theirs.codec.name, tuple(known))]
        direction = narrow(remote.direction, reverse(offer.direction))
        event = event_for(offer.formats, chosen.codec.clock)
        leg = attrs.evolve(offer.leg, stream=stream_of(chosen, chosen, event, event, direction, offer.ptime))
        text = client.write_client(
            self.settings,
            leg.identity,
            lines=leg.lines,
            audio=leg.audio,
            formats=answer_formats(chosen, event),
            direction=direction,
            setup="active" if leg.role == "client" else "passive",
            bundle=leg.bundle,
            ptime=ptime_of(media),
        )
        their_event, our_event = agreed_event(formats, sent, theirs.codec.clock)
        keys = crypto.accepted(remote.crypto, self.settings.peer_keys, "the PBX") if self._secure else (None, None)
        own = attrs.evolve(
            before,
            numbers=numbers_with(before.numbers, sent),
            rtp=remote.rtp or before.rtp,
            rtcp=remote.rtcp or before.rtcp,
            theirs=keys[0],
            ours=keys[1],
            stream=stream_of(theirs, ours, their_event, our_event, reverse(direction), ptime_of(media)),
        )
        self._agree(offer, own, offer.branch, leg, tuple(known))
        return self._client_origin(offer.branch).stamp(text)

    def answer_from_client(self, sdp: bytes, branch: str) -> bytes:
        """Take a softphone's answer; the answer for the PBX. The branch becomes the active one. Raises `SdpError`."""
        description = parse_sdp(sdp)
        offer, before = self._offer, self._state.clients.get(branch)
        if not isinstance(offer, _PeerOffer) or branch not in offer.sent or before is None:
            raise bad("an answer of the phone to no offer")
        index = _client_audio(description, before)
        media = description.media[index]
        remote = client.read_client(description, media)
        sent = offer.sent[branch]
        formats = formats_of(media, sent)
        theirs, ours = agreed(formats, sent, "the phone")
        known = usable(offer.formats)
        chosen = known[self._pairing.peer_for(theirs.codec.name, self._peer_names(offer.formats))]
        direction = narrow(direction_of(description, media), reverse(offer.direction))
        event = event_for(offer.formats, chosen.codec.clock) if self.settings.peer_events else None
        own = attrs.evolve(offer.leg, stream=stream_of(chosen, chosen, event, event, direction, offer.ptime))
        text = peer.write_peer(
            self.settings,
            lines=own.lines,
            audio=own.audio,
            formats=answer_formats(chosen, event),
            direction=direction,
            ptime=ptime_of(media),
            crypto=() if own.ours is None else (own.ours,),
        )
        their_event, our_event = agreed_event(formats, sent, theirs.codec.clock)
        leg = attrs.evolve(
            before,
            numbers=numbers_with(before.numbers, sent),
            remote=remote,
            role=before.role or ("client" if remote.setup == "passive" else "server"),
            controlling=before.controlling or remote.lite,
            stream=stream_of(theirs, ours, their_event, our_event, reverse(direction), ptime_of(media)),
        )
        self._agree(offer, own, branch, leg, tuple(usable(formats)))
        return self._peer_origin.stamp(text)

    # --- endings

    def reject(self) -> None:
        """The offer under way was refused, or will never be answered: everything is as before it (RFC 3264 section 4).

        Branches it made are gone. Without an unanswered offer nothing happens.
        """
        if self._offer is not None and not self._offer.answered:
            self._state = self._offer.before
            self._offer = None

    def withdraw(self) -> None:
        """The last offer's request has failed, though a provisional response may have answered it: everything is as
        before it.
        """
        if self._offer is not None:
            self._state = self._offer.before
            self._offer = None

    def drop_branch(self, branch: str) -> None:
        """A branch is over: cancelled, refused, or hung up. Its unanswered offer goes with it."""
        offer = self._offer
        if isinstance(offer, _ClientOffer) and offer.branch == branch:
            self.reject()
            self._offer = None
        elif offer is not None:
            sent = {key: formats for key, formats in offer.sent.items() if key != branch}
            self._offer = attrs.evolve(offer, sent=sent, before=_without(offer.before, branch))
        self._state = _without(self._state, branch)
        self._client_origins.pop(branch, None)
        self._identities.pop(branch, None)

    # --- inside

    def _may_offer(self, branch: str) -> AgreedClient | None:
        """The branch's leg, if it may take part in a new offer now."""
        if self.pending:
            raise SdpError("another offer is still unanswered", status=491)
        if self._state.clients and self._state.active != branch:
            raise SdpError("another phone has the call", status=491)
        return self._state.clients.get(branch)

    def _identity(self, branch: str, identity: LegIdentity | None) -> LegIdentity:
        identity = identity or self._identities.get(branch)
        if identity is None:
            raise ValueError("a new branch needs an identity")
        self._identities[branch] = identity
        return identity

    def _agree(
        self,
        offer: _ClientOffer | _PeerOffer,
        own: AgreedPeer,
        branch: str,
        leg: AgreedClient,
        phone_has: Sequence[str],
    ) -> None:
        assert own.stream is not None
        assert leg.stream is not None
        names = leg.stream.codec.name, own.stream.codec.name
        self._state = attrs.evolve(
            self._state,
            peer=own,
            clients={**self._state.clients, branch: leg},
            active=branch,
            client_codec=names[0],
            peer_codec=names[1],
            why=self._pairing.why(*names, phone_has),
        )
        self._offer = attrs.evolve(offer, answered=True)

    def _client_origin(self, branch: str) -> Origin:
        return self._client_origins.setdefault(branch, Origin(self.settings.session_id, self.settings.address))

    @property
    def _secure(self) -> bool:
        return bool(self.settings.peer_keys)

    def _fresh_peer(self) -> AgreedPeer:
        return AgreedPeer(lines=(Line("audio", peer.SECURE_PROTOCOL if self._secure else peer.PROTOCOL, "0"),))

    def _peer_names(self, formats: Iterable[Format]) -> tuple[str, ...]:
        return tuple(name for name in usable(formats) if name in self.settings.peer_codecs)

    def _bridged_clients(self) -> tuple[str, ...]:
        return self._pairing.client_offer(self.settings.peer_codecs)

    def _bridged_peers(self) -> tuple[str, ...]:
        return self._pairing.peer_offer(self.settings.client_codecs)

    def _no_common_codec(self, who: str, formats: Iterable[Format], bridged: Sequence[str]) -> SdpError:
        return SdpError(
            f"no common codec: {who} only {names_of(formats)}; this gateway bridges {', '.join(bridged) or 'nothing'}",
            warning_code=305,
        )


def _client_audio(description: SessionDescription, leg: AgreedClient | None) -> int:
    return find_audio(
        description,
        client.PROTOCOLS,
        who="the phone",
        wanted=f"DTLS-SRTP ({client.PROTOCOL})",
        usual=None if leg is None else leg.audio,
    )


def _generation(remote: client.ClientRemote) -> tuple[str, str]:
    return remote.ufrag, remote.password


def _without(state: _State, branch: str) -> _State:
    clients = {name: leg for name, leg in state.clients.items() if name != branch}
    return attrs.evolve(state, clients=clients, active=None if state.active == branch else state.active)
