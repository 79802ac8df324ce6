"""SIP (RFC 3261) as a pure library."""
