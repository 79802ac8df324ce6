"""TLS contexts: our certificate, watched, for those who connect to us; verification of those we connect to."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import structlog

from siperb_core.transport.contract import TlsOptions

MAX_CONTEXTS = 64

log = structlog.get_logger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


class ServerCertificate:
    """The certificate chain and key on disk. A replaced file is used by the next handshake; one that cannot be used
    leaves the old in force.
    """

    def __init__(self, certificate: Path | None, key: Path | None) -> None:
        """Load the files; `key` may be in the same file as the certificate. Raises OSError, naming them."""
        if certificate is None:
            raise OSError("a certificate is needed: set `certificate` (and `key`) of this [[listen]]")
        self._certificate, self._key = certificate, key or certificate
        self._stamp = self._look()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                # Remembered first: a pair that does not match (the key is not written yet) is complained of once.
                self._stamp = stamp
                self._context = self._load()
                log.info("tls.certificate_replaced", certificate=str(self._certificate))
        except OSError as error:
            log.error("tls.certificate_not_replaced", certificate=str(self._certificate), error=str(error))
        return self._context

    def _look(self) -> _Stamp:
        stamps = []
        for path in (self._certificate, self._key):
            try:
                status = os.stat(path)
            except OSError:
                stamps.append((0, 0, 0))  # being replaced, or gone: loading it tells
            else:
                stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(stamps)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        try:
            # A key with a passphrase must not ask for it on the terminal.
            context.load_cert_chain(self._certificate, self._key, password=lambda: b"")
        except (OSError, ValueError) as error:
            why = error.strerror if not isinstance(error, ssl.SSLError) and isinstance(error, OSError) else error
            raise OSError(f"cannot use certificate {self._certificate} with key {self._key}: {why}") from error
        return context


class ClientContexts:
    """Contexts for connections we open, made once for each kind of trust: reading the system's certificates takes 20
    ms.
    """

    def __init__(self) -> None:
        self._contexts: dict[tuple[str, bool, int], ssl.SSLContext] = {}

    def get(self, options: TlsOptions) -> ssl.SSLContext:
        """The context for these options. Raises OSError where the file `ca` cannot be used. May block: call it in a
        thread.
        """
        try:
            stamp = os.stat(options.ca).st_mtime_ns if options.ca else 0
            key = (options.ca, options.verify, stamp)
            context = self._contexts.get(key)
            if context is None:
                context = ssl.create_default_context(cafile=options.ca or None)
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                context.options |= ssl.OP_NO_RENEGOTIATION
                if not options.verify:
                    context.check_hostname = False
                    context.verify_mode = ssl.CERT_NONE
                if len(self._contexts) >= MAX_CONTEXTS:
                    self._contexts.clear()
                self._contexts[key] = context
        except OSError as error:
            raise OSError(f"cannot use the trusted certificates of {options.ca or 'the system'}: {error}") from error
        return context
