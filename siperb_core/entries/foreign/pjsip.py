"""Asterisk's pjsip.conf: what Asterisk registers to becomes an outbound_registration, what has a fixed address an
outbound_trunk, and what registers to Asterisk an inbound_registration, switched off until somebody has looked at it.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from siperb_core.entries.foreign.asterisk_conf import Section, read_sections
from siperb_core.entries.foreign.reading import ForeignError, Found, Reader, Reading
from siperb_core.sip import Uri

_CARRIED: Final[dict[str, frozenset[str]]] = {
    "endpoint": frozenset(
        [
            "type",
            "aors",
            "auth",
            "outbound_auth",
            "allow",
            "disallow",
            "from_user",
            "from_domain",
            "outbound_proxy",
            "transport",
            "dtmf_mode",
            "media_encryption",
        ]
    ),
    "auth": frozenset(["type", "auth_type", "username", "password"]),
    "aor": frozenset(["type", "contact", "outbound_proxy", "max_contacts"]),
    "registration": frozenset(
        [
            "type",
            "server_uri",
            "client_uri",
            "outbound_auth",
            "outbound_proxy",
            "expiration",
            "transport",
            "contact_user",
            "endpoint",
            "line",
        ]
    ),
    "identify": frozenset(["type", "endpoint", "match"]),
    "transport": frozenset({"type", "protocol"}),
}
_WHOLE: Final = {
    "global": "the gateway has its own settings in [gateway]",
    "system": "the gateway has its own settings in [gateway]",
    "domain_alias": "the gateway has one domain",
    "acl": "name the addresses in allow_from",
    "contact": "Asterisk makes these itself",
    "resource_list": "busy lamps pass through the gateway",
    "phoneprov": "siperb device link provisions phones",
}
_WHY: Final = {
    "context": "dial_pattern, weight and users decide which calls take the connection",
    "direct_media": "the gateway always carries the media",
    "rtp_symmetric": "the gateway learns where RTP comes from itself",
    "force_rport": "the gateway always asks for rport",
    "rewrite_contact": "the gateway answers where requests come from",
    "qualify_frequency": "the gateway looks after the connection itself",
    "retry_interval": "the gateway tries again after 5, 10, 20, 40, 80 s",
    "forbidden_retry_interval": "a refused password is never tried again by itself",
    "fatal_retry_interval": "a refused password is never tried again by itself",
    "max_retries": "the gateway tries again until it succeeds",
    "auth_rejection_permanent": "a refused password is never tried again by itself",
    "callerid": "set from_user where the PBX wants another caller",
    "bind": "listeners are [[listen]] tables of the gateway",
    "external_signaling_address": "set external_address in [gateway]",
    "external_media_address": "set external_address in [gateway]",
    "local_net": "the gateway asks its own interfaces",
    "match_header": "a connection is known by address and credentials",
    "srv_lookups": "names in allow_from are looked up again and again",
}


@attrs.define
class _Objects:
    """The sections by what they are. The order is the file's."""

    reader: Reader
    endpoints: dict[str, Section] = attrs.field(factory=dict)
    auths: dict[str, Section] = attrs.field(factory=dict)
    aors: dict[str, Section] = attrs.field(factory=dict)
    transports: dict[str, Section] = attrs.field(factory=dict)
    registrations: list[Section] = attrs.field(factory=list)
    identifies: dict[str, list[Section]] = attrs.field(factory=dict)
    used: set[int] = attrs.field(factory=set)  # lines of sections that went into a connection

    def transport_of(self, section: Section) -> str:
        """The protocol of the transport a section names."""
        name = section.get("transport")
        if not name:
            return ""
        found = self.transports.get(name)
        if found is None:
            self.reader.remark(section.line_of("transport"), f"transport {name[:60]} is not in the file: udp is taken")
            return ""
        self.used.add(found.line)
        return self.reader.transport(found.get("protocol"), found.line_of("protocol"))


def read_pjsip(text: str) -> Reading:
    """The connections of a file. Raises ForeignError where nothing in it is a pjsip section."""
    reader = Reader("pjsip.conf")
    objects = _Objects(reader)
    sections = read_sections(text, reader.remark)
    for section in sections:
        if not section.template:
            _sort(objects, section)
    if not (objects.endpoints or objects.registrations or objects.auths or objects.aors or objects.identifies):
        raise ForeignError("it has no pjsip sections: give a pjsip.conf, a FreeSWITCH gateway XML or SIPERB's JSON")
    made: set[str] = set()
    for registration in objects.registrations:
        _registration(objects, registration, made)
    for endpoint in objects.endpoints.values():
        if endpoint.name not in made:
            _endpoint(objects, endpoint)
    _leftovers(objects, sections)
    return reader.reading()


def _sort(objects: _Objects, section: Section) -> None:
    kind = section.get("type").lower()
    places = {
        "endpoint": objects.endpoints,
        "auth": objects.auths,
        "aor": objects.aors,
        "transport": objects.transports,
    }
    if kind in places:
        if section.name in places[kind]:
            objects.reader.remark(section.line, f"[{section.name[:60]}] is there twice as {kind}: the first counts")
        places[kind].setdefault(section.name, section)
    elif kind == "registration":
        objects.registrations.append(section)
    elif kind == "identify":
        objects.identifies.setdefault(section.get("endpoint"), []).append(section)
    else:
        why = _WHOLE.get(kind, "a connection has no such section" if kind else "it has no type")
        objects.reader.remark(section.line, f"[{section.name[:60]}] is not carried over: {why}")


def _registration(objects: _Objects, section: Section, made: set[str]) -> None:
    reader = objects.reader
    server = reader.uri(section.get("server_uri"), section.line_of("server_uri"), "server_uri")
    if server is None:
        reader.remark(section.line, f"registration {section.name[:60]} is left out: it has no server")
        return
    found = reader.add(section.name, "outbound_registration", section.line)
    if found is None:
        return
    objects.used.add(section.line)
    settings = found.settings
    reader.server(settings, server, section.line_of("server_uri"), objects.transport_of(section))
    client = reader.uri(section.get("client_uri"), section.line_of("client_uri"), "client_uri")
    if client is not None and client.user:
        settings["username"] = client.user
        if client.host.lower() != server.host.lower():
            settings["from_domain"] = client.host.strip("[]")
    _credentials(objects, found, section.get("outbound_auth"), section.line_of("outbound_auth"))
    if "username" not in settings:
        reader.remark(section.line, f"{found.name}: the file does not say who registers: set username by hand")
    if "password" not in settings:
        reader.remark(section.line, f"{found.name}: the password is not in the file: set it by hand")
    if section.get("expiration"):
        expires = reader.number(section.get("expiration"), section.line_of("expiration"), "expiration", 30, 86400)
        if expires is not None:
            settings["expires"] = expires
    _proxy(objects, found, section)
    if section.get("contact_user") not in ("", settings.get("username")):
        reader.remark(section.line_of("contact_user"), "contact_user is not carried over: the Contact is the gateway's")
    endpoint = _endpoint_of(objects, section, server)
    if endpoint is not None:
        made.add(endpoint.name)
        _media(objects, found, endpoint)
        _from(found, endpoint)
        allowed = _allowed(objects, endpoint)
        if allowed:
            found.keys["allow_from"] = allowed
        objects.used.update(aor.line for name in endpoint.get_all("aors") if (aor := objects.aors.get(name)))


def _endpoint_of(objects: _Objects, registration: Section, server: Uri) -> Section | None:
    """The endpoint a registration belongs to: the one it names, that of its name or credentials, or its server's."""
    named = objects.endpoints.get(registration.get("endpoint")) or objects.endpoints.get(registration.name)
    if named is not None:
        return named
    auth = registration.get("outbound_auth")
    for endpoint in objects.endpoints.values():
        if auth and endpoint.get("outbound_auth") == auth:
            return endpoint
    for endpoint in objects.endpoints.values():
        contact = _contact(objects, endpoint, quiet=True)
        if contact is not None and contact.host.lower() == server.host.lower():
            return endpoint
    return None


def _endpoint(objects: _Objects, endpoint: Section) -> None:
    reader = objects.reader
    contact = _contact(objects, endpoint)
    if contact is None and not endpoint.get("auth"):
        reader.remark(
            endpoint.line, f"endpoint {endpoint.name[:60]} is left out: it has neither an address nor a password"
        )
        return
    kind = "inbound_registration" if contact is None else "outbound_trunk"
    found = reader.add(endpoint.name, kind, endpoint.line)
    if found is None:
        return
    allowed = _allowed(objects, endpoint)
    if contact is None:
        found.keys["enabled"] = False
        _media(objects, found, endpoint)
        _credentials(objects, found, endpoint.get("auth"), endpoint.line_of("auth"))
        found.settings.setdefault("username", endpoint.name)
        objects.used.update(aor.line for name in endpoint.get_all("aors") if (aor := objects.aors.get(name)))
        if allowed:
            found.keys["allow_from"] = allowed
        reader.remark(
            endpoint.line,
            f"{found.name}: registers to Asterisk: siperb connection enable {found.name} where it is a PBX, "
            f"siperb device add {found.name} where it is a phone",
        )
        return
    reader.server(found.settings, contact, endpoint.line, objects.transport_of(endpoint))
    _media(objects, found, endpoint)
    _credentials(objects, found, endpoint.get("outbound_auth"), endpoint.line_of("outbound_auth"))
    if "username" not in found.settings and contact.user:
        reader.remark(endpoint.line, f"user {contact.user[:60]} of the contact is not carried over: the number is sent")
    _from(found, endpoint)
    _proxy(objects, found, endpoint)
    found.keys["allow_from"] = allowed or [contact.host.strip("[]")]  # who is called there calls from there


def _contact(objects: _Objects, endpoint: Section, *, quiet: bool = False) -> Uri | None:
    """The fixed address of an endpoint, out of its aors."""
    for name in endpoint.get_all("aors"):
        aor = objects.aors.get(name)
        if aor is None:
            if not quiet:
                objects.reader.remark(endpoint.line_of("aors"), f"aor {name[:60]} is not in the file")
            continue
        contacts = aor.get_all("contact")
        if not quiet:
            objects.used.add(aor.line)
            if len(contacts) > 1:
                line = aor.line_of("contact")
                objects.reader.remark(line, "several contacts: the first counts, a DNS name with SRV leads to several")
        if contacts:
            return objects.reader.uri(contacts[0], aor.line_of("contact"), "contact")
    return None


def _credentials(objects: _Objects, found: Found, names: str, line: int) -> None:
    name = names.partition(",")[0].strip()
    if not name:
        return
    auth = objects.auths.get(name)
    if auth is None:
        objects.reader.remark(line, f"auth {name[:60]} is not in the file: set username and password by hand")
        return
    objects.used.add(auth.line)
    settings = found.settings
    user = auth.get("username")
    if user and "username" in settings and user != settings["username"]:
        settings["auth_username"] = user
    elif user:
        settings["username"] = user
    if auth.get("password"):
        settings["password"] = auth.get("password")
    kind = auth.get("auth_type").lower()
    if kind not in ("", "userpass", "digest"):
        text = f"auth_type {kind[:40]} is not carried over: the gateway needs the password itself"
        objects.reader.remark(auth.line_of("auth_type"), text)


def _allowed(objects: _Objects, endpoint: Section) -> list[str]:
    allowed: list[str] = []
    for identify in objects.identifies.get(endpoint.name, []):
        objects.used.add(identify.line)
        allowed += objects.reader.networks(identify.get_all("match")[:1000], identify.line_of("match"))
    return list(dict.fromkeys(allowed))


def _media(objects: _Objects, found: Found, endpoint: Section) -> None:
    objects.used.add(endpoint.line)
    names: list[str] = []
    for option in endpoint.options:
        items = [item.strip().lower() for item in re.split("[,|]", option.value)]
        if option.key == "disallow":
            names = [] if "all" in items else [name for name in names if name not in items]
        elif option.key == "allow":
            if "all" in items:
                names = []
            names += [item for item in items if item and item != "all" and not item.startswith("!")]
    codecs = objects.reader.codecs(names[:100], endpoint.line_of("allow"))
    if codecs:
        found.keys["codecs"] = codecs
    dtmf = endpoint.get("dtmf_mode") and objects.reader.dtmf(endpoint.get("dtmf_mode"), endpoint.line_of("dtmf_mode"))
    if dtmf:
        found.keys["dtmf"] = dtmf
    encryption, line = endpoint.get("media_encryption").lower(), endpoint.line_of("media_encryption")
    if encryption == "sdes" and found.settings.get("transport") == "tls":
        found.keys["srtp"] = "sdes"
    elif encryption not in ("", "no"):
        text = f"media_encryption = {encryption[:40]} is not carried over: the gateway has sdes, and over TLS only"
        objects.reader.remark(line, text)


def _from(found: Found, endpoint: Section) -> None:
    for key in ("from_user", "from_domain"):
        text = endpoint.get(key)
        if text and text not in (found.settings.get("username"), found.settings.get("server")):
            found.settings[key] = text


def _proxy(objects: _Objects, found: Found, section: Section) -> None:
    text = section.get("outbound_proxy")
    if text:
        uri = objects.reader.uri(text, section.line_of("outbound_proxy"), "outbound_proxy")
        if uri is not None:
            found.settings["outbound_proxy"] = uri.host_port


def _leftovers(objects: _Objects, sections: list[Section]) -> None:
    """What stands in the file and went nowhere: sections nobody used, and keys without a counterpart."""
    reader = objects.reader
    for section in sections:
        kind = section.get("type").lower()
        carried = _CARRIED.get(kind)
        if section.template or carried is None:
            continue
        if kind in ("auth", "aor", "identify", "transport") and section.line not in objects.used:
            if kind == "transport":
                text = "listeners are [[listen]] tables of the gateway"
            else:
                text = "no endpoint of the file uses it"
            reader.remark(section.line, f"[{section.name[:60]}] ({kind}) is not carried over: {text}")
            continue
        for option in section.options:
            if option.key not in carried:
                why = _WHY.get(option.key, "the gateway has no such setting")
                reader.remark(option.line, f"{option.key[:60]} = {option.value[:60]} is not carried over: {why}")
