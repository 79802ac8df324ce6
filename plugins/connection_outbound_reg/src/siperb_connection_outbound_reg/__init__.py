"""Connection type outbound_registration: the gateway registers to the PBX like a desk phone."""
