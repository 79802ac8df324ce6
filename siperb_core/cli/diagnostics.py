"""`siperb diagnostics NAME`: a connection as it can be shown to anybody."""

from __future__ import annotations

import json as encoder
from typing import Any

from siperb_core.cli.output import FINE
from siperb_core.cli.setup import DEFAULT_CONFIG, ConfigOption, ask


def diagnostics(name: str, *, config: ConfigOption = DEFAULT_CONFIG) -> int:
    """A connection of the running gateway as JSON, every secret taken out: to read, or to send to whoever helps."""
    dump: dict[str, Any] = ask(config, "diagnostics", {"name": name})
    print(encoder.dumps(dump, indent=2, ensure_ascii=False))
    return FINE
