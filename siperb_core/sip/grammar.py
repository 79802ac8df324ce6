"""The grammar of RFC 3261 section 25.1 as regular expressions, each beside the rule it stands for.

All unbounded quantifiers are possessive (`*+`, `++`): every pattern here runs in time linear in its input, and
tests/unit/sip/test_grammar.py holds it to that. They apply to unfolded text (`unfold`), so LWS is spaces and tabs only.
Where a pattern takes more than the RFC's rule, the comment names who needs it.
"""

from __future__ import annotations

import re

# token = 1*(alphanum / "-" / "." / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~" )
TOKEN_CHARACTERS = r"A-Za-z0-9\-.!%*_+`'~"
TOKEN = rf"[{TOKEN_CHARACTERS}]++"

# LWS = [*WSP CRLF] 1*WSP ; after unfolding. SWS = [LWS]
SWS = r"[ \t]*+"
LWS = r"[ \t]++"

# quoted-string = SWS DQUOTE *(qdtext / quoted-pair ) DQUOTE ; quoted-pair = "\" (%x00-09 / %x0B-0C / %x0E-7F)
# Wider: any octet but CR and LF may stand escaped or bare; UTF-8 that is broken is a display matter, not a routing one.
QUOTED_STRING = r'"(?:[^"\\\r\n]++|\\[^\r\n])*+"'

# generic-param = token [ EQUAL gen-value ] ; gen-value = token / host / quoted-string
# Wider: any visible text without a separator. Base64 values (Asterisk's X-params, ICE and push tokens) carry "/" and
# "=", RFC 5118 section 4.5 asks for received=[2001:db8::1], RFC 4475 section 3.1.1.2 for UTF-8.
PARAM_VALUE = rf'(?:{QUOTED_STRING}|[^\x00-\x20\x7f;,"<>]++)'
PARAM = rf"{SWS};{SWS}{TOKEN}(?:{SWS}={SWS}{PARAM_VALUE})?+"
PARAMS = rf"(?:{PARAM})*+"

# absoluteURI = scheme ":" ( hier-part / opaque-part ) ; scheme = ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )
SCHEME = r"[A-Za-z][A-Za-z0-9+\-.]*+"

# hostname, IPv4address: one class. Wider: "_", which Docker Compose puts into service names.
# IPv6reference = "[" IPv6address "]". Wider: three colons, the mistake of RFC 3261's own ABNF (RFC 5118 section 4.10).
HOST = r"(?:[A-Za-z0-9\-._]++|\[(?=[0-9A-Fa-f.]*+:)[0-9A-Fa-f:.]*+\])"
PORT = r"[0-9]{1,5}+"

# escaped = "%" HEXDIG HEXDIG
ESCAPED = r"%[0-9A-Fa-f]{2}"
# user = 1*( unreserved / escaped / user-unreserved ) ; user-unreserved = "&" / "=" / "+" / "$" / "," / ";" / "?" / "/"
# Wider: "#", as in *#31#, which Fritz!Box, Snom and Yealink send bare.
USER = rf"(?:[A-Za-z0-9\-_.!~*'()&=+$,;?/#]++|{ESCAPED})++"
# password = *( unreserved / escaped / "&" / "=" / "+" / "$" / "," )
PASSWORD = rf"(?:[A-Za-z0-9\-_.!~*'()&=+$,]++|{ESCAPED})*+"
# uri-parameters = *( ";" pname [ "=" pvalue ] ) ; paramchar = "[" / "]" / "/" / ":" / "&" / "+" / "$" / unreserved
URI_PARAM_CHARACTERS = rf"(?:[A-Za-z0-9\-_.!~*'()\[\]/:&+$]++|{ESCAPED})++"
URI_PARAMS = rf"(?:;{URI_PARAM_CHARACTERS}(?:={URI_PARAM_CHARACTERS})?+)*+"
# headers = "?" header *( "&" header ) ; header = hname "=" hvalue
# hnv-unreserved = "[" / "]" / "/" / "?" / ":" / "+" / "$"
URI_HEADER_CHARACTERS = rf"(?:[A-Za-z0-9\-_.!~*'()\[\]/?:+$]++|{ESCAPED})"
URI_HEADER = rf"{URI_HEADER_CHARACTERS}++={URI_HEADER_CHARACTERS}*+"
URI_HEADERS = rf"\?{URI_HEADER}(?:&{URI_HEADER})*+"

# SIP-URI = "sip:" [ userinfo ] hostport uri-parameters [ headers ] ; SIPS-URI likewise
SIP_URI = re.compile(
    rf"([Ss][Ii][Pp][Ss]?):(?:({USER})(?::({PASSWORD}))?+@)?+({HOST})(?::({PORT}))?+({URI_PARAMS})({URI_HEADERS})?+"
)
# telephone-uri (RFC 3966 section 3), its number kept as written; parameters as in a SIP URI, and ";phone-context=+1.."
TEL_URI = re.compile(rf"([Tt][Ee][Ll]):([0-9A-Fa-f\-.()+*#]++)({URI_PARAMS})")
# Any other scheme: visible ASCII without delimiters. What is behind it is nobody's business here.
ABSOLUTE_URI = re.compile(rf'({SCHEME}):([^\x00-\x20\x7f-\U0010ffff<>"]++)')

# name-addr = [ display-name ] LAQUOT addr-spec RAQUOT ; display-name = *(token LWS) / quoted-string
# addr-spec outside <> may hold no comma, question mark or semicolon (section 20.10).
# Wider: UTF-8 in an unquoted display name, as phone books of consumer routers write it.
_NAME_WORD = rf"[{TOKEN_CHARACTERS}\x80-\U0010ffff]++"
_NAME_ADDR = (
    rf"(?:({QUOTED_STRING}|{_NAME_WORD}(?:{LWS}{_NAME_WORD})*+)?+{SWS}<({SCHEME}:[^\x00-\x20\x7f<>\"]++)>"
    rf"|({SCHEME}:[^\x00-\x20\x7f<>\",;?]++))({PARAMS})"
)
NAME_ADDR = re.compile(_NAME_ADDR)

# via-parm = sent-protocol LWS sent-by *( SEMI via-params ) ; sent-protocol = "SIP" SLASH "2.0" SLASH transport
_VIA = rf"[Ss][Ii][Pp]{SWS}/{SWS}2\.0{SWS}/{SWS}({TOKEN}){LWS}({HOST})(?:{SWS}:{SWS}({PORT}))?+({PARAMS}){SWS}"
VIA = re.compile(rf"{_VIA}(?:\Z|,)")

ONE_PARAM = re.compile(rf"{SWS};{SWS}({TOKEN})(?:{SWS}={SWS}({PARAM_VALUE}))?+")
ONE_URI_PARAM = re.compile(rf";({URI_PARAM_CHARACTERS})(?:=({URI_PARAM_CHARACTERS}))?+")

# CSeq = 1*DIGIT LWS Method
_CSEQ = rf"0*([0-9]{{1,10}})[ \t]++({TOKEN})"
CSEQ = re.compile(_CSEQ)
# callid = word [ "@" word ] ; word holds all visible ASCII but "," ";" "=" "@" "#" "$" "&" "^" "|"
# Wider: those too, as embedded stacks draw theirs from Base64; nothing hangs on what is inside, it is only compared.
CALL_ID = re.compile(r"([\x21-\x7e]++)")
# The header lines every message needs, with their names: what `recurring` reads in one match. Text that does not match
# is looked at field by field, which knows folding and lists and says what is wrong.
_FIELD = rf"[^:\n]++:{SWS}"
ADDRESS_LINE = re.compile(rf"{_FIELD}{_NAME_ADDR}{SWS}")
VIA_LINE = re.compile(rf"{_FIELD}{_VIA}")
CSEQ_LINE = re.compile(rf"{_FIELD}{_CSEQ}{SWS}")
MAX_FORWARDS_LINE = re.compile(rf"{_FIELD}([0-9]{{1,5}}+){SWS}")

# One element of a comma-separated list: commas count only outside quotes and <>.
LIST_ELEMENT = re.compile(rf'(?:[^,"<]++|{QUOTED_STRING}|<[^>]*+>)*+')

# Request-Line = Method SP Request-URI SP SIP-Version ; Status-Line = SIP-Version SP Status-Code SP Reason-Phrase
REQUEST_LINE = re.compile(rf"({TOKEN}) ([\x21-\x7e]++) [Ss][Ii][Pp]/([0-9]{{1,3}}+\.[0-9]{{1,3}}+)")
# Wider: the space before an empty reason phrase may be missing, as several embedded user agents leave it off.
STATUS_LINE = re.compile(r"[Ss][Ii][Pp]/([0-9]{1,3}+\.[0-9]{1,3}+) ([1-6][0-9]{2})(?: ([^\r\n]*+))?+")

# header-name = token, and HCOLON allows blanks before the colon
HEADER_NAME = re.compile(rf"({TOKEN})[ \t]*+")
# A line break that does not start a continuation line (section 7.3.1)
LINE_END = re.compile(r"\r\n(?![ \t])")
FOLD = re.compile(r"(?<![ \t])[ \t]*+(?:\r\n[ \t]++)++")


def unfold(value: str) -> str:
    """A field value with its continuation lines joined by one space and blanks at the ends taken off."""
    if "\n" in value:
        value = FOLD.sub(" ", value)
    return value.strip(" \t")


def unquote(text: str) -> str:
    """The content of a quoted-string: quotes off, quoted-pairs resolved. Other text unchanged."""
    if len(text) < 2 or text[0] != '"':
        return text
    text = text[1:-1]
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) if "\\" in text else text


def quote(text: str) -> str:
    """Text as a quoted-string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
