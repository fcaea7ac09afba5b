from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest


@pytest.fixture(scope="module")
def many_cores() -> Iterator[None]:
    """More threads than this machine may have cores."""
    with patch("os.cpu_count", return_value=8):
        yield
