"""What the IANA registry of SIP parameters names: header fields and their compact forms, methods, reason phrases."""

from __future__ import annotations

METHODS = (
    *("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK"),
    *("SUBSCRIBE", "NOTIFY", "PUBLISH", "INFO", "REFER", "MESSAGE", "UPDATE"),
)

# Compact forms: RFC 3261 section 20 and the registry it started (RFC 3515, 3841, 3892, 4028, 6665, 8224).
COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

# RFC 3261 section 21 and the extensions a PBX or a softphone answers with.
REASONS: dict[int, str] = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    412: "Conditional Request Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    428: "Use Identity Header",
    429: "Provide Referrer Identity",
    430: "Flow Failed",
    433: "Anonymity Disallowed",
    436: "Bad Identity Info",
    437: "Unsupported Credential",
    438: "Invalid Identity Header",
    439: "First Hop Lacks Outbound Support",
    440: "Max-Breadth Exceeded",
    469: "Bad Info Package",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
    607: "Unwanted",
    608: "Rejected",
}

_HEADERS = """
Via From To Call-ID CSeq Max-Forwards Route Record-Route Contact Expires Min-Expires Content-Length Content-Type
Authorization Proxy-Authorization WWW-Authenticate Proxy-Authenticate Require Proxy-Require Supported Unsupported
Allow Allow-Events Accept Accept-Encoding Accept-Language User-Agent Server Date Subject Event Subscription-State
Session-Expires Min-SE Path Service-Route Reason Retry-After Warning Refer-To Referred-By Replaces RSeq RAck
Privacy P-Asserted-Identity P-Preferred-Identity Remote-Party-ID Diversion History-Info Timestamp Organization
SIP-ETag SIP-If-Match Content-Disposition Content-Encoding MIME-Version Alert-Info Call-Info In-Reply-To
Authentication-Info Priority Reply-To User-to-User P-Access-Network-Info X-Asterisk-HangupCause
X-Asterisk-HangupCauseCode Security-Client Security-Verify Security-Server Join Target-Dialog Flow-Timer
""".split()  # noqa: SIM905

# Spellings seen in practice, so that naming a header costs one lookup; any other is lower-cased first.
KNOWN: dict[str, str] = {}
for _name in _HEADERS:
    for _spelling in (_name, _name.lower(), _name.upper(), _name.title(), _name.capitalize()):
        KNOWN[_spelling] = _name.lower()
for _letter, _long in COMPACT.items():
    KNOWN[_letter] = KNOWN[_letter.upper()] = _long
# The canonical name back to the RFC's spelling.
WRITTEN: dict[str, str] = {name.lower(): name for name in _HEADERS}


def canonical(name: str) -> str:
    """The lower-case long form of a header name, under which all spellings of it are one."""
    known = KNOWN.get(name)
    if known is None:
        known = name.lower()
        known = COMPACT.get(known, known)
    return known
