"""Pure steps run on no event loop, so nothing is watched for blocking: that would cost more than the tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def nothing_blocks() -> None:
    """Stand in for the watch that the other tests need."""
