"""Which of the known formats a file is in, and reading it."""

from __future__ import annotations

import json

from siperb_core.entries.foreign.freeswitch import read_freeswitch
from siperb_core.entries.foreign.pjsip import read_pjsip
from siperb_core.entries.foreign.reading import ForeignError, Reading
from siperb_core.entries.foreign.siperb import read_siperb

MAX_FOREIGN = 4 << 20
"""Octets of a file that is looked at."""


def read_foreign(data: bytes) -> Reading:
    """Read a pjsip.conf, a FreeSWITCH gateway XML, or SIPERB's JSON. Raises ForeignError."""
    if len(data) > MAX_FOREIGN:
        raise ForeignError(f"it is larger than {MAX_FOREIGN >> 20} MiB: cut it to what describes connections")
    text = data.decode("utf-8-sig", "replace")
    begin = text.lstrip()[:1]
    if begin == "<":
        return read_freeswitch(data)
    if begin in ("{", "["):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            if begin == "{":
                raise ForeignError(f"it begins like JSON, but is not: {error}") from None
        else:
            return read_siperb(document)
    if "\0" in text:
        raise ForeignError("it is not text: give a pjsip.conf, a FreeSWITCH gateway XML or SIPERB's JSON")
    return read_pjsip(text)
