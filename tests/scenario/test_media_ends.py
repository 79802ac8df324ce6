"""What a media worker tells of a call: what ends it, on both sides and with the reason, and what is only noted."""

from __future__ import annotations

import pytest

from siperb_core.media.messages import CONSENT_LOST, MediaEvent

from .bridged import BridgedMedia, Talker
from .test_bridged_offers import called
from .world import EndPoint, World

GONE = "the browser no longer answers: it is gone, or its network is"


@pytest.fixture
def media(world: World) -> BridgedMedia:
    media = BridgedMedia()
    world.media = lambda *_: media
    return media


def happens(media: BridgedMedia, event: MediaEvent) -> None:
    assert media.session.on_event is not None
    media.session.on_event(event)


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        (MediaEvent("ice_failed", detail=CONSENT_LOST), GONE),
        (MediaEvent("ice_failed", detail="no connectivity check succeeded"), "browser's ICE never connected"),
        (MediaEvent("dtls_failed", leg="client", detail="x"), "DTLS with the softphone failed"),
        (MediaEvent("rtp_timeout", leg="client", detail="no RTP for 60 s"), "the softphone sent no RTP"),
        (MediaEvent("rtp_timeout", leg="peer", detail="no RTP for 60 s"), "PBX sent no RTP"),
        (MediaEvent("worker_died", detail="the media worker of this call died"), "the media worker died"),
    ],
)
async def test_both_sides_get_a_bye_with_the_reason_and_the_record_has_it(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia, event: MediaEvent, cause: str
) -> None:
    called(world, Talker(phone, "phone"), Talker(pbx, "pbx", 30000))
    happens(media, event)
    for end in (phone, pbx):
        bye = end.flow.next_of("BYE")
        assert (bye.get("Reason") or "").startswith(f'SIP ;cause=503 ;text="{cause}')
        end.respond(bye, 200)
    assert not world.calls.active()
    assert media.session.closed
    assert not world.saved
    [record] = [record for record in world.records if record.state == "ended"][-1:]
    assert record.cause.startswith(cause)
    assert record.diagnosis.startswith(cause)


async def test_an_event_of_a_branch_that_lost_is_nothing_to_the_call(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia
) -> None:
    called(world, Talker(phone, "phone"), Talker(pbx, "pbx", 30000))
    happens(media, MediaEvent("ice_failed", branch="another", detail=CONSENT_LOST))
    happens(media, MediaEvent("dtls_failed", branch="another"))
    assert len(world.calls.active()) == 1
    assert media.diagnosis == ""


async def test_one_way_audio_is_noted_and_the_call_goes_on(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia
) -> None:
    called(world, Talker(phone, "phone"), Talker(pbx, "pbx", 30000))
    happens(media, MediaEvent("one_way", leg="peer", detail="no RTP since 5 s"))
    assert len(world.calls.active()) == 1
    phone.request("BYE")
    bye = pbx.flow.next_of("BYE")
    pbx.respond(bye, 200)
    assert world.records[-1].diagnosis.startswith("one-way audio: PBX sent no RTP")
