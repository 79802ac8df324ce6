"""Torture messages: RFC 4475 and RFC 5118 with their verdicts where they lie beside the checkout, and our own set.

A verdict says where a message may be refused and which status is owed; own/README.md explains the table's columns.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from siperb_core.sip import Message, ParseError, StreamFramer, Via, parse, parse_uri, parse_via, response_to, validate

ROOT = Path(__file__).parents[2]
SETS = {
    "rfc4475": ROOT.parent / "shared/torture/rfc4475",
    "rfc5118": ROOT.parent / "shared/torture/rfc5118",
    "own": Path(__file__).parent / "own",
}


def _rows() -> list[object]:
    params: list[object] = []
    for name, folder in SETS.items():
        table = folder / "verdicts.csv"
        if not table.exists():
            mark = pytest.mark.skip(reason=f"{name}: no verdicts beside the checkout (../shared/torture/{name})")
            params.append(pytest.param({}, folder, id=f"{name}-absent", marks=mark))
            continue
        with table.open(newline="", encoding="utf-8") as lines:
            params += [pytest.param(row, folder, id=f"{name}-{row['message']}") for row in csv.DictReader(lines)]
    return params


def _judge(data: bytes) -> tuple[Message | None, int | None, ParseError | None]:
    """The message when it parses, the status owed when anything is wrong with it, and the parser's own error."""
    try:
        message = parse(data)
    except ParseError as error:
        return None, error.status, error
    verdict = validate(message)
    return message, verdict.status if verdict else None, None


@pytest.mark.parametrize(("row", "folder"), _rows())
def test_message_is_treated_as_its_verdict_says(row: dict[str, str], folder: Path) -> None:
    data = (folder / row["file"]).read_bytes()
    assert len(data) == int(row["octets"]), "the checkout has changed the octets of the message"
    message, status, error = _judge(data)
    places = row["parser"]
    if places == "accept" or places.startswith("accept_or"):
        assert error is None
    elif places in ("reject_startline", "reject_framing"):
        assert error is not None
    else:
        assert status is not None

    action = row.get("proxy_action") or ("reply" if row["parser"].startswith("reject") else "forward")
    codes = (row.get("proxy_codes") or row.get("reply") or "").split("|")
    if action == "forward":
        assert message is not None
        assert status is None
        # What nobody touched leaves as it came in, but for octets after the announced body.
        assert data.startswith(bytes(message))
        if row["message"] not in ("dblreq", "trailing"):
            assert bytes(message) == data
    elif action == "reply":
        assert status is not None
        assert str(status) in codes
        _answers(message, error, status)
    elif action == "drop":
        assert status is not None
        assert error is None or error.message is None, "a response is not answered"
    else:
        assert status is None or str(status) in codes


def _answers(message: Message | None, error: ParseError | None, status: int) -> None:
    """An answer can be made of a refused request, with the Via and Call-ID of the original; or none is possible."""
    request = message if message is not None else error and error.message
    if not request:
        return
    answer = response_to(request, status, to_tag="t")
    assert answer.status == status
    assert answer.get_all("Via") == request.get_all("Via")
    assert answer.get("Call-ID") == request.get("Call-ID")
    assert bytes(parse(bytes(answer))) == bytes(answer)


def test_the_archive_message_without_blank_line_is_refused_with_one_too() -> None:
    path = SETS["rfc4475"] / "baddn.dat"
    if not path.exists():
        pytest.skip("rfc4475: no messages beside the checkout (../shared/torture/rfc4475)")
    verdict = validate(parse(path.read_bytes() + b"\r\n"))
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (400, "Bad From")


def _read(name: str) -> bytes:
    folder, _, message = name.partition("/")
    path = SETS[folder] / message
    if not path.exists():
        pytest.skip(f"{folder}: no messages beside the checkout (../shared/torture/{folder})")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "host", "port"),
    [
        ("rfc5118/port-ambiguous.sip", "2001:db8::10:5070", None),
        ("rfc5118/port-unambiguous.sip", "2001:db8::10", 5070),
        ("rfc5118/ipv6-bug-abnf-3-colons.sip", "2001:db8::192.0.2.1", None),
        ("rfc5118/ipv6-correct-abnf-2-colons.sip", "2001:db8::192.0.2.1", None),
    ],
)
def test_ipv6_reference_is_read_as_the_rfc_says(name: str, host: str, port: int | None) -> None:
    uri = parse_uri(parse(_read(name)).uri)
    assert (uri.host, uri.port) == (host, port)


def test_short_tortuous_invite_reads_as_intended() -> None:
    message = parse(_read("rfc4475/wsinv.dat"))
    assert message.max_forwards == 68
    assert (message.cseq.number, message.cseq.method) == (9, "INVITE")
    assert message.from_.display == 'J Rosenberg \\"'
    assert (message.from_tag, message.to_tag) == ("98asjd8", "1918181833n")
    assert [(via.protocol, via.host, via.branch) for via in _vias(message)] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert message.contacts[0].display == 'Quoted string ""'
    assert message.contacts[0].param("newparam") == "newvalue"
    assert message.contacts[0].param("secondparam") == ""


def _vias(message: Message) -> list[Via]:
    return [parse_via(text) for text in message.values("Via")]


def test_two_requests_in_one_stream_are_two_messages() -> None:
    data = _read("rfc4475/dblreq.dat")
    first, second, *_ = StreamFramer().feed(data)
    assert first.endswith(b"Content-Length: 0\r\n\r\n")
    assert second.startswith(b"INVITE ")


@pytest.mark.parametrize("name", ["rfc4475/ncl.dat", "rfc4475/mcl01.dat", "own/twolengths.sip", "own/listlength.sip"])
def test_a_stream_without_a_knowable_boundary_is_given_up(name: str) -> None:
    framer = StreamFramer()
    with pytest.raises(ParseError) as caught:
        framer.feed(_read(name))
    assert caught.value.status == 400
    assert caught.value.message is not None
    with pytest.raises(ParseError):
        framer.feed(b"")
