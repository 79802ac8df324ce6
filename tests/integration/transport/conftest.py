"""Fixtures of the transport tests."""

from __future__ import annotations

import pytest

from .ends import Inbox


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()
