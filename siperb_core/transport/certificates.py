"""What a certificate says: for whom it is and how long it holds. Whether it is to be trusted is TLS's own business."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.x509.oid import NameOID

WARN_SECONDS = 14 * 86400.0
"""Before its end a certificate is warned about for so long."""
_MAX_FILE = 1 << 20
_MAX_NAMES = 50


@attrs.frozen
class Certificate:
    """Times are seconds since the epoch; `names` are those of the subject alternative name, else the common name."""

    names: tuple[str, ...]
    issuer: str
    not_before: float
    not_after: float
    self_signed: bool

    def days_left(self, now: float) -> float:
        """Until its end; negative when that is past."""
        return (self.not_after - now) / 86400

    def wrong(self, now: float) -> str:
        """What is wrong with its dates, as the end of a sentence; '' where nothing is, nor will be in 14 days."""
        if now < self.not_before:
            return f"holds from {_day(self.not_before)} on only: one of the clocks is wrong"
        if now > self.not_after:
            return f"has expired on {_day(self.not_after)}"
        if self.not_after - now < WARN_SECONDS:
            return f"expires on {_day(self.not_after)}, in {max(self.days_left(now), 0):.0f} days"
        return ""


def read_der(data: bytes) -> Certificate:
    """A certificate as it came over TLS. Raises ValueError."""
    return _facts(x509.load_der_x509_certificate(data))


def read_file(path: Path) -> Certificate:
    """The first certificate of a PEM file, which is the one that is shown. Raises OSError, ValueError."""
    with path.open("rb") as opened:
        data = opened.read(_MAX_FILE)
    return _facts(x509.load_pem_x509_certificates(data)[0])


def _facts(certificate: x509.Certificate) -> Certificate:
    names: list[str] = []
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        pass
    else:
        names = [str(name.value) for name in extension.value if isinstance(name, x509.DNSName | x509.IPAddress)][
            :_MAX_NAMES
        ]
    if not names:
        names = [str(item.value) for item in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return Certificate(
        tuple(names),
        certificate.issuer.rfc4514_string()[:200],
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
        certificate.issuer == certificate.subject,
    )


def _day(when: float) -> str:
    return datetime.fromtimestamp(when).astimezone().strftime("%Y-%m-%d")
