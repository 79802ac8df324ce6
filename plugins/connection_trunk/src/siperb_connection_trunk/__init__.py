"""Connection type outbound_trunk: a static address with a mandatory allow list."""
