"""FreeSWITCH's gateways (`sip_profiles/external/*.xml`): what registers becomes an outbound_registration, what does not
an outbound_trunk.
"""

from __future__ import annotations

import re
from typing import Final
from xml.parsers import expat

import attrs

from siperb_core.entries.foreign.reading import ForeignError, Found, Reader, Reading, user_of

MAX_DEPTH = 32
MAX_PARAMS = 100_000

_SILENT: Final = frozenset(
    {
        "username",
        "auth-username",
        "password",
        "proxy",
        "register",
        "from-user",
        "from-domain",
        "realm",
        "expire-seconds",
        "register-transport",
        "outbound-proxy",
        "register-proxy",
        "codec-prefs",
        "dtmf-type",
    }
)
_WHY: Final = {
    "context": "the gateway rings the connection's users",
    "extension": "the gateway rings the connection's users",
    "retry-seconds": "the gateway tries again after 5, 10, 20, 40, 80 s",
    "ping": "the gateway looks after the connection itself",
    "caller-id-in-from": "set from_user where the PBX wants another caller",
    "extension-in-contact": "the Contact is the gateway's own",
    "contact-params": "the Contact is the gateway's own",
    "contact-host": "set external_address in [gateway]",
    "rfc-5626": "the gateway keeps the path open itself",
}
_VARIABLE: Final = re.compile(r"\$\$?\{([^}]{1,100})\}")


@attrs.define
class _Gateway:
    name: str
    line: int
    params: dict[str, tuple[str, int]] = attrs.field(factory=dict, repr=False)

    def text(self, key: str) -> str:
        return self.params.get(key, ("", 0))[0].strip()

    def line_of(self, key: str) -> int:
        return self.params.get(key, ("", self.line))[1]


class _Document:
    """The gateways of one file. A document type, and with it entities, is refused: nothing in it can grow."""

    def __init__(self, reader: Reader) -> None:
        self.gateways: list[_Gateway] = []
        self._reader = reader
        self._depth = self._count = 0
        self._variables: dict[str, str] = {}
        self._gateway: _Gateway | None = None
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._doctype

    def parse(self, data: bytes) -> None:
        try:
            self._parser.Parse(data, True)
        except expat.ExpatError as error:
            raise ForeignError(f"it is not XML: {error}: mend it at that place") from None
        except (ValueError, LookupError) as error:  # an encoding that is not known
            if isinstance(error, ForeignError):
                raise
            raise ForeignError(f"it is not XML: {error}") from None

    def _doctype(self, *args: object) -> None:
        raise ForeignError("it declares a document type: take the DOCTYPE out")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._count += 1
        if self._depth > MAX_DEPTH or self._count > MAX_PARAMS:
            raise ForeignError("it is nested too deeply or too long: cut it to the gateways")
        line = self._parser.CurrentLineNumber
        tag = tag.lower()
        if tag == "gateway":
            self._gateway = _Gateway(self._filled(attributes.get("name", ""), line), line)
            self.gateways.append(self._gateway)
        elif tag == "param" and self._gateway is not None:
            key = attributes.get("name", "").strip().lower()
            if key in self._gateway.params:
                self._reader.remark(line, f"{key[:60]} is there twice: the first counts")
            else:
                self._gateway.params[key] = (self._filled(attributes.get("value", ""), line), line)
        elif tag == "x-pre-process":
            self._preprocess(attributes, line)
        elif tag == "variable" and self._gateway is not None:
            self._reader.remark(line, f"variable {attributes.get('name', '')[:60]} is not carried over")

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if tag.lower() == "gateway":
            self._gateway = None

    def _preprocess(self, attributes: dict[str, str], line: int) -> None:
        command, data = attributes.get("cmd", "").lower(), attributes.get("data", "")
        name, equals, value = data.partition("=")
        if command in ("set", "stun-set") and equals and len(self._variables) < 1000:
            self._variables[name.strip()] = self._filled(value, line)
        else:
            self._reader.remark(line, f"{command[:40]} {data[:100]} is not followed: give that file as well")

    def _filled(self, text: str, line: int) -> str:
        def value(match: re.Match[str]) -> str:
            known = self._variables.get(match[1])
            if known is None:
                self._reader.remark(line, f"variable {match[0]} is set elsewhere: write its value by hand")
                return match[0]
            return known

        return _VARIABLE.sub(value, text[:1000])[:1000]


def read_freeswitch(data: bytes) -> Reading:
    """The gateways of a file. Raises ForeignError."""
    reader = Reader("FreeSWITCH gateways")
    document = _Document(reader)
    document.parse(data)
    if not document.gateways:
        raise ForeignError("it is XML without a <gateway>: give a file of sip_profiles/external")
    for gateway in document.gateways:
        _connection(reader, gateway)
    return reader.reading()


def _connection(reader: Reader, gateway: _Gateway) -> None:
    registers = gateway.text("register").lower() not in ("false", "no", "off", "0")
    kind = "outbound_registration" if registers else "outbound_trunk"
    proxy = gateway.text("proxy") or gateway.text("realm") or gateway.name
    uri = reader.uri(proxy, gateway.line_of("proxy"), "proxy")
    if uri is None:
        reader.remark(gateway.line, f"gateway {gateway.name[:60]} is left out: it has no server")
        return
    found = reader.add(gateway.name or uri.host, kind, gateway.line)
    if found is None:
        return
    settings = found.settings
    transport = reader.transport(gateway.text("register-transport"), gateway.line_of("register-transport"))
    reader.server(settings, uri, gateway.line_of("proxy"), transport)
    username = gateway.text("username") or ("" if not registers else gateway.name)
    for key, text in (
        ("username", username),
        ("auth_username", gateway.text("auth-username")),
        ("password", gateway.text("password")),
        ("from_user", gateway.text("from-user")),
        ("from_domain", gateway.text("from-domain") or _other(gateway.text("realm"), uri.host)),
    ):
        if text and text != {"auth_username": username, "from_user": username}.get(key):
            settings[key] = text
    _proxy(reader, gateway, found)
    if registers:
        if "password" not in settings:
            reader.remark(gateway.line, f"{found.name}: the password is not in the file: set it by hand")
        if "expire-seconds" in gateway.params:
            line = gateway.line_of("expire-seconds")
            expires = reader.number(gateway.text("expire-seconds"), line, "expire-seconds", 30, 86400)
            if expires is not None:
                settings["expires"] = expires
    else:
        # FreeSWITCH does not say where calls may come from: the proxy itself is what it knows.
        found.keys["allow_from"] = [uri.host.strip("[]")]
    if "codec-prefs" in gateway.params:
        codecs = reader.codecs(gateway.text("codec-prefs").split(",")[:100], gateway.line_of("codec-prefs"))
        if codecs:
            found.keys["codecs"] = codecs
    if "dtmf-type" in gateway.params:
        dtmf = reader.dtmf(gateway.text("dtmf-type"), gateway.line_of("dtmf-type"))
        if dtmf:
            found.keys["dtmf"] = dtmf
    for key, (value, line) in gateway.params.items():
        if key not in _SILENT:
            reader.remark(
                line, f"{key[:60]} = {value[:60]} is not carried over: {_WHY.get(key, 'no such setting here')}"
            )


def _other(realm: str, host: str) -> str:
    return realm if realm and realm.lower() != host.lower() and "$" not in realm else ""


def _proxy(reader: Reader, gateway: _Gateway, found: Found) -> None:
    for key in ("outbound-proxy", "register-proxy"):
        text = gateway.text(key)
        if not text:
            continue
        line = gateway.line_of(key)
        uri = reader.uri(text, line, key)
        if uri is not None and "outbound_proxy" not in found.settings:
            if user_of(uri):
                reader.remark(line, f"{key} names a user, which a proxy has not: left out")
            found.settings["outbound_proxy"] = uri.host_port
