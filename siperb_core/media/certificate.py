"""The certificate of the gateway's DTLS: self-signed, made anew at every start, known to the peer by its fingerprint
(RFC 8122).
"""

from __future__ import annotations

import datetime
import secrets

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@attrs.frozen
class DtlsCertificate:
    """`pem` holds private key and certificate; `fingerprint` is (hash, value) as in a=fingerprint."""

    pem: str = attrs.field(repr=False)
    fingerprint: tuple[str, str]


def make_certificate(*, days: int = 365) -> DtlsCertificate:
    """Make an ECDSA P-256 key and a self-signed certificate under a random name.

    Valid since yesterday, as clocks differ.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, secrets.token_hex(16))])
    now = datetime.datetime.now(tz=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    return DtlsCertificate(pem.decode(), ("sha-256", certificate.fingerprint(hashes.SHA256()).hex(":").upper()))
