"""SIP (RFC 3261) as a pure library."""

from siperb_core.sip.dialog import Dialog, Leg
from siperb_core.sip.digest import DigestResult, DigestServer, answer_challenge
from siperb_core.sip.errors import ParseError
from siperb_core.sip.flow import Flow
from siperb_core.sip.framing import KEEPALIVE, StreamFramer
from siperb_core.sip.headers import CSeq, NameAddr, Via, parse_name_addr, parse_via, split_list
from siperb_core.sip.message import Message
from siperb_core.sip.parser import parse
from siperb_core.sip.registrar import Binding, BindingChange, RegisterResult, Registrar
from siperb_core.sip.registration import RegistrationClient, RegistrationSettings
from siperb_core.sip.registry import REASONS
from siperb_core.sip.response import response_to
from siperb_core.sip.transaction import (
    AckReceived,
    CancelReceived,
    ClientTransaction,
    Effect,
    RequestReceived,
    ResponseReceived,
    Send,
    ServerTransaction,
    StrayResponse,
    TimedOut,
    TransactionEnded,
    TransportFailed,
)
from siperb_core.sip.transaction_layer import TransactionLayer
from siperb_core.sip.uri import Uri, parse_uri
from siperb_core.sip.validate import Verdict, validate

__all__ = [
    "KEEPALIVE",
    "REASONS",
    "AckReceived",
    "Binding",
    "BindingChange",
    "CSeq",
    "CancelReceived",
    "ClientTransaction",
    "Dialog",
    "DigestResult",
    "DigestServer",
    "Effect",
    "Flow",
    "Leg",
    "Message",
    "NameAddr",
    "ParseError",
    "RegisterResult",
    "Registrar",
    "RegistrationClient",
    "RegistrationSettings",
    "RequestReceived",
    "ResponseReceived",
    "Send",
    "ServerTransaction",
    "StrayResponse",
    "StreamFramer",
    "TimedOut",
    "TransactionEnded",
    "TransactionLayer",
    "TransportFailed",
    "Uri",
    "Verdict",
    "Via",
    "answer_challenge",
    "parse",
    "parse_name_addr",
    "parse_uri",
    "parse_via",
    "response_to",
    "split_list",
    "validate",
]
