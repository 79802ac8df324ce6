"""What to paste into the PBX, so that it registers to the gateway."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from siperb_core import GatewayConfig, with_port

_ALL = ("0.0.0.0", "::")

_PJSIP = """\
; Asterisk: pjsip.conf
[{name}]
type = registration
server_uri = sip:{address}{transport}
client_uri = sip:{username}@{domain}{transport}
outbound_auth = {name}
retry_interval = 30
forbidden_retry_interval = 300
expiration = 300
line = yes
endpoint = {name}

[{name}]
type = auth
auth_type = userpass
username = {username}
password = {password}

[{name}]
type = aor
contact = sip:{address}{transport}
qualify_frequency = 60

[{name}]
type = endpoint
context = from-siperb
disallow = all
allow = g722,alaw,ulaw
aors = {name}
outbound_auth = {name}
from_user = {username}
from_domain = {domain}
direct_media = no
rtp_symmetric = yes
trust_id_inbound = yes

[{name}]
type = identify
endpoint = {name}
match = {host}
"""

_FREESWITCH = """\
<!-- FreeSWITCH: conf/sip_profiles/external/{name}.xml -->
<include>
  <gateway name={name_xml}>
    <param name="username" value={username_xml}/>
    <param name="password" value={password_xml}/>
    <param name="realm" value={domain_xml}/>
    <param name="from-domain" value={domain_xml}/>
    <param name="proxy" value={address_xml}/>
    <param name="register" value="true"/>
    <param name="register-transport" value={protocol_xml}/>
    <param name="expire-seconds" value="300"/>
    <param name="retry-seconds" value="30"/>
  </gateway>
</include>
"""

_FREEPBX = """\
# FreePBX: Connectivity, Trunks, Add SIP (chan_pjsip) Trunk
General
  Trunk Name:            {name}
pjsip Settings, General
  Username:              {username}
  Auth username:         {username}
  Secret:                {password}
  Authentication:        Outbound
  Registration:          Send
  SIP Server:            {host}
  SIP Server Port:       {port}
  Transport:             0.0.0.0-{protocol}
pjsip Settings, Advanced
  From Domain:           {domain}
  From User:             {username}
  Client URI:            sip:{username}@{domain}
  Expiration:            300
  Qualify Frequency:     60
  Match (Permit):        {host}
  Support Path:          No
pjsip Settings, Codecs
  g722, alaw, ulaw
"""

_3CX = """\
# 3CX: Voice & Chat (SIP Trunks), Add Trunk, Generic
General
  Registrar/Server:      {host}, port {port}
  Outbound Proxy:        {host}, port {port}
  Type of Authentication: Register/Account based
  Authentication ID:     {username}
  Password:              {password}
  Main Trunk No:         {username}
Options
  Transport Protocol:    {protocol_upper}
  Re-Register Timeout:   300
  Codec Priority:        G722, G.711 A-law, G.711 U-law
Outbound Parameters
  From: User Part        {username}
  From: Host Part        {domain}
"""


def gateway_address(gateway: GatewayConfig) -> tuple[str, int, str]:
    """Host, port and transport a PBX reaches the gateway at: its own UDP, TCP or TLS listener, in this order."""
    host = gateway.gateway.external_address
    if host == "auto":
        host = gateway.gateway.domain
    for transport in ("udp", "tcp", "tls"):
        for listener in gateway.listen:
            if listener.transport == transport:
                bound = listener.bind[0]
                shown = bound if gateway.gateway.external_address == "auto" and bound not in _ALL else host
                return shown, listener.bind[1], transport
    return host, 5060, "udp"


def snippets(name: str, username: str, password: str, gateway: GatewayConfig) -> str:
    """Configuration for Asterisk, FreePBX, FreeSWITCH and 3CX."""
    host, port, transport = gateway_address(gateway)
    values = {
        "name": name,
        "username": username,
        "password": password,
        "domain": gateway.gateway.domain,
        "host": host,
        "address": with_port(host, port),
        "transport": "" if transport == "udp" else rf"\;transport={transport}",
        "port": str(port),
        "protocol": transport,
        "protocol_upper": transport.upper(),
    }
    escaped = {f"{key}_xml": quoteattr(value) for key, value in values.items()}
    texts = (_PJSIP, _FREEPBX, _FREESWITCH, _3CX)
    return "\n".join(text.format(**values, **escaped) for text in texts)
