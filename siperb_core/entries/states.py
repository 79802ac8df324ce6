"""The states of a config entry, and what leads from one to another (`lifecycle` goes through them)."""

from __future__ import annotations

from typing import Literal, TypeAlias

State: TypeAlias = Literal[
    "disabled", "setting_up", "loaded", "retry", "auth_failed", "config_error", "type_missing", "unloading"
]

TRANSITIONS: tuple[tuple[State, str, State], ...] = (
    ("setting_up", "the type is ready", "loaded"),
    ("setting_up", "ConnectionNotReady, a crash, or 60 s are over", "retry"),
    ("setting_up", "ConnectionAuthFailed", "auth_failed"),
    ("setting_up", "ConnectionConfigError, or the file is wrong", "config_error"),
    ("setting_up", "enabled = false", "disabled"),
    ("setting_up", "no plugin has the type", "type_missing"),
    ("loaded", "ConnectionNotReady, a crash, or the end", "retry"),
    ("loaded", "ConnectionAuthFailed", "auth_failed"),
    ("loaded", "ConnectionConfigError", "config_error"),
    ("loaded", "edit, restart or removal", "unloading"),
    ("retry", "back-off is over, or the PBX is back", "setting_up"),
    ("retry", "edit, restart or removal", "unloading"),
    ("auth_failed", "edit, restart or removal", "unloading"),
    ("config_error", "edit, restart or removal", "unloading"),
    ("disabled", "edit, restart or removal", "unloading"),
    ("type_missing", "edit, restart or removal", "unloading"),
    ("setting_up", "edit, restart or removal", "unloading"),
    ("unloading", "unloaded, and not removed", "setting_up"),
)
"""(state, event, next state). Every entry begins with `setting_up`; one that was removed ends with `unloading`."""
