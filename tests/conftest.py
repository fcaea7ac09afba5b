"""Fixtures for all tests: the real models, for the tests that are marked `models`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nextn.errors import SourceError


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The default model; downloaded when it is missing."""
    from nextn.files.sources import resolve

    return resolve("smollm2").path


@pytest.fixture(scope="session")
def gemma3_path() -> Path:
    """The second model; downloaded only if NEXTN_TEST_ALL_MODELS=1 asks for it."""
    from nextn.files.sources import resolve

    try:
        return resolve("gemma3-270m", offline=os.environ.get("NEXTN_TEST_ALL_MODELS") != "1").path
    except SourceError as error:
        pytest.skip(str(error))
