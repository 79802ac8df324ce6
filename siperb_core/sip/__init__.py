"""SIP (RFC 3261) as a pure library."""

from siperb_core.sip.errors import ParseError
from siperb_core.sip.flow import Flow
from siperb_core.sip.framing import KEEPALIVE, StreamFramer
from siperb_core.sip.headers import CSeq, NameAddr, Via, parse_name_addr, parse_via, split_list
from siperb_core.sip.message import Message, response_to
from siperb_core.sip.parser import parse
from siperb_core.sip.registry import REASONS
from siperb_core.sip.uri import Uri, parse_uri
from siperb_core.sip.validate import Verdict, validate

__all__ = [
    "KEEPALIVE",
    "REASONS",
    "CSeq",
    "Flow",
    "Message",
    "NameAddr",
    "ParseError",
    "StreamFramer",
    "Uri",
    "Verdict",
    "Via",
    "parse",
    "parse_name_addr",
    "parse_uri",
    "parse_via",
    "response_to",
    "split_list",
    "validate",
]
