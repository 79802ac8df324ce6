"""SDP and offer/answer (RFC 4566, 3264) as a pure library."""
