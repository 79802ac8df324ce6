"""Connection type inbound_registration: the PBX registers to the gateway with generated credentials."""
