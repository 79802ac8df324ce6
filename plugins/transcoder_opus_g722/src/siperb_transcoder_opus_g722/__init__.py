"""Transcoders between Opus and G.722, PCMA, PCMU."""
