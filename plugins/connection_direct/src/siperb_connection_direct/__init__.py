"""Connection type direct: softphone to softphone inside the domain, without a PBX."""

from siperb_connection_direct.direct import Direct, DirectSettings
from siperb_connection_direct.plugin import DirectPlugin

__all__ = ["Direct", "DirectPlugin", "DirectSettings"]
