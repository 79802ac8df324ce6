"""flows over UDP, TCP, TLS and WebSocket on trio."""
