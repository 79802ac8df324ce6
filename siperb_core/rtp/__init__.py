"""RTP, RTCP and telephone-event as a pure library."""
