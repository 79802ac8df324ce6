"""`siperb show do-not-disturb`."""

from __future__ import annotations

from siperb_core.cli import DEFAULT_CONFIG, FINE, ConfigOption, JsonOption, ask, clock, print_json, table


def do_not_disturb(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """Users who are not to be disturbed, and since when."""
    rows = ask(config, "connection_feature_code.do_not_disturb")
    if json:
        print_json(rows)
    elif rows:
        shown = [{**row, "since": clock(row["since"])} for row in rows]
        print(table(shown, {"user": "USER", "since": "SINCE", "connection": "CONNECTION"}))
    else:
        print("Nobody has do-not-disturb on.")
    return FINE
